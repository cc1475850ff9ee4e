import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootCluster, type Cluster, disk, legsEqual } from '../src/index.js';
import { interleaved, type Writer } from './block-writer.js';
import { KERNEL_COMPLAINTS, Rig, SharedMirror, timed, WAIT } from './cluster-rig.js';
import { between, seededRandom } from './seeded.js';
import { useLab } from './support.js';

/** clusterd dies at any instant, on one machine or on both, and is started again: the logs are found as they were, and nothing is resynced. */
const lab = useLab();

/** 50 in a full run. */
const KILLS = Number(process.env['DMLOG_RESTART_KILLS'] ?? 4);
const SEED = Number(process.env['DMLOG_RESTART_SEED'] ?? Date.now() % 2 ** 32) >>> 0;

const REGION_SECTORS = 32;
const REGIONS = 256;
const LEG = '4M';
const BOTH = [1, 2] as const;

/** A kill comes so long after every load has written again. */
const KILL_AFTER_MS_MAX = 500;

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe(`clusterd on two machines is killed ${KILLS} times (DMLOG_RESTART_SEED=${SEED})`, () => {
  const shared = () => disk(LEG, { shared: true });
  const disks = {
    disk0: shared(),
    disk1: shared(),
    core0: shared(),
    core1: shared(),
    log: disk('1M', { shared: true }),
  };
  const shape = { regionSectors: REGION_SECTORS, regions: REGIONS };
  const mirrors = [
    new SharedMirror({
      ...shape,
      name: 'disk',
      disks: { leg0: disks.disk0, leg1: disks.disk1, log: disks.log },
    }),
    new SharedMirror({ ...shape, name: 'core', disks: { leg0: disks.core0, leg1: disks.core1 } }),
  ] as const;
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

  async function kill(ids: readonly number[]): Promise<void> {
    for (const id of ids) {
      said.push(
        ...rig
          .daemon(id)
          .lines()
          .map(({ msg }) => String(msg)),
      );
      await rig.daemon(id).stop('SIGKILL');
    }
    for (const id of ids) await rig.startDaemon(id);
  }

  it('under verified writes: I/O goes on, no log is made anew, no table reloaded, no region recovered', async () => {
    const random = seededRandom(SEED);
    await forEach((mirror, id) => mirror.create(rig.machine(id)));
    for (const mirror of mirrors) await rig.settled(BOTH, mirror);
    expect(await recovered()).toEqual(mirrors.map(() => REGIONS));
    // From here on whatever is made is made because a daemon forgot it.
    for (const id of BOTH) await kill([id]);
    for (const mirror of mirrors) await rig.joined(BOTH, mirror);
    said.length = 0;

    const writers: Writer[] = [];
    await forEach(async (mirror, id) => {
      writers.push(await rig.write(id, mirror, interleaved(mirror.blocks, 2, id)));
    });
    const more = (count: number) => Promise.all(writers.map((writer) => writer.more(count)));
    await more(1);
    const choices: (readonly number[])[] = [[1], [2], BOTH, [2, 1]];
    for (let i = 0; i < KILLS; i++) {
      await sleep(between(random, 0, KILL_AFTER_MS_MAX));
      const ids = choices[i % choices.length] as readonly number[];
      await kill(ids);
      await timed(`clusterd on ${ids} killed and started: all write again`, more(1));
      for (const mirror of mirrors) {
        const { needReload, staleCount, givenUpCount } = await rig.joined(BOTH, mirror);
        expect({ needReload, staleCount, givenUpCount }, `kill ${i}`).toEqual({
          needReload: [],
          staleCount: 0,
          givenUpCount: 0,
        });
        for (const id of BOTH) {
          const { inSyncCount, legHealth } = await rig.machine(id).dmStatus(mirror.name);
          expect({ inSyncCount, legHealth }, `kill ${i}`).toEqual({ inSyncCount: REGIONS, legHealth: 'AA' });
        }
      }
    }
    await Promise.all(writers.map((writer) => writer.end()));
    console.log(`slowest writes: ${writers.map(({ slowestMs }) => slowestMs).join(', ')} ms`);
    for (const id of BOTH)
      said.push(
        ...rig
          .daemon(id)
          .lines()
          .map(({ msg }) => String(msg)),
      );
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
