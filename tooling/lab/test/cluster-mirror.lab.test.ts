import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CLUSTERD } from '../src/clusterd.js';
import { bootCluster, type Cluster, disk, legsEqual } from '../src/index.js';
import { startSingled } from '../src/singled.js';
import { BLOCK_BYTES, interleaved, type Writer } from './block-writer.js';
import { KERNEL_ERRORS, Rig, SharedMirror, timed } from './cluster-rig.js';
import { useLab } from './support.js';

/** clusterd on two machines with shared legs and log disks, and real corosync: one mirror, live on both at once. */
const lab = useLab();

const REGION_SECTORS = 32;
/** Four batches of leases: both nodes get some. */
const REGIONS = 256;
const LEG = '4M';
const BOTH = [1, 2];

describe('a mirror on two machines with clusterd', () => {
  const shared = (size: string) => disk(size, { shared: true });
  const disks = {
    disk0: shared(LEG),
    disk1: shared(LEG),
    core0: shared(LEG),
    core1: shared(LEG),
    log: shared('1M'),
  };
  const shape = { regionSectors: REGION_SECTORS, regions: REGIONS };
  const onDisk = { leg0: disks.disk0, leg1: disks.disk1, log: disks.log };
  const mirrors = [
    new SharedMirror({ ...shape, name: 'disk', disks: onDisk }),
    new SharedMirror({ ...shape, name: 'core', disks: { leg0: disks.core0, leg1: disks.core1 } }),
  ];
  let cluster: Cluster;
  let rig: Rig;

  beforeAll(async () => {
    for (const [seed, leg] of [disks.disk0, disks.disk1, disks.core0, disks.core1].entries())
      leg.randomize(seed + 1);
    // The first goes on alone, the second does not.
    cluster = await bootCluster(lab(), { machines: 2, disks, votes: [2, 1] });
    rig = await Rig.start(cluster);
  });
  afterAll(() => cluster?.powerCut());

  /** Writes on the given nodes to both mirrors: every other block is a node's own, of which it comes to so many. */
  const write = (ids: readonly number[], blocks = Infinity): Promise<Writer[]> =>
    Promise.all(
      mirrors.flatMap((mirror) =>
        ids.map((id) => {
          const share = interleaved(mirror.blocks, BOTH.length, id);
          return rig.write(id, mirror, { ...share, count: Math.min(share.count, blocks) });
        }),
      ),
    );
  const more = (writers: readonly Writer[], count: number) =>
    Promise.all(writers.map((writer) => writer.more(count)));
  const end = (writers: readonly Writer[]) => Promise.all(writers.map((writer) => writer.end()));
  const of = (id: number, writers: readonly Writer[]) => writers.filter(({ nodeId }) => nodeId === id);
  const recovered = (id: number) => Promise.all(mirrors.map((mirror) => rig.recovered([id], mirror)));
  /** Legs equal, and every block as it was acknowledged. */
  const expectWhole = () => {
    for (const mirror of mirrors) {
      expect(legsEqual(mirror.disks.leg0, mirror.disks.leg1)).toBe(true);
      expect(rig.lostWrites(mirror)).toEqual([]);
    }
  };

  it('is made by both and resynced once for both', async () => {
    await Promise.all(
      BOTH.map(async (id) => {
        for (const mirror of mirrors) await mirror.create(rig.machine(id));
      }),
    );
    for (const mirror of mirrors) {
      for (const id of BOTH) await rig.machine(id).waitInSync(mirror.name);
      const shares = await Promise.all(BOTH.map((id) => rig.recovered([id], mirror)));
      console.log(`${mirror.name}: recovered by node 1 and 2: ${shares.join(' and ')}`);
      expect((shares[0] as number) + (shares[1] as number)).toBe(REGIONS);
    }
    expectWhole();
    const { stdout } = await rig.machine(1).run(`node ${CLUSTERD} status`);
    expect(stdout).toMatch(/LVM-disk .*: node 1 in ring 1\.\d+, quorate, active, mirror live, writer 1/);
    // One log daemon per host.
    await expect(startSingled(rig.machine(1))).rejects.toThrow(/another log daemon/);
  });

  it('takes writes of both at the same time', async () => {
    const writers = await write(BOTH);
    await more(writers, 20);
    await end(writers);
    expectWhole();
    for (const mirror of mirrors) {
      // What one has written the other reads.
      for (const writer of writers.filter((one) => one.mirror === mirror.name)) {
        const { block, text } = writer.write(0);
        const { stdout } = await rig
          .machine(3 - writer.nodeId)
          .run(`dd if=${mirror.device} bs=${BLOCK_BYTES} skip=${block} count=1 iflag=direct status=none`);
        expect(stdout.slice(0, text.length)).toBe(text);
      }
      for (const id of BOTH)
        expect(await rig.machine(id).dmStatus(mirror.name)).toMatchObject({
          inSyncCount: REGIONS,
          legHealth: 'AA',
        });
    }
  });

  it('loses nothing when a daemon is killed while its machine writes, and started again', async () => {
    const before = await recovered(2);
    const writers = await write(BOTH);
    await more(writers, 5);
    await rig.daemon(2).stop('SIGKILL');
    await timed('the other goes on', more(of(1, writers), 5));
    await timed('daemon started', rig.startDaemon(2));
    await timed('both write', more(writers, 5));
    await end(writers);
    for (const mirror of mirrors) {
      await rig.agree(BOTH, mirror);
      expect(await rig.machine(2).dmStatus(mirror.name)).toMatchObject({
        inSyncCount: REGIONS,
        legHealth: 'AA',
      });
    }
    expectWhole();
    expect(await recovered(2)).toEqual(before);
  });

  it('resyncs what a dead machine was writing, and nothing else, when the other is reloaded', async () => {
    // Whole again after the kill of the daemon, which has its tables reloaded: only what is written is marked.
    for (const mirror of mirrors) await rig.settled([1], mirror);
    const before = await recovered(1);
    const writers = await write(BOTH, REGIONS / 8);
    await more(writers, 10);
    await cluster.node(2).kill();
    // What its last write leaves behind if the power goes between the two legs. Whatever it wrote within the last seconds must be taken for that.
    for (const writer of of(2, writers)) {
      const mirror = mirrors.find(({ name }) => name === writer.mirror);
      const { block } = writer.write(writer.count - 1);
      mirror?.disks.leg1.write(block * BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES, 'torn'));
    }
    await timed('the other goes on', more(of(1, writers), 10));
    await timed('load ends', end(of(1, writers)));
    for (const mirror of mirrors) {
      await rig.agree([1], mirror);
      await rig.settled([1], mirror);
    }
    expectWhole();
    for (const [index, count] of (await recovered(1)).entries()) {
      const more = count - (before[index] as number);
      console.log(`${mirrors[index]?.name}: ${more} regions recovered`);
      expect(more).toBeGreaterThanOrEqual(1);
      expect(more).toBeLessThanOrEqual(REGIONS / 8);
    }
  });

  it('takes the machine back, which finds all in sync', async () => {
    const writers = await write([1]);
    await rig.revive(2);
    for (const mirror of mirrors) {
      await mirror.create(rig.machine(2));
      expect(await rig.machine(2).waitInSync(mirror.name)).toMatchObject({ legHealth: 'AA' });
    }
    await more(writers, 3);
    await end(writers);
    for (const mirror of mirrors) {
      expect(await rig.recovered([2], mirror)).toBe(0);
      for (const id of BOTH) await rig.machine(id).dmRemove(mirror.name);
    }
    expectWhole();
    for (const id of BOTH) {
      expect((await rig.daemon(id).peek()).logs).toEqual([]);
      expect(await rig.machine(id).dmesg()).not.toMatch(KERNEL_ERRORS);
    }
  });
});
