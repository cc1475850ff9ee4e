import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootCluster, type Cluster, type Disk, legsEqual } from '../src/index.js';
import { BLOCK_BYTES, type Writer } from './block-writer.js';
import { diskAndCore, holds, KERNEL_ERRORS, Rig, type SharedMirror, timed } from './cluster-rig.js';
import { useLab } from './support.js';

/**
 * Three machines with clusterd whose network, or corosync, fails under load. A region is a block and each write goes to a region that was clean: the node that is
 * cut off has always a mark under way. Nothing is reloaded by itself, so that what is in doubt stays to be seen.
 */
const lab = useLab();

const REGION_SECTORS = 8;
const REGIONS = 4096;
const LEG = '16M';
const ALL = [1, 2, 3];
/** 30 by `DMLOG_LAB_LONG=1`; 10 s each. */
const CUTS = process.env['DMLOG_LAB_LONG'] === '1' ? 30 : 1;
/** Each cut has clean regions of its own, in a part for each node. */
const BAND = Math.floor(REGIONS / 3 / (CUTS + 3));
/** A turn of the token takes twice as long: far below its timeout. */
const CABLE_MS = 40;
/** Away from the two others for as long as it lasts. */
const FAULTS = ['its cable is pulled', 'its corosync is killed', 'its corosync is stopped'] as const;
type Fault = (typeof FAULTS)[number];
const NOTHING = { disk: [], core: [], image: [] };

describe('a mirror on three machines that lose each other', () => {
  // The legs are equal: zeros.
  const shape = { regionSectors: REGION_SECTORS, regions: REGIONS, nosync: true };
  const { disks, mirrors } = diskAndCore(LEG, shape);
  /** Of each mirror: regions that a node had written before it was cut off. */
  const inDoubt = new Map(mirrors.map((mirror) => [mirror, new Set<number>()]));
  const begun: Writer[] = [];
  let cluster: Cluster;
  let rig: Rig;
  let bands = 0;

  beforeAll(async () => {
    cluster = await bootCluster(lab(), { machines: 3, disks });
    // Tables are reloaded by the scenario alone.
    for (const { machine } of cluster.nodes)
      await machine.run(`printf '[cluster]\nreload = "off"\n' >/run/clusterd.toml`);
    // And what was marked stays marked.
    const args = ['--config', '/run/clusterd.toml', '--lazy-clear-ms', '3600000'];
    rig = await Rig.start(cluster, { args });
    for (const mirror of mirrors) await Promise.all(ALL.map((id) => mirror.create(rig.machine(id))));
  });
  afterAll(() => cluster?.powerCut());

  const begin: Record<Fault, (id: number, away: readonly Writer[]) => Promise<void>> = {
    'its cable is pulled': async (id, away) => {
      // A long cable: its corosync delivers messages to itself that are still on their way to the others, and lost when it is pulled.
      await cluster.network.shape(id, { delayMs: CABLE_MS });
      await Promise.all(away.map((writer) => writer.more(3)));
      await cluster.node(id).cut();
    },
    'its corosync is killed': (id) => cluster.node(id).killCorosync(),
    'its corosync is stopped': async (id) => cluster.node(id).pauseCorosync(),
  };
  const finish: Record<Fault, (id: number) => Promise<unknown>> = {
    'its cable is pulled': async (id) => {
      await cluster.network.shape(id, {});
      await cluster.node(id).heal();
    },
    'its corosync is killed': (id) => cluster.node(id).startCorosync(),
    'its corosync is stopped': async (id) => cluster.node(id).resumeCorosync(),
  };

  /** Regions that this writer's kernel was allowed to write: those of writes that have returned, and of one that has not, if it got to a leg. */
  function allowed(mirror: SharedMirror, writer: Writer): number[] {
    const regions: number[] = [];
    for (let index = 0; index < writer.count; index++)
      regions.push(mirror.regionOf(writer.write(index).block));
    const { block, text } = writer.write(writer.count);
    const isOn = (leg: Disk) => holds(leg.read(block * BLOCK_BYTES, BLOCK_BYTES), text);
    if (isOn(mirror.disks.leg0) || isOn(mirror.disks.leg1)) regions.push(mirror.regionOf(block));
    return regions;
  }

  /** Regions that a node was allowed to write, and that are clean for the node that is asked, or on the disk log's image. */
  async function unknown(asked: number): Promise<{ disk: number[]; core: number[]; image: number[] }> {
    const [disk, core] = mirrors;
    const missing = (mirror: SharedMirror, known: readonly number[]) => {
      const dirty = new Set(known);
      return [...(inDoubt.get(mirror) ?? [])].filter((region) => !dirty.has(region));
    };
    return {
      disk: missing(disk, await rig.dirty(asked, disk)),
      core: missing(core, await rig.dirty(asked, core)),
      image: missing(disk, disk.dirtyOnImage()),
    };
  }

  /** All write; node `id` is away for a while. What it was allowed to write must be known to the others, and still be when it is back. */
  async function trouble(id: number, fault: Fault): Promise<void> {
    const others = ALL.filter((other) => other !== id);
    const band = bands++;
    const start = (mirror: SharedMirror, node: number) => {
      const first = (node - 1) * Math.floor(REGIONS / 3) + band * BAND;
      return rig.write(node, mirror, { first, step: 1, count: BAND });
    };
    const writers = await Promise.all(mirrors.flatMap((mirror) => ALL.map((node) => start(mirror, node))));
    begun.push(...writers);
    const away = writers.filter(({ nodeId }) => nodeId === id);
    const staying = writers.filter(({ nodeId }) => nodeId !== id);
    const more = (some: readonly Writer[], count: number) =>
      Promise.all(some.map((writer) => writer.more(count)));
    await more(writers, 5);
    const before = away.map(({ count }) => count);
    await begin[fault](id, away);
    await timed('the others have quorum', cluster.waitQuorate(others));
    for (const mirror of mirrors) await timed('and go on without it', rig.joined(others, mirror));
    // Those with quorum go on.
    await timed('and write', more(staying, 3));
    const after = away.map(({ count }) => count);
    for (const mirror of mirrors)
      for (const writer of begun)
        if (writer.nodeId === id && writer.mirror === mirror.name)
          for (const region of allowed(mirror, writer)) inDoubt.get(mirror)?.add(region);
    for (const other of others) expect(await unknown(other)).toEqual(NOTHING);
    // Without quorum nothing is answered that changes the state.
    await more(staying, 3);
    expect(away.map(({ count }) => count)).toEqual(after);
    console.log(`node ${id}, ${fault}: ${before.join(' and ')} writes before, ${after.join(' and ')} after`);

    await finish[fault](id);
    await timed('all have quorum', cluster.waitQuorate());
    await timed('it writes again', more(away, 3));
    for (const mirror of mirrors) await timed('all take part', rig.joined(ALL, mirror));
    // Nothing was reloaded, so nothing may have become clean.
    for (const node of ALL) expect(await unknown(node)).toEqual(NOTHING);
    await Promise.all(writers.map((writer) => writer.end()));
    for (const mirror of mirrors) await timed('all agree', rig.agree(ALL, mirror));
  }

  it(
    `knows of all that a node was allowed to write when it was cut off (${CUTS} of 30 times)`,
    async () => {
      for (const mirror of mirrors) await rig.agree(ALL, mirror);
      for (let cut = 0; cut < CUTS; cut++)
        await timed(`cut ${cut + 1}`, trouble(1 + (cut % 3), 'its cable is pulled'));
    },
    60_000 + CUTS * 60_000,
  );

  it('knows of all that a node was allowed to write when its corosync died, or hung', async () => {
    await timed('killed', trouble(3, 'its corosync is killed'));
    await timed('stopped', trouble(2, 'its corosync is stopped'));
  });

  it('is whole again when all tables were reloaded', async () => {
    for (const mirror of mirrors) {
      const status = await rig.agree(ALL, mirror);
      console.log(
        `${mirror.name}: ${status.staleCount} regions in doubt, ${inDoubt.get(mirror)?.size} at least`,
      );
      expect(status.needReload).toEqual(ALL);
      for (const id of ALL) await mirror.reload(rig.machine(id));
      for (const id of ALL) await timed('in sync', rig.machine(id).waitInSync(mirror.name));
      for (const id of ALL) {
        expect(await rig.machine(id).dmesg()).not.toMatch(KERNEL_ERRORS);
        await rig.machine(id).dmRemove(mirror.name);
      }
      expect(legsEqual(mirror.disks.leg0, mirror.disks.leg1)).toBe(true);
      expect(rig.lostWrites(mirror)).toEqual([]);
    }
    expect(mirrors[0].dirtyOnImage()).toEqual([]);
  });
});
