import { controlRequest } from '@dmlog/daemon';
import type { RunSpec, Summary } from './driver.js';
import { allowedCpus, compileNative } from './native.js';
import { processCost } from './proc.js';
import { REGION_COUNTS } from './rounds.js';
import { median } from './statistics.js';
import { type Subject, startSubject } from './subjects.js';
import { renderVerdicts, table } from './table.js';
import type { Verdict } from './targets.js';

/** What a long load must keep to, on a machine that does nothing else. */
export const STEADY_TARGETS = {
  /** The slowest of a thousand requests of a type, in the worst stretch of the load. */
  p999Ns: 5_000_000,
  /** Resident memory at the end beyond that after {@link WARM_UP_PART} of the load: what the heap swings by between two collections. */
  growthBytes: 16 << 20,
} as const;

/** One script at a time, so long: within it all round trips are kept (`native/samples.h`), and percentiles are exact. */
const STRETCH_MS = 5000;
/** Of the load: then code is compiled and the heap has its size. */
const WARM_UP_PART = 0.1;

const SLOT = { nosync: 0, resync: 1 } as const;
const WORKLOADS: readonly (readonly [string, RunSpec])[] = [
  ['types', { script: 'types', log: SLOT.nosync }],
  ['write', { script: 'write', log: SLOT.nosync }],
  ['resync', { script: 'resync', log: SLOT.resync }],
];

export interface SteadyOptions {
  readonly seconds: number;
  /** Further arguments of singled. */
  readonly singledArgs?: readonly string[];
  readonly print?: (text: string) => void;
}

/** What the daemon says of itself: see docs/metrics.md. */
export interface Health {
  readonly residentBytes: number;
  readonly heapBytes: number;
  readonly collections: number;
  readonly pauseSeconds: number;
  readonly longestPauseSeconds: number;
}

export interface SteadyResult {
  /** By workload and request: one summary for each stretch. */
  readonly rows: ReadonlyMap<string, readonly Summary[]>;
  readonly requests: number;
  readonly lost: number;
  readonly warm: Health;
  readonly end: Health;
  readonly verdicts: readonly Verdict[];
}

/**
 * One singled under a load that does not end for `seconds`, driver and daemon on processors of their own where there are two: tails of round trips, pauses of the
 * garbage collector, growth. Absolute times: they say something of an idle machine only.
 */
export async function runSteady({
  seconds,
  singledArgs = [],
  print = () => {},
}: SteadyOptions): Promise<SteadyResult> {
  const cpus = allowedCpus();
  const [first = 0, second] = cpus;
  const subject = await startSubject('singled', {
    programs: compileNative(),
    cpus: cpus.join(','),
    singledArgs,
    ...(second === undefined ? {} : { apart: { subject: second, driver: first } }),
  });
  try {
    const result = await load(subject, seconds * 1000);
    print(`${render(result, seconds)}\n\n${renderVerdicts(result.verdicts)}\n`);
    return result;
  } finally {
    await subject.stop();
  }
}

async function load(subject: Subject, ms: number): Promise<SteadyResult> {
  const regions = REGION_COUNTS.small;
  await subject.driver.open({ log: SLOT.nosync, regions, args: 'core 2 nosync' });
  await subject.driver.open({ log: SLOT.resync, regions, args: 'core 2' });
  const rows = new Map<string, Summary[]>();
  let [requests, lost] = [0, 0];
  let warm: Health | null = null;
  const stretchMs = Math.min(STRETCH_MS, Math.ceil(ms / WORKLOADS.length));
  for (let played = 0; played < ms; ) {
    for (const [workload, spec] of WORKLOADS) {
      const report = await subject.run({ ...spec, ms: stretchMs, strict: true });
      played += stretchMs;
      requests += report.requests;
      lost += report.lost;
      for (const [row, summary] of Object.entries(report.types)) {
        const key = `${workload}: ${row}`;
        rows.set(key, [...(rows.get(key) ?? []), summary]);
      }
    }
    if (warm === null && played >= ms * WARM_UP_PART) warm = await healthOf(subject);
  }
  const end = await healthOf(subject);
  const measured = { rows, requests, lost, warm: warm ?? end, end };
  return { ...measured, verdicts: judge(measured) };
}

async function healthOf(subject: Subject): Promise<Health> {
  const text = String(await controlRequest(subject.controlSocket, 'metrics'));
  const value = (name: string): number => {
    const found = new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1];
    if (found === undefined) throw new Error(`the daemon does not tell ${name}`);
    return Number(found);
  };
  return {
    residentBytes: processCost(subject.pid).rssBytes,
    heapBytes: value('dmlog_heap_total_bytes'),
    collections: value('dmlog_gc_total'),
    pauseSeconds: value('dmlog_gc_pause_seconds_total'),
    longestPauseSeconds: value('dmlog_gc_pause_longest_seconds'),
  };
}

const worst = (summaries: readonly Summary[], pick: (summary: Summary) => number): number =>
  Math.max(...summaries.map(pick));

/** The share of requests of all stretches that is above a percentile is at most what the worst stretch says. */
function judge({ rows, lost, warm, end }: Omit<SteadyResult, 'verdicts'>): Verdict[] {
  const slowest = [...rows].reduce((a, b) =>
    worst(a[1], ({ p999 }) => p999) >= worst(b[1], ({ p999 }) => p999) ? a : b,
  );
  const p999Ns = worst(slowest[1], ({ p999 }) => p999);
  const growth = end.residentBytes - warm.residentBytes;
  return [
    {
      target: `p999 of every request at most ${STEADY_TARGETS.p999Ns / 1e6} ms, in every stretch`,
      value: `${milliseconds(p999Ns)} ms (${slowest[0]})`,
      passed: p999Ns <= STEADY_TARGETS.p999Ns,
    },
    {
      target: `no growth: at most ${STEADY_TARGETS.growthBytes >> 20} MiB from warm to end`,
      value: `${mebibytes(growth)} MiB`,
      passed: growth <= STEADY_TARGETS.growthBytes,
    },
    { target: 'no request without a reply', value: String(lost), passed: lost === 0 },
  ];
}

function render({ rows, requests, warm, end }: SteadyResult, seconds: number): string {
  const cells = [...rows].map(([name, summaries]) => [
    name,
    String(summaries.reduce((sum, { count }) => sum + count, 0)),
    milliseconds(median(summaries.map(({ p50 }) => p50))),
    milliseconds(median(summaries.map(({ p999 }) => p999))),
    milliseconds(worst(summaries, ({ p999 }) => p999)),
    milliseconds(worst(summaries, ({ max }) => max)),
  ]);
  const perSecond = (end.collections / seconds).toFixed(1);
  return [
    `singled, ${seconds} s of load, ${requests} requests; milliseconds of a round trip, over stretches of ${STRETCH_MS / 1000} s at most`,
    table(['request', 'count', 'p50', 'p999, median', 'p999, worst', 'max'], cells),
    '',
    `garbage collections: ${end.collections} (${perSecond} a second), ${milliseconds(end.pauseSeconds * 1e9)} ms in all, the longest ${milliseconds(end.longestPauseSeconds * 1e9)} ms`,
    `memory, warm and at the end: resident ${mebibytes(warm.residentBytes)} and ${mebibytes(end.residentBytes)} MiB, heap ${mebibytes(warm.heapBytes)} and ${mebibytes(end.heapBytes)} MiB`,
  ].join('\n');
}

const milliseconds = (ns: number): string => (ns / 1e6).toFixed(3);
const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
