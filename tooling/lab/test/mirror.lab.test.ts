import { describe, expect, it } from 'vitest';
import { type Disk, disk, legsEqual, type Machine, mirrorTable, regionsThatDiffer } from '../src/index.js';
import { DISK_LOG_MAGIC, decodeDiskLog, useLab } from './support.js';

/** The kernel's own disk log: what a daemon of ours is measured against, in the same lab by the same steps. */
const lab = useLab();

const REGION_SECTORS = 1024;
const REGION_BYTES = REGION_SECTORS * 512;
/** Far more than the host needs to see the difference and cut, on a loaded machine too. */
const LEG_DELAY_MS = 20_000;

function freshDisks() {
  const disks = { leg0: disk('16M'), leg1: disk('16M'), log: disk('1M') };
  disks.leg0.randomize(1);
  disks.leg1.randomize(2);
  return { disks, regionCount: disks.leg0.sectors / REGION_SECTORS };
}

function diskLogTable(machine: Machine, leg: Disk, leg1 = machine.device('leg1')): string {
  return mirrorTable({
    lengthSectors: leg.sectors,
    log: { kind: 'disk', args: [machine.device('log'), REGION_SECTORS] },
    legs: [machine.device('leg0'), leg1],
    features: ['handle_errors'],
  });
}

describe("a mirror with the kernel's disk log", () => {
  it('resyncs new legs, takes the first for the truth, and writes log format 2', async () => {
    const { disks, regionCount } = freshDisks();
    const before = disks.leg0.read();
    expect(regionsThatDiffer(disks.leg0, disks.leg1, REGION_BYTES, regionCount).length).toBe(regionCount);

    const machine = await lab().boot({ disks });
    await machine.dmCreate('m', diskLogTable(machine, disks.leg0));
    const status = await machine.waitInSync('m');
    expect(status).toMatchObject({ regionCount, inSyncCount: regionCount, legHealth: 'AA' });
    expect(status.log).toMatch(/^disk \d+:\d+ A$/);
    await machine.dmRemove('m');
    await machine.halt();

    expect(legsEqual(disks.leg0, disks.leg1)).toBe(true);
    expect(disks.leg1.read().equals(before)).toBe(true);
    const image = decodeDiskLog(disks.log.read(), regionCount);
    expect(image).toEqual({ magic: DISK_LOG_MAGIC, version: 2, regionCount, dirtyRegions: [] });
  });

  it('after a power cut during writes resyncs only what was dirty, and the legs are equal again', async () => {
    const { disks, regionCount } = freshDisks();
    const first = await lab().boot({ disks, modules: ['dm-delay'] });
    const leg1 = first.device('leg1');
    await first.dmCreate('slow', `0 ${disks.leg1.sectors} linear ${leg1} 0`);
    await first.dmCreate('m', diskLogTable(first, disks.leg0, '/dev/mapper/slow'));
    await first.waitInSync('m');
    // Writes now reach the second leg seconds after the first: the cut falls between the two.
    await first.dmSuspend('slow');
    await first.dmReload('slow', `0 ${disks.leg1.sectors} delay ${leg1} 0 0 ${leg1} 0 ${LEG_DELAY_MS}`);
    await first.dmResume('slow');
    const written = [3, 4, 17, 30];
    for (const region of written) {
      const seek = (region * REGION_BYTES) / 4096;
      await first.start(`dd if=/dev/urandom of=/dev/mapper/m bs=4096 count=8 seek=${seek} oflag=direct`);
    }
    const differing = () => regionsThatDiffer(disks.leg0, disks.leg1, REGION_BYTES, regionCount);
    await expect.poll(differing, { timeout: 30_000 }).toEqual(written);
    await first.powerCut();

    // The promise of a dirty log: whatever differs is marked on stable media.
    expect(differing()).toEqual(written);
    expect(decodeDiskLog(disks.log.read(), regionCount).dirtyRegions).toEqual(written);

    // A difference in a clean region stays: clean regions are not copied, which is what a dirty log is for.
    const canary = 10;
    disks.leg1.write(canary * REGION_BYTES + 100_000, Buffer.from('canary'));
    const second = await lab().boot({ disks });
    await second.dmCreate('m', diskLogTable(second, disks.leg0));
    await second.waitInSync('m');
    await second.dmRemove('m');
    await second.halt();
    expect(differing()).toEqual([canary]);
    expect(decodeDiskLog(disks.log.read(), regionCount).dirtyRegions).toEqual([]);
  });

  it('survives an exchange of tables under a file system, and a failing leg is told', async () => {
    const { disks, regionCount } = freshDisks();
    const machine = await lab().boot({ disks, modules: ['dm-flakey'] });
    const leg1 = machine.device('leg1');
    await machine.dmCreate('flaky', `0 ${disks.leg1.sectors} linear ${leg1} 0`);
    const table = (logArgs: readonly (string | number)[]) =>
      mirrorTable({
        lengthSectors: disks.leg0.sectors,
        log: { kind: 'disk', args: logArgs },
        legs: [machine.device('leg0'), '/dev/mapper/flaky'],
        features: ['handle_errors'],
      });
    await machine.dmCreate('m', table([machine.device('log'), REGION_SECTORS]));
    await machine.waitInSync('m');
    await machine.run(
      'mkfs.ext4 -q /dev/mapper/m && mkdir -p /mnt/m && mount /dev/mapper/m /mnt/m && seq 1 5000 > /mnt/m/numbers',
    );
    await machine.dmReload('m', table([machine.device('log'), REGION_SECTORS]));
    await machine.dmSuspend('m');
    await machine.dmResume('m');
    expect(await machine.waitInSync('m')).toMatchObject({ regionCount, legHealth: 'AA' });
    expect(
      (await machine.run('tail -1 /mnt/m/numbers; umount /mnt/m && fsck.ext4 -fn /dev/mapper/m')).stdout,
    ).toMatch(/^5000\n/);
    // From now on writes to the second leg fail.
    await machine.dmSuspend('flaky');
    await machine.dmReload('flaky', `0 ${disks.leg1.sectors} flakey ${leg1} 0 0 60 1 error_writes`);
    await machine.dmResume('flaky');
    await machine
      .run('dd if=/dev/urandom of=/dev/mapper/m bs=4096 count=1 seek=7 oflag=direct', {
        check: false,
        timeoutMs: 5000,
      })
      .catch(() => {});
    await expect.poll(async () => (await machine.dmStatus('m')).legHealth).toBe('AD');
    await machine.powerCut();
  });

  it('passes a fio verify run', async () => {
    const { disks } = freshDisks();
    const machine = await lab().boot({ disks });
    await machine.dmCreate('m', diskLogTable(machine, disks.leg0));
    // Not waited for: recovery and writes compete, which is the interesting time.
    const job =
      'fio --name=v --filename=/dev/mapper/m --direct=1 --rw=randwrite --bs=4k --size=16m --io_size=4m --randseed=7 ' +
      '--ioengine=libaio --iodepth=8 --verify=crc32c --do_verify=1 --verify_fatal=1 --thread --output-format=json';
    const { stdout } = await machine.run(job, { timeoutMs: 120_000 });
    const result = JSON.parse(stdout.slice(stdout.indexOf('{'))) as {
      jobs: [{ error: number; write: { total_ios: number } }];
    };
    expect(result.jobs[0].error).toBe(0);
    expect(result.jobs[0].write.total_ios).toBeGreaterThanOrEqual(1024);
    await machine.waitInSync('m');
    await machine.dmRemove('m');
    await machine.halt();
    expect(legsEqual(disks.leg0, disks.leg1)).toBe(true);
  });
});
