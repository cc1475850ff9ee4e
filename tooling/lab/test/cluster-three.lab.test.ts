import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootCluster, type Cluster, legsEqual } from '../src/index.js';
import { interleaved, type Writer } from './block-writer.js';
import {
  diskAndCore,
  KERNEL_COMPLAINTS,
  KERNEL_ERRORS,
  Rig,
  type SharedMirror,
  timed,
  WAIT,
} from './cluster-rig.js';
import { useLab } from './support.js';

/** Three machines with clusterd, on real corosync: one mirror of each kind, live on all of them at once. Nobody dies here. */
const lab = useLab();

const REGION_SECTORS = 32;
/** A resync of several seconds. */
const REGIONS = 1024;
const LEG = '16M';
const ALL = [1, 2, 3] as const;

describe('a mirror on three machines with clusterd', () => {
  const { disks, mirrors } = diskAndCore(LEG, { regionSectors: REGION_SECTORS, regions: REGIONS });
  let cluster: Cluster;
  let rig: Rig;

  beforeAll(async () => {
    for (const [seed, leg] of [disks.disk0, disks.disk1, disks.core0, disks.core1].entries())
      leg.randomize(seed + 1);
    cluster = await bootCluster(lab(), { machines: 3, disks });
    rig = await Rig.start(cluster);
  });
  afterAll(() => cluster?.powerCut());

  const writeTo = (mirror: SharedMirror, id: number): Promise<Writer> =>
    rig.write(id, mirror, interleaved(mirror.blocks, 3, id));
  const write = (ids: readonly number[]): Promise<Writer[]> =>
    Promise.all(mirrors.flatMap((mirror) => ids.map((id) => writeTo(mirror, id))));
  const more = (writers: readonly Writer[], count: number) =>
    Promise.all(writers.map((writer) => writer.more(count)));
  const end = async (writers: readonly Writer[]) => {
    await Promise.all(writers.map((writer) => writer.end()));
    console.log(`slowest writes: ${writers.map(({ slowestMs }) => slowestMs).join(', ')} ms`);
  };
  const recovered = () => Promise.all(mirrors.map((mirror) => rig.recovered(ALL, mirror)));
  /** Legs equal, and every block as it was acknowledged. */
  const expectWhole = () => {
    for (const mirror of mirrors) {
      expect(legsEqual(mirror.disks.leg0, mirror.disks.leg1)).toBe(true);
      expect(rig.lostWrites(mirror)).toEqual([]);
    }
  };

  it('is joined by two machines at once while the first resyncs and writes, and resynced once for all', async () => {
    const loads = mirrors.map(async (mirror) => {
      await mirror.create(rig.machine(1));
      const first = await writeTo(mirror, 1);
      await first.more(1);
      const progress = await rig.machine(1).dmStatus(mirror.name);
      await Promise.all([2, 3].map((id) => mirror.create(rig.machine(id))));
      const joined = await rig.machine(2).dmStatus(mirror.name);
      return { writers: [first, await writeTo(mirror, 2), await writeTo(mirror, 3)], progress, joined };
    });
    const begun = await Promise.all(loads);
    const writers = begun.flatMap((load) => load.writers);
    await timed('writes during the resync', more(writers, 3));
    for (const mirror of mirrors)
      for (const id of ALL) await timed('in sync', rig.machine(id).waitInSync(mirror.name));
    await end(writers);
    for (const { progress, joined } of begun) {
      console.log(
        `in sync before and after the others joined: ${progress.inSyncCount}, ${joined.inSyncCount}`,
      );
      // Else they have joined nothing that was under way.
      expect(progress.inSyncCount).toBeLessThan(REGIONS);
    }
    for (const mirror of mirrors) {
      const shares = await Promise.all(ALL.map((id) => mirror.recovered(rig.machine(id))));
      console.log(`${mirror.name}: recovered by each node: ${shares.join(', ')}`);
      expect(shares[0]! + shares[1]! + shares[2]!).toBe(REGIONS);
      await rig.agree(ALL, mirror);
    }
    expectWhole();
  });

  it('takes writes of all at the same time, in the same regions', async () => {
    const before = await recovered();
    const writers = await write(ALL);
    await more(writers, 20);
    await end(writers);
    expectWhole();
    expect(await recovered()).toEqual(before);
  });

  it('has its table exchanged on all nodes in turn, while all write', async () => {
    const before = await recovered();
    const writers = await write(ALL);
    await more(writers, 2);
    for (const id of ALL) {
      const reloads = mirrors.map((mirror) => mirror.reload(rig.machine(id)));
      await timed('reload', Promise.all(reloads));
      await more(writers, 2);
    }
    await end(writers);
    for (const mirror of mirrors) await rig.agree(ALL, mirror);
    expectWhole();
    expect(await recovered()).toEqual(before);
    for (const id of ALL) expect(await rig.machine(id).dmesg()).not.toMatch(KERNEL_COMPLAINTS);
  });

  it('refuses a machine whose table says something else, and says what', async () => {
    const machine = rig.machine(3);
    for (const [mirror, other, what] of [
      [mirrors[0], { regionSectors: 2 * REGION_SECTORS }, /cannot take part.* region size is 64 sectors/],
      [mirrors[1], { regions: REGIONS - 1 }, /cannot take part.*(sectors|size|region)/],
    ] as const) {
      await machine.dmRemove(mirror.name);
      // A kernel does not fail a resume (mirror_resume in drivers/md/dm-raid1.c): it says so, and such a mirror does nothing.
      await machine.dmCreate(mirror.name, mirror.table(machine, other));
      const refusal = () =>
        rig
          .daemon(3)
          .lines()
          .findLast(({ level }) => level === 'error')?.['msg'] ?? '';
      await expect.poll(refusal, WAIT).toMatch(what);
      console.log(refusal());
      expect(await machine.dmesg()).toMatch(/log resume failed/);
      // Far from the 15 s after which a kernel asks again what was not answered.
      await timed('removed', machine.dmRemove(mirror.name));
      await rig.agree([1, 2], mirror);
      await mirror.create(machine);
      expect(await machine.waitInSync(mirror.name)).toMatchObject({ legHealth: 'AA' });
      await rig.agree(ALL, mirror);
    }
  });

  it("loses nothing and resyncs nothing when daemons are killed and started again under it, the image's writer too", async () => {
    const before = await recovered();
    const writers = await write(ALL);
    await more(writers, 3);
    for (const id of [3, 1]) {
      await rig.daemon(id).stop('SIGKILL');
      await timed(
        'the others go on',
        more(
          writers.filter(({ nodeId }) => nodeId === 2),
          5,
        ),
      );
      await timed('daemon started', rig.startDaemon(id));
      await timed('all write', more(writers, 3));
    }
    await end(writers);
    for (const mirror of mirrors) await rig.agree(ALL, mirror);
    expectWhole();
    expect(await recovered()).toEqual(before);
  });

  it('is removed from one after the other, and no kernel has ever seen an error', async () => {
    for (const id of ALL) {
      for (const mirror of mirrors) await rig.machine(id).dmRemove(mirror.name);
      expect((await rig.daemon(id).peek()).logs).toEqual([]);
      expect(await rig.machine(id).dmesg()).not.toMatch(KERNEL_ERRORS);
    }
    expect(mirrors[0].dirtyOnImage()).toEqual([]);
    expectWhole();
  });
});
