import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootCluster, type Cluster, disk, legsEqual, regionsThatDiffer } from '../src/index.js';
import { BLOCK_BYTES, type Writer } from './block-writer.js';
import { holds, KERNEL_COMPLAINTS, Rig, SharedMirror, timed, WAIT } from './cluster-rig.js';
import { useLab } from './support.js';

/**
 * Three machines with clusterd, and deaths at the worst moments. A `linear` device under each leg and log can be made to wait on one machine: then its kernel
 * has marked a region and is writing it for as long as the scenario likes.
 */
const lab = useLab();

const REGION_SECTORS = 32;
const REGION_BLOCKS = (REGION_SECTORS * 512) / BLOCK_BYTES;
const REGIONS = 2048;
const LEG = '32M';
/** Cleared regions are given up soon, so that the image shows who has marked what. */
const DAEMON = { args: ['--lazy-clear-ms', '100'] };

describe('a mirror on three machines, some of which die', () => {
  const shared = (size: string) => disk(size, { shared: true });
  const disks = { leg0: shared(LEG), leg1: shared(LEG), log: shared('1M') };
  const mirror = new SharedMirror({
    name: 'm',
    disks,
    regionSectors: REGION_SECTORS,
    regions: REGIONS,
    // The legs are equal: zeros.
    nosync: true,
    holdable: true,
  });
  let cluster: Cluster;
  let rig: Rig;

  beforeAll(async () => {
    cluster = await bootCluster(lab(), { machines: 3, disks });
    rig = await Rig.start(cluster, DAEMON);
    for (const id of [2, 3]) await mirror.create(rig.machine(id));
  });
  afterAll(() => cluster?.powerCut());

  /** One write of this node to its own block of the region. */
  const writeRegion = (id: number, region: number) =>
    rig.write(id, mirror, { first: region * REGION_BLOCKS + id, step: 1, count: 1 }, 1);
  /** The kernel has let the write go to this leg. */
  const isOn = (leg: 'leg0' | 'leg1', writer: Writer, index = 0) => {
    const { block, text } = writer.write(index);
    return holds(disks[leg].read(block * BLOCK_BYTES, BLOCK_BYTES), text);
  };
  const untilOn = (leg: 'leg0' | 'leg1', writer: Writer) =>
    expect.poll(() => isOn(leg, writer), WAIT).toBe(true);
  const untilMarks = (seenBy: number, of: number, count: number) =>
    expect.poll(() => rig.marks(seenBy, mirror, of), WAIT).toBe(count);
  const untilDirty = (regions: readonly number[]) =>
    expect.poll(() => mirror.dirtyOnImage(), WAIT).toEqual(regions);
  const expectNoComplaints = async (ids: readonly number[]) => {
    for (const id of ids) expect(await rig.machine(id).dmesg()).not.toMatch(KERNEL_COMPLAINTS);
  };

  it('keeps a region that two nodes write dirty until the second has finished, whoever joins, leaves and dies meanwhile', async () => {
    const region = 500;
    for (const id of [2, 3]) await mirror.hold(rig.machine(id), 'leg1');
    const [two, three] = [await writeRegion(2, region), await writeRegion(3, region)];
    for (const writer of [two, three]) await untilOn('leg0', writer);
    // Both write, and the legs differ: whoever reads the image now must find the region dirty.
    expect(mirror.dirtyOnImage()).toEqual([region]);
    expect(regionsThatDiffer(disks.leg0, disks.leg1, mirror.regionBytes, REGIONS)).toEqual([region]);
    for (const of of [2, 3]) for (const seenBy of [2, 3]) await untilMarks(seenBy, of, 1);

    /** Another region, marked and cleared by node 2: had `region` been taken for clean at any time before, the image would say so by the end of this. */
    const expectStillDirty = async (another: number) => {
      const writer = await writeRegion(2, another);
      await writer.done();
      await untilMarks(2, 2, 0);
      await untilDirty([region]);
      for (const seenBy of [2, 3]) expect(await rig.marks(seenBy, mirror, 3)).toBe(1);
    };
    await mirror.letGo(rig.machine(2), 'leg1');
    await two.done();
    await untilMarks(3, 2, 0);
    await expectStillDirty(1);

    // The lowest node joins and becomes the writer.
    await mirror.create(rig.machine(1));
    await rig.agree([1, 2, 3], mirror);
    // It writes there, too.
    const one = await writeRegion(1, region);
    await one.done();
    await untilMarks(2, 1, 0);
    await expectStillDirty(2);
    expect(await rig.marks(1, mirror, 3)).toBe(1);

    // It leaves in good order, and joins again.
    await rig.machine(1).dmRemove(mirror.name);
    await rig.agree([2, 3], mirror);
    await expectStillDirty(3);
    await mirror.create(rig.machine(1));
    await rig.agree([1, 2, 3], mirror);

    // It dies as the writer of the image, while a flush of node 2 waits for it.
    await mirror.hold(rig.machine(1), 'log');
    await mirror.hold(rig.machine(2), 'leg1');
    const another = 600;
    const flushing = await writeRegion(2, another);
    await untilMarks(1, 2, 1);
    expect(mirror.dirtyOnImage()).toEqual([region]);
    expect(isOn('leg0', flushing)).toBe(false);
    await cluster.node(1).kill();
    // The next writer answers it: the write is under way, and on the image.
    await timed('the flush was answered', untilOn('leg0', flushing));
    expect(mirror.dirtyOnImage()).toEqual([region, another]);
    await mirror.letGo(rig.machine(2), 'leg1');
    await flushing.done();
    await rig.agree([2, 3], mirror);
    await expectStillDirty(4);

    await mirror.letGo(rig.machine(3), 'leg1');
    await three.done();
    await untilMarks(2, 3, 0);
    await untilDirty([]);
    expect(legsEqual(disks.leg0, disks.leg1)).toBe(true);
    expect(rig.lostWrites(mirror)).toEqual([]);
    await expectNoComplaints([2, 3]);
  });

  it('resyncs what a dead node was writing, and nothing else, under a mounted file system', async () => {
    await timed('booted again', rig.revive(1));
    await mirror.create(rig.machine(1));
    await rig.agree([1, 2, 3], mirror);
    const [one, two] = [rig.machine(1), rig.machine(2)];
    const before = await rig.recovered([1, 2], mirror);
    // The file system has most of the second half.
    const [from, length] = [(REGIONS / 2) * REGION_SECTORS, (REGIONS / 2 - 10) * REGION_SECTORS];
    const fileSystem = `0 ${length} linear ${mirror.device} ${from}`;
    await two.dmCreate('fs', fileSystem);
    await two.run('mkfs.ext4 -q -b 4096 /dev/mapper/fs && mkdir -p /mnt/fs && mount /dev/mapper/fs /mnt/fs');
    const files = await two.start(
      `sh -c 'n=0; while [ ! -e /run/tmp/enough ]; do n=$((n + 1)); head -c 6000 /dev/urandom >/mnt/fs/$((n % 40)); (cd /mnt/fs; md5sum $((n % 40))) >/run/tmp/sum; sync -f /mnt/fs; echo file $n; done'`,
    );
    const fileCount = () => files.output().split('file').length - 1;
    const moreFiles = async (count: number) => {
      const goal = fileCount() + count;
      await expect.poll(() => fileCount() >= goal || !files.running, WAIT).toBe(true);
      expect(files.running, files.output()).toBe(true);
    };
    // Raw writes in the first half, of both in the same regions.
    const survivor = await rig.write(1, mirror, { first: 1, step: 7 * REGION_BLOCKS, count: 140 });
    const victim = await rig.write(3, mirror, { first: 3, step: 7 * REGION_BLOCKS, count: 140 });
    await Promise.all([moreFiles(5), survivor.more(10), victim.more(30)]);
    // A difference where nobody writes: found by whoever copies more than must be.
    const canary = { at: (REGIONS - 1) * mirror.regionBytes, bytes: Buffer.alloc(BLOCK_BYTES, 'canary') };

    // The node dies between the two legs of a write.
    await mirror.hold(rig.machine(3), 'leg1');
    await expect.poll(() => isOn('leg0', victim, victim.count), WAIT).toBe(true);
    const torn = mirror.regionOf(victim.write(victim.count).block);
    disks.leg1.write(canary.at, canary.bytes);
    expect(mirror.dirtyOnImage()).toContain(torn);
    const marked = (await rig.marks(1, mirror, 3)) ?? 0;
    expect(marked).toBeGreaterThan(0);
    const killed = performance.now();
    await cluster.node(3).kill();
    await Promise.all([moreFiles(3), survivor.more(3)]);
    await rig.joined([1, 2], mirror);
    const count = async (what: 'needReload' | 'staleCount') => {
      const value = (await rig.status(1, mirror))?.[what];
      return typeof value === 'number' ? value : value?.length;
    };
    const passed = (what: string) =>
      console.log(`${what} ${(performance.now() - killed).toFixed(0)} ms after the power went`);
    await expect.poll(() => count('needReload'), WAIT).toBe(0);
    passed('tables reloaded');
    await expect.poll(() => count('staleCount'), WAIT).toBe(0);
    for (const machine of [one, two]) await machine.waitInSync(mirror.name);
    passed('in sync');
    await Promise.all([moreFiles(3), survivor.more(3)]);

    await two.run('touch /run/tmp/enough');
    expect(await files.exited, files.output()).toBe(0);
    await survivor.end();
    await two.run(`set -e; cd /mnt/fs; md5sum -c /run/tmp/sum; md5sum [0-9]* | sort >/run/tmp/all
      cd /; umount /mnt/fs; fsck.ext4 -fn /dev/mapper/fs; dmsetup remove fs`);
    const recovered = (await rig.recovered([1, 2], mirror)) - before;
    console.log(`marked by the dead node: ${marked}, recovered: ${recovered}`);
    expect(recovered).toBeGreaterThanOrEqual(1);
    expect(recovered).toBeLessThanOrEqual(marked);
    expect(regionsThatDiffer(disks.leg0, disks.leg1, mirror.regionBytes, REGIONS)).toEqual([REGIONS - 1]);
    disks.leg1.write(canary.at, disks.leg0.read(canary.at, BLOCK_BYTES));
    expect(rig.lostWrites(mirror)).toEqual([]);

    // The other survivor reads the same.
    await one.dmCreate('fs', fileSystem);
    const read =
      'mkdir -p /mnt/fs && mount -o ro,noload /dev/mapper/fs /mnt/fs && cd /mnt/fs && md5sum [0-9]* | sort';
    expect((await one.run(read)).stdout).toBe((await two.run('cat /run/tmp/all')).stdout);
    await one.run('umount /mnt/fs; dmsetup remove fs');
    await rig.settled([1, 2], mirror);
    await untilDirty([]);
    expect(legsEqual(disks.leg0, disks.leg1)).toBe(true);
    await expectNoComplaints([1, 2]);
  });
});
