import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Summary } from '../driver.js';
import { ensureCacheDirectory } from '../paths.js';
import type { Verdict } from '../targets.js';
import type { FloorMode } from './floor.js';
import { type LocalRound, playLocalRounds } from './local.js';
import type { Played, Resynced } from './plays.js';
import { type Counted, Session, type SessionOptions } from './session.js';
import { renderJoins, renderLocal, renderRounds, renderVerdicts } from './table.js';
import { judge } from './targets.js';

export interface ClusterBenchOptions {
  /** Fewer and shorter rounds: below 40 s instead of below 3 minutes. */
  readonly quick?: boolean;
  /** Shorter still, for tests: says nothing about speed. */
  readonly brief?: boolean;
  /** Leaves processors and priorities as they are: then two processors are too few for three nodes. */
  readonly unplaced?: boolean;
  /** The program that runs on each node. Default: the built one. */
  readonly nodeProgram?: string;
  /** Where the tables go, part by part. Default: nowhere. */
  readonly print?: (text: string) => void;
}

interface Lengths {
  readonly rounds: number;
  readonly runMs: number;
  /** Of each run of the round that warms up compilers and caches and is not kept. */
  readonly warmMs: number;
  /** Exponents of region counts. */
  readonly joins: readonly number[];
  /** Regions that each node has marked. */
  readonly marks: readonly [number, number];
  readonly resyncRegions: number;
}

const FULL: Lengths = {
  rounds: 7,
  runMs: 400,
  warmMs: 2000,
  joins: [16, 19, 22, 25, 27],
  marks: [10, 10_000],
  resyncRegions: 1500,
};
const QUICK: Lengths = {
  rounds: 3,
  runMs: 150,
  warmMs: 1000,
  joins: [16, 22, 27],
  marks: [10, 10_000],
  resyncRegions: 600,
};
const BRIEF: Lengths = {
  rounds: 1,
  runMs: 30,
  warmMs: 30,
  joins: [16],
  marks: [10, 100],
  resyncRegions: 100,
};

/** How long the modelled copy of one region takes: 1 MiB at 1 GB/s. */
export const COPY_MS = 1;

/** Of the logs that are written to. */
const REGIONS = 2 ** 21;
/** More than the image of such a log. */
const IMAGE_BYTES = 1 << 20;
/** Regions that stay marked lie this far apart: no two in a word of a bitmap. */
const MARK_STEP = 6;
/** Marks that a joiner takes over, all over the log. */
const JOIN_MARKS = 1000;

/** One round: times of the floor and of ours, next to each other. */
export interface Round {
  readonly floor: Readonly<Partial<Record<FloorMode, Summary>>>;
  readonly writes: Counted;
  readonly flushes: Counted;
  readonly work: Counted;
  readonly hot: Counted;
  /** In the same process: a clustered log, and a local one as singled serves it. */
  readonly local: {
    readonly clustered: Readonly<Record<string, Summary>>;
    readonly core: Readonly<Record<string, Summary>>;
  };
}

export interface Join {
  readonly regions: number;
  /** RESUME on the second node, in ns. */
  readonly ns: number;
  /** RESUME of the first, which founds the log. */
  readonly foundingNs: number;
}

/** By number of marks per node, in rounds that alternate. */
export interface MarksRound {
  readonly few: Counted;
  readonly many: Counted;
}

/** A log on a device: the commit that a FLUSH waits for, the write, and both. */
export interface DiskRound {
  readonly commit: Summary;
  readonly write: Summary;
  readonly flushes: Counted;
}

/** One node, and all three, recover a log from nothing in sync. */
export interface ResyncRun {
  readonly one: Resynced;
  readonly three: readonly Resynced[];
  readonly threeMs: number;
  /** Messages of all kinds per region that all nodes together gave to the group, when one node recovers and when all do. */
  readonly sentPerRegion: readonly [number, number];
}

export interface ClusterBenchResult {
  readonly verdicts: readonly Verdict[];
  readonly oneNode: readonly Round[];
  /** singled and clusterd behind netlink, requests that need no order. */
  readonly local: readonly LocalRound[];
  readonly threeNodes: readonly Round[];
  readonly disk: readonly DiskRound[];
  readonly marks: readonly MarksRound[];
  readonly joins: readonly Join[];
  readonly resync: ResyncRun;
}

/** Runs the cluster bench and writes `.cache/latest-cluster.json`. Needs root and `cc`; installs corosync if it is missing. */
export async function runClusterBench(options: ClusterBenchOptions = {}): Promise<ClusterBenchResult> {
  const lengths = options.brief === true ? BRIEF : options.quick === true ? QUICK : FULL;
  const print = options.print ?? (() => {});
  print(
    `\nEvery ratio is of rounds that alternated on this machine: median [least-most] of ${lengths.rounds}.\n`,
  );
  const alone = await withSession({ ...options, nodes: 1 }, async (session) => {
    const rounds = await playRounds(session, ['ping'], lengths);
    print(`${renderRounds('one node', rounds)}\n`);
    const local = await playLocalRounds({ namespace: session.namespace, ...lengths });
    print(`${renderLocal(local)}\n`);
    return { rounds, local };
  });
  const cluster = await withSession({ ...options, nodes: 3 }, async (session) => {
    const rounds = await playRounds(session, ['ping', 'commit', 'commit-all'], lengths);
    print(`${renderRounds('three nodes', rounds)}\n`);
    const disk = await playDiskRounds(session, lengths);
    const marks = await playMarksRounds(session, lengths);
    const resync = await playResyncs(session, lengths);
    const joins = await playJoins(session, lengths);
    print(`${renderJoins(joins)}\n`);
    return { rounds, disk, marks, resync, joins };
  });
  const { disk, marks, joins, resync } = cluster;
  const parts = {
    oneNode: alone.rounds,
    local: alone.local,
    threeNodes: cluster.rounds,
    disk,
    marks,
    joins,
    resync,
  };
  const verdicts = judge(parts);
  print(`${renderVerdicts(verdicts)}\n`);
  const result: ClusterBenchResult = { verdicts, ...parts };
  writeFileSync(join(ensureCacheDirectory(), 'latest-cluster.json'), `${JSON.stringify(result, null, 1)}\n`);
  return result;
}

async function withSession<T>(options: SessionOptions, run: (session: Session) => Promise<T>): Promise<T> {
  const session = await Session.start(options);
  try {
    return await run(session);
  } finally {
    await session.end();
  }
}

async function playRounds(session: Session, modes: readonly FloorMode[], lengths: Lengths): Promise<Round[]> {
  await session.open('written', 'clustered-core nosync', REGIONS);
  await session.open('recovered', 'clustered-core', REGIONS);
  await session.open('hot', 'clustered-core nosync', REGIONS);
  await session.open('local', 'core nosync', REGIONS, 1);
  const rounds: Round[] = [];
  await playRound(session, modes, lengths.warmMs, true);
  for (let round = 0; round < lengths.rounds; round++)
    rounds.push(await playRound(session, modes, lengths.runMs, round % 2 === 0));
  await session.close('written');
  await session.close('recovered');
  await session.close('hot');
  await session.close('local', 1);
  return rounds;
}

/** The floor is played before and after in turn, so that a machine that gets slower favours neither side. */
async function playRound(
  session: Session,
  modes: readonly FloorMode[],
  ms: number,
  floorFirst: boolean,
): Promise<Round> {
  const floor: Partial<Record<FloorMode, Summary>> = {};
  const playFloor = async () => {
    for (const mode of modes) floor[mode] = await session.floor(mode, ms);
  };
  if (floorFirst) await playFloor();
  const writes = await session.playCounted('writes', 'written', ms);
  const flushes = await session.playCounted('flushes', 'written', ms);
  const work = await session.playCounted('work', 'recovered', ms);
  if (!floorFirst) await playFloor();
  const node = session.clients[0]!;
  // Lazy clear has given the region up since the last round.
  const mark = (name: string) => node.request('marks', { name, from: 0, count: 1, step: 1 });
  let core: Played | undefined;
  const playCore = async () => {
    await mark('local');
    core = await session.play('local', 'local', ms);
  };
  if (!floorFirst) await playCore();
  await mark('hot');
  const hot = await session.playCounted('local', 'hot', ms);
  if (floorFirst) await playCore();
  return { floor, writes, flushes, work, hot, local: { clustered: hot.types, core: core!.types } };
}

/** All nodes have one log on a file, as on a shared device. */
async function playDiskRounds(session: Session, { rounds, runMs, warmMs }: Lengths): Promise<DiskRound[]> {
  const image = join(ensureCacheDirectory(), `cluster-${process.pid}.img`);
  const scratch = `${image}.floor`;
  try {
    for (const path of [image, scratch]) {
      writeFileSync(path, '');
      truncateSync(path, IMAGE_BYTES);
    }
    await session.open('on disk', `clustered-disk ${image} nosync`, REGIONS);
    const played: DiskRound[] = [];
    for (let round = 0; round <= rounds; round++) {
      const ms = round === 0 ? warmMs : runMs;
      const commit = await session.floor('commit', ms);
      const floor = await session.clients[0]!.request('disk', { path: scratch, ms });
      const flushes = await session.playCounted('flushes', 'on disk', ms);
      if (round > 0) played.push({ commit, write: floor.types['write of a block']!, flushes });
    }
    await session.close('on disk');
    return played;
  } finally {
    for (const path of [image, scratch]) rmSync(path, { force: true });
  }
}

async function playMarksRounds(
  session: Session,
  { rounds, runMs, marks: [few, many] }: Lengths,
): Promise<MarksRound[]> {
  for (const [name, count] of [
    ['few marks', few],
    ['many marks', many],
  ] as const) {
    await session.open(name, 'clustered-core nosync', REGIONS);
    // One behind the other, each node the regions between the others'.
    for (const [rank, client] of session.clients.entries())
      await client.request('marks', { name, from: rank * 2, count, step: MARK_STEP });
  }
  const played: MarksRound[] = [];
  for (let round = 0; round <= rounds; round++) {
    const order = round % 2 === 0 ? ['few marks', 'many marks'] : ['many marks', 'few marks'];
    const byName = new Map<string, Counted>();
    for (const name of order) byName.set(name, await session.playCounted('writes', name, runMs));
    if (round > 0) played.push({ few: byName.get('few marks')!, many: byName.get('many marks')! });
  }
  await session.close('few marks');
  await session.close('many marks');
  return played;
}

async function playResyncs(session: Session, { resyncRegions: regions }: Lengths): Promise<ResyncRun> {
  const run = async (name: string, nodes: number) => {
    await session.open(name, 'clustered-core', regions);
    const before = await session.sent(name);
    const began = performance.now();
    const played = await Promise.all(
      session.clients.slice(0, nodes).map((client) => client.request('resync', { name, copyMs: COPY_MS })),
    );
    const ms = performance.now() - began;
    const after = await session.sent(name);
    const sentPerRegion = after.reduce((sum, sent, i) => sum + sent - before[i]!, 0) / regions;
    await session.close(name);
    return { played, ms, sentPerRegion };
  };
  const one = await run('resync by one', 1);
  const three = await run('resync by three', session.clients.length);
  return {
    one: one.played[0]!,
    three: three.played,
    threeMs: three.ms,
    sentPerRegion: [one.sentPerRegion, three.sentPerRegion],
  };
}

async function playJoins(session: Session, { joins }: Lengths): Promise<Join[]> {
  const played: Join[] = [];
  for (const exponent of joins) {
    const name = `2^${exponent}`;
    const regions = 2 ** exponent;
    const [foundingNs] = await session.open(name, 'clustered-core nosync', regions, 1);
    const step = Math.floor(regions / JOIN_MARKS);
    await session.clients[0]!.request('marks', { name, from: 0, count: JOIN_MARKS, step });
    const ns = await session.clients[1]!.request('open', {
      name,
      args: 'clustered-core nosync',
      regions,
      rank: 1,
      nodes: 2,
    });
    played.push({ regions, ns, foundingNs: foundingNs! });
    await session.close(name, 2);
  }
  return played;
}
