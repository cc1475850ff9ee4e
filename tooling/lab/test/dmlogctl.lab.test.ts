import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { disk, type Machine, regionsThatDiffer } from '../src/index.js';
import { startSingled } from '../src/singled.js';
import { useLab } from './support.js';

/** dmlogctl as an operator uses it: on a real kernel's mirror, the file system mounted. */
const lab = useLab();

const DMLOGCTL = fileURLToPath(new URL('../../../apps/dmlogctl/dist/cli.cjs', import.meta.url));
const REGION_SECTORS = 1024;
const REGION_BYTES = REGION_SECTORS * 512;
const REGIONS = 32;
/** The file system ends before the last region: nobody writes there, and only a resync would copy it. */
const CANARY = REGIONS - 1;

const ctl = (machine: Machine, command: string, check = true) =>
  machine.run(`node ${DMLOGCTL} ${command}`, { check });

describe('dmlogctl', () => {
  it('makes a mirror, moves it between the logs of kernel and daemon under a mounted file system, and removes it', async () => {
    const disks = { leg0: disk('16M'), leg1: disk('16M'), log: disk('64K') };
    disks.leg0.randomize(1);
    const machine = await lab().boot({ disks });
    const singled = await startSingled(machine);
    const [leg0, leg1, log] = [machine.device('leg0'), machine.device('leg1'), machine.device('log')];
    const create = `mirror create m --leg ${leg0} ${leg1} --log ${log} --region-size 512K --uuid LVM-ctl`;
    await ctl(machine, create);
    await machine.waitInSync('m');
    disks.leg1.write(CANARY * REGION_BYTES + 100, Buffer.from('nobody copies this'));
    await machine.run(`mkfs.ext4 -q -b 4096 /dev/mapper/m ${(CANARY * REGION_BYTES) / 4096}
      mkdir -p /mnt/m && mount /dev/mapper/m /mnt/m`);
    const write = (name: string) =>
      `dd if=/dev/urandom of=/mnt/m/${name} bs=64k count=8 conv=fsync status=none`;
    await machine.run(write('a'));
    const inSyncAfter = async (command: string) => {
      await ctl(machine, command);
      expect(await machine.dmStatus('m'), command).toMatchObject({
        inSyncCount: REGIONS,
        regionCount: REGIONS,
      });
    };
    // The daemon's log to the kernel's and back: whatever is in sync stays so, and nothing is copied.
    await inSyncAfter('mirror handover m');
    expect((await machine.run('dmsetup table m')).stdout).toContain(' mirror disk 2 ');
    await machine.run(write('b'));
    await inSyncAfter('mirror attach m --uuid LVM-again');
    expect((await machine.run('dmsetup table m')).stdout).toContain(' mirror userspace 4 LVM-again disk ');
    await machine.run(write('c'));

    await inSyncAfter('refresh m');
    // The lab's machines have no network namespaces of their own, but the modules and rights.
    expect((await ctl(machine, 'doctor', false)).stdout).not.toContain('problem');

    await machine.run('umount /mnt/m && fsck.ext4 -fn /dev/mapper/m');
    // The kernel clears regions a moment after their last write; what it has cleared is given up at once.
    await machine.run(`for i in $(seq 30); do
        node ${DMLOGCTL} flush m && node ${DMLOGCTL} verify ${log} --clean --regions ${REGIONS} && exit 0
        sleep 1
      done
      exit 1`);
    expect((await ctl(machine, `inspect ${log} --map`)).stdout).toContain('█'.repeat(REGIONS));
    // The log of a live mirror is in memory: what is written below it would be lost.
    const live = await ctl(machine, `repair ${log} --all-dirty --write`, false);
    expect(live).toMatchObject({ code: 71, stderr: expect.stringContaining('in use by m') });
    await ctl(machine, 'mirror remove m');
    expect((await singled.status()).logs).toEqual([]);
    // Dirty by repair: the kernel copies these regions, and no others.
    const repaired = await ctl(machine, `repair ${log} --dirty 3-5 --write --backup /tmp/before`);
    expect(repaired.stdout).toContain('3, of which 3 were clean: 3-5');
    disks.leg1.write(4 * REGION_BYTES + 100, Buffer.from('copied'));
    await ctl(machine, create);
    await machine.waitInSync('m');
    await ctl(machine, 'mirror remove m');
    await singled.stop();
    await machine.halt();
    expect(regionsThatDiffer(disks.leg0, disks.leg1, REGION_BYTES, REGIONS)).toEqual([CANARY]);
  });
});
