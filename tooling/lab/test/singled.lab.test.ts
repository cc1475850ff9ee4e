import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { disk, type Lab, legsEqual, mirrorTable, openLab } from '../src/index.js';
import { startSingled } from '../src/singled.js';

let lab: Lab;
beforeAll(async () => {
  lab = await openLab();
});
afterAll(() => lab.close());

const SECTORS = 32_768; // 16 MiB in 32 regions of 512 KiB

describe.each(['core', 'disk'])('a mirror on our %s log', (type) => {
  it('resyncs fully, takes writes and reads, shows status, is removed, and its legs are equal', async () => {
    const disks = { leg0: disk('16M'), leg1: disk('16M'), log: disk('1M') };
    disks.leg0.randomize(1);
    disks.leg1.randomize(2);
    const machine = await lab.boot({ disks });
    const singled = await startSingled(machine);
    const args = type === 'disk' ? [machine.device('log'), 1024] : [1024];
    const table = mirrorTable({
      lengthSectors: SECTORS,
      log: { kind: 'userspace', uuid: 'LVM-test', type, args },
      legs: [machine.device('leg0'), machine.device('leg1')],
    });
    await machine.dmCreate('m', table);
    const status = await machine.waitInSync('m');
    expect(status.legHealth).toBe('AA');
    expect(status.log).toMatch(type === 'disk' ? /^disk \d+:\d+ A$/ : /^core$/);
    await machine.run('dd if=/dev/urandom of=/dev/mapper/m bs=64k count=64 seek=17 oflag=direct');
    await machine.run('dd if=/dev/mapper/m of=/dev/null bs=64k count=32 iflag=direct');
    expect((await singled.status()).logs).toMatchObject([
      { uuid: 'LVM-test', type, state: 'live', inSyncCount: 32 },
    ]);
    await machine.dmRemove('m');
    expect((await singled.status()).logs).toEqual([]);
    await singled.stop();
    await machine.halt();
    expect(legsEqual(disks.leg0, disks.leg1)).toBe(true);
  });
});
