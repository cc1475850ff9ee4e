import type { Summary } from '../driver.js';
import { median, type Ratio, ratioOfRounds } from '../statistics.js';
import type { Verdict } from '../targets.js';
import type { ClusterBenchResult, DiskRound, MarksRound, ResyncRun, Round } from './bench.js';
import type { FloorMode } from './floor.js';
import { type LocalRound, localProcessRatios } from './local.js';
import type { Counted } from './session.js';

/** What clusterd must reach. Ratios are of medians to the C floor of the same rounds unless the name says otherwise. */
export const CLUSTER_TARGETS = {
  orderedOneNode: 1.5,
  orderedThreeNodes: 1.3,
  flushThreeNodes: 1.4,
  /** Of a request that needs no order, to the same request on a local log. */
  local: 1.1,
  /** A request beside many marks to one beside few. */
  marks: 1.1,
  resyncSpeedUp: 1.8,
  joinNs: 1e9,
  /** An ordered request is one message; what is batched with others comes on top. */
  sentPerRequest: 1.1,
  workSentPerRegion: 1 / 16,
} as const;

export type Percentile = 'p50' | 'p99';

/** A row of ordered requests, and which floor it stands on. */
export interface OrderedRow {
  readonly row: string;
  readonly pick: (round: Round) => Counted;
  readonly floor: (nodes: number) => FloorMode;
  /** On one node and on three. Absent: it is answered at once, and goes out in its place. */
  readonly limits?: readonly [number, number];
}

const { orderedOneNode, orderedThreeNodes, flushThreeNodes } = CLUSTER_TARGETS;
const commits = (nodes: number): FloorMode => (nodes === 1 ? 'ping' : 'commit');

export const ORDERED_ROWS: readonly OrderedRow[] = [
  { row: 'MARK', pick: ({ writes }) => writes, floor: () => 'ping' },
  {
    row: 'MARK + FLUSH',
    pick: ({ writes }) => writes,
    floor: commits,
    limits: [orderedOneNode, flushThreeNodes],
  },
  {
    row: 'FLUSH with a new mark',
    pick: ({ flushes }) => flushes,
    floor: commits,
    limits: [orderedOneNode, flushThreeNodes],
  },
  {
    row: 'GET_RESYNC_WORK that asks',
    pick: ({ work }) => work,
    floor: () => 'ping',
    limits: [orderedOneNode, orderedThreeNodes],
  },
  { row: 'SET_REGION_SYNC', pick: ({ work }) => work, floor: () => 'ping' },
];

export function orderedRatio(
  rounds: readonly Round[],
  { row, pick }: OrderedRow,
  mode: FloorMode,
  percentile: Percentile = 'p50',
): Ratio | undefined {
  return ratioOfRounds(
    rounds.map((round) => pick(round).types[row]?.[percentile]),
    rounds.map((round) => round.floor[mode]?.[percentile]),
  );
}

/** Requests that need no order: a clustered log to a local one, by row. */
export function localRatios(rounds: readonly Round[]): Map<string, Ratio> {
  const ratios = new Map<string, Ratio>();
  for (const row of Object.keys(rounds[0]?.local.core ?? {})) {
    const p50 = (side: 'clustered' | 'core') => rounds.map(({ local }) => local[side][row]?.p50);
    const ratio = ratioOfRounds(p50('clustered'), p50('core'));
    if (ratio !== undefined) ratios.set(row, ratio);
  }
  return ratios;
}

export function judge(result: Omit<ClusterBenchResult, 'verdicts'>): Verdict[] {
  const { oneNode, local, threeNodes, disk, marks, joins, resync } = result;
  return [
    ...judgeOrdered('one node', oneNode, 1),
    ...judgeOrdered('three nodes', threeNodes, 3),
    judgeDisk(disk),
    ...judgeSent(threeNodes),
    judgeMarks(marks),
    ...judgeResync(resync),
    judgeJoins(joins),
    judgeLocal(local),
  ];
}

function judgeOrdered(where: string, rounds: readonly Round[], nodes: number): Verdict[] {
  return ORDERED_ROWS.flatMap((row) => {
    const limit = row.limits?.[nodes === 1 ? 0 : 1];
    if (limit === undefined) return [];
    const mode = row.floor(nodes);
    return [atMost(`${where}: ${row.row} <= ${limit} x C ${mode}`, orderedRatio(rounds, row, mode), limit)];
  });
}

function judgeSent(rounds: readonly Round[]): Verdict[] {
  const limit = CLUSTER_TARGETS.sentPerRequest;
  const own = median(rounds.map(({ writes }) => writes.sentPerCycle));
  const others = median(rounds.map(({ writes }) => writes.othersSentPerCycle));
  const hot = Math.max(...rounds.map((round) => round.hot.sentPerCycle + round.hot.othersSentPerCycle));
  return [
    {
      target: 'one message per ordered request (MARK + FLUSH + CLEAR)',
      passed: own <= limit,
      value: `${own.toFixed(3)}, and ${others.toFixed(3)} acknowledgements of others`,
    },
    { target: 'a rewrite of a hot region sends none', passed: hot === 0, value: hot.toFixed(3) },
  ];
}

/** The disk is added to the limit, not multiplied by it: nobody can make it faster. */
function judgeDisk(rounds: readonly DiskRound[]): Verdict {
  const limit = CLUSTER_TARGETS.flushThreeNodes;
  const ours = rounds.map(({ flushes, write }) => {
    const p50 = flushes.types['FLUSH with a new mark']?.p50;
    return p50 === undefined ? undefined : p50 - write.p50;
  });
  const ratio = ratioOfRounds(
    ours,
    rounds.map(({ commit }) => commit.p50),
  );
  const us = (pick: (round: DiskRound) => number) => (median(rounds.map(pick)) / 1000).toFixed(0);
  const flush = us(({ flushes }) => flushes.types['FLUSH with a new mark']?.p50 ?? Number.NaN);
  const verdict = atMost(
    `three nodes, clustered-disk: FLUSH with a new mark, less a block's write, <= ${limit} x C commit`,
    ratio,
    limit,
  );
  const parts = `${flush} us, write ${us(({ write }) => write.p50)} us, commit ${us(({ commit }) => commit.p50)} us`;
  return { ...verdict, value: `${verdict.value} (${parts})` };
}

function judgeMarks(rounds: readonly MarksRound[]): Verdict {
  const p50 = (side: 'few' | 'many') => rounds.map((round) => round[side].types['MARK + FLUSH']?.p50);
  const limit = CLUSTER_TARGETS.marks;
  return atMost(
    `MARK + FLUSH beside many marks <= ${limit} x beside few`,
    ratioOfRounds(p50('many'), p50('few')),
    limit,
  );
}

function judgeResync({ one, three, threeMs, sentPerRegion }: ResyncRun): Verdict[] {
  const speedUp = one.ms / threeMs;
  const regions = three.reduce((sum, node) => sum + node.regions, 0);
  const perWork = Math.max(
    one.sentForWork / one.regions,
    three.reduce((sum, node) => sum + node.sentForWork, 0) / regions,
  );
  const { resyncSpeedUp, workSentPerRegion } = CLUSTER_TARGETS;
  const all = sentPerRegion.map((sent) => `1 per ${(1 / sent).toFixed(1)}`);
  return [
    {
      target: `three nodes resync >= ${resyncSpeedUp} x as fast as one`,
      passed: speedUp >= resyncSpeedUp,
      value: `${speedUp.toFixed(2)} (${one.ms.toFixed(0)} ms, ${threeMs.toFixed(0)} ms)`,
    },
    {
      target: 'GET_RESYNC_WORK: less than 1 message per 16 regions',
      passed: perWork < workSentPerRegion,
      value: `1 per ${(1 / perWork).toFixed(1)} regions (of all kinds: one node ${all[0]}, three ${all[1]})`,
    },
  ];
}

function judgeJoins(joins: ClusterBenchResult['joins']): Verdict {
  const { regions, ns } = joins.at(-1)!;
  const limit = CLUSTER_TARGETS.joinNs;
  return {
    target: `a join at 2^${Math.log2(regions)} regions < ${limit / 1e9} s`,
    passed: ns < limit,
    value: `${(ns / 1e9).toFixed(3)} s`,
  };
}

function judgeLocal(rounds: readonly LocalRound[]): Verdict {
  const limit = CLUSTER_TARGETS.local;
  const [row, worst] = [...localProcessRatios(rounds)].sort(([, a], [, b]) => b.median - a.median)[0] ?? [];
  const verdict = atMost(`one node: requests that need no order <= ${limit} x singled's`, worst, limit);
  return { ...verdict, value: `${verdict.value} (${row})` };
}

function atMost(target: string, ratio: Ratio | undefined, limit: number): Verdict {
  const text =
    ratio === undefined
      ? 'not measured'
      : `${ratio.median.toFixed(2)} [${ratio.min.toFixed(2)}-${ratio.max.toFixed(2)}]`;
  return { target, passed: ratio !== undefined && ratio.median <= limit, value: text };
}

/** Median over rounds of a percentile, in ns. */
export function middle(summaries: readonly (Summary | undefined)[], percentile: Percentile): number {
  return median(summaries.flatMap((summary) => (summary === undefined ? [] : [summary[percentile]])));
}
