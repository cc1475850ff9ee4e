import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootCluster, type Cluster, legsEqual } from '../src/index.js';
import { interleaved, type Writer } from './block-writer.js';
import { diskAndCore, KERNEL_COMPLAINTS, Rig, type SharedMirror, WAIT } from './cluster-rig.js';
import { between, seededRandom } from './seeded.js';
import { Succession } from './succession.js';
import { useLab } from './support.js';

/** clusterd ends at any instant, on one machine or on both, and is started again, or is succeeded by another process: the logs are found as they were, and nothing is resynced. */
const lab = useLab();

/** 50 in a full run. */
const KILLS = Number(process.env['DMLOG_RESTART_KILLS'] ?? 3);
/** On one machine, then on both at once; 100 in a full run. */
const HAND_OVERS = Number(process.env['DMLOG_HAND_OVERS'] ?? 2);
/** The longest that a write may take by then: by default what shows that the kernel repeated nothing (it does after 15 s). */
const WAIT_MS_MAX = Number(process.env['DMLOG_HAND_OVER_MS_MAX'] ?? 14_000);
/** How long after the start of a daemon all may write again, on an idle machine: 3000. */
const RESUME_MS_MAX = Number(process.env['DMLOG_RESTART_RESUME_MS_MAX'] ?? Number.POSITIVE_INFINITY);
const SEED = Number(process.env['DMLOG_RESTART_SEED'] ?? Date.now() % 2 ** 32) >>> 0;

const REGION_SECTORS = 32;
const REGIONS = 256;
const LEG = '4M';
const BOTH = [1, 2] as const;

/** A kill comes so long after every load has written again. */
const KILL_AFTER_MS_MAX = 500;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe(`clusterd on two machines is killed ${KILLS} times and succeeded ${HAND_OVERS} times (DMLOG_RESTART_SEED=${SEED})`, () => {
  const { disks, mirrors } = diskAndCore(LEG, { regionSectors: REGION_SECTORS, regions: REGIONS });
  let cluster: Cluster;
  let rig: Rig;
  /** What each daemon has said, the dead ones too. */
  const said: string[] = [];

  beforeAll(async () => {
    for (const [seed, leg] of [disks.disk0, disks.disk1, disks.core0, disks.core1].entries())
      leg.randomize(seed + 1);
    // No machine dies here, and none is to be taken for dead because the host is busy.
    cluster = await bootCluster(lab(), { machines: 2, disks, tokenMs: 8000 });
    rig = await Rig.start(cluster);
  });
  afterAll(() => cluster?.powerCut());

  const forEach = (work: (mirror: SharedMirror, id: number) => Promise<void>) =>
    Promise.all(mirrors.flatMap((mirror) => BOTH.map((id) => work(mirror, id))));
  const recovered = () => Promise.all(mirrors.map((mirror) => rig.recovered(BOTH, mirror)));

  const keepWhatWasSaid = (id: number) =>
    said.push(
      ...rig
        .daemon(id)
        .lines()
        .map(({ msg }) => String(msg)),
    );

  /** Ends the daemons of these nodes, in an orderly way every other time, and starts others. Returns when the starts began. */
  async function restart(ids: readonly number[], signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<number> {
    for (const id of ids) {
      await rig.daemon(id).stop(signal);
      keepWhatWasSaid(id);
    }
    const startedAt = performance.now();
    for (const id of ids) await rig.startDaemon(id);
    return startedAt;
  }

  /** Every node writes every second block of both mirrors. */
  async function writeAll(): Promise<Writer[]> {
    const writers: Writer[] = [];
    await forEach(async (mirror, id) => {
      writers.push(await rig.write(id, mirror, interleaved(mirror.blocks, 2, id)));
    });
    return writers;
  }
  const allMore = (writers: readonly Writer[], count: number) =>
    Promise.all(writers.map((writer) => writer.more(count)));

  /** Nothing was forgotten: nobody has to be reloaded, all is in sync, as daemons and kernels see it. */
  async function nothingIsForgotten(about: string): Promise<void> {
    for (const mirror of mirrors) {
      const { needReload, staleCount, givenUpCount } = await rig.joined(BOTH, mirror);
      const doubts = { needReload, staleCount, givenUpCount };
      expect(doubts, about).toEqual({ needReload: [], staleCount: 0, givenUpCount: 0 });
      for (const id of BOTH) {
        const { inSyncCount, legHealth } = await rig.machine(id).dmStatus(mirror.name);
        expect({ inSyncCount, legHealth }, about).toEqual({ inSyncCount: REGIONS, legHealth: 'AA' });
      }
    }
  }

  const CHOICES: (readonly number[])[] = [[1], [2], BOTH, [2, 1]];

  it('under verified writes: I/O goes on, no log is made anew, no table reloaded, no region recovered', async () => {
    const random = seededRandom(SEED);
    await forEach((mirror, id) => mirror.create(rig.machine(id)));
    for (const mirror of mirrors) await rig.settled(BOTH, mirror);
    expect(await recovered()).toEqual(mirrors.map(() => REGIONS));
    // From here on whatever is made is made because a daemon forgot it.
    for (const id of BOTH) await restart([id]);
    for (const mirror of mirrors) await rig.joined(BOTH, mirror);
    said.length = 0;

    let writers = await writeAll();
    await allMore(writers, 1);
    const resumedMs: number[] = [];
    for (let i = 0; i < KILLS; i++) {
      await sleep(between(random, 0, KILL_AFTER_MS_MAX));
      const ids = CHOICES[i % CHOICES.length] as readonly number[];
      const startedAt = await restart(ids, i % 2 === 1 ? 'SIGTERM' : 'SIGKILL');
      await allMore(writers, 1);
      resumedMs.push(Math.round(performance.now() - startedAt));
      await nothingIsForgotten(`end ${i}`);
    }
    await Promise.all(writers.map((writer) => writer.end()));
    console.log(
      `all write again ${resumedMs.join(', ')} ms after the starts; slowest writes ${writers.map(({ slowestMs }) => slowestMs).join(', ')} ms`,
    );
    expect(Math.max(0, ...resumedMs)).toBeLessThan(RESUME_MS_MAX);

    writers = await writeAll();
    await allMore(writers, 1);
    const successions = new Map<number, Succession>(
      BOTH.map((id) => [id, new Succession(rig.machine(id), rig.daemon(id))]),
    );
    for (let i = 0; i < HAND_OVERS; i++) {
      await sleep(between(random, 0, KILL_AFTER_MS_MAX));
      const ids = new Set(CHOICES[(i + 1) % CHOICES.length] as readonly number[]);
      await Promise.all([...ids].map((id) => successions.get(id)?.next()));
      await allMore(writers, 1);
      await nothingIsForgotten(`hand-over ${i}`);
    }
    await Promise.all(writers.map((writer) => writer.end()));
    const gapsMs = [...successions.values()].flatMap((succession) => succession.gapsMs);
    const slowestMs = writers.map((writer) => writer.slowestMs);
    console.log(
      `between two daemons ${gapsMs.join(', ')} ms, of which ${[...successions.values()].flatMap(({ parts }) => parts).join(', ')}; slowest writes ${slowestMs.join(', ')} ms`,
    );
    expect(Math.max(...slowestMs)).toBeLessThan(WAIT_MS_MAX);
    for (const id of BOTH) keepWhatWasSaid(id);
    expect(said.filter((msg) => /^log created|reload/.test(msg))).toEqual([]);
    for (const mirror of mirrors) {
      await rig.settled(BOTH, mirror);
      await rig.agree(BOTH, mirror);
    }
    expect(await recovered()).toEqual(mirrors.map(() => REGIONS));
    for (const id of BOTH) {
      expect(await rig.machine(id).dmesg()).not.toMatch(KERNEL_COMPLAINTS);
    }
    for (const mirror of mirrors) {
      expect(legsEqual(mirror.disks.leg0, mirror.disks.leg1)).toBe(true);
      expect(rig.lostWrites(mirror)).toEqual([]);
    }
    await forEach(async (mirror, id) => {
      await rig.machine(id).dmRemove(mirror.name);
    });
    // Nothing is left to be found.
    for (const id of BOTH) {
      const state = async () => (await rig.machine(id).run('ls /run/dmlog/state')).stdout.trim();
      await expect.poll(state, WAIT).toBe('last-seq');
    }
  }, 1_800_000);
});
