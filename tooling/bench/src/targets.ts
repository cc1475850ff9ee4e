import type { RunReport, Summary } from './driver.js';
import type { Footprint } from './footprint.js';
import { REGION_COUNTS, type RoundReports, sizedKey } from './rounds.js';
import { median, type Ratio, ratioOfRounds } from './statistics.js';
import type { SubjectName } from './subjects.js';

/** What the daemon must reach. Ratios are to the echo unless the name says otherwise. */
export const TARGETS = {
  /** p50 of a round trip, both sides on one core. */
  oneCoreP50: 1.3,
  /** Requests per second with 16 in flight, both sides on one core. */
  oneCoreRate: 0.8,
  /** p50 of a round trip on two cores, the daemon polling and the echo sleeping. */
  twoCoresP50: 0.35,
  /** A cycle of the daemon that keeps state to that of the daemon that cannot. */
  stateP50: 1.05,
  /** Any request at 2^27 regions to the same at 2^16; RESUME excepted. */
  sizeP50: 1.2,
  idleTicks: 0,
  rssOneMirrorBytes: 90 << 20,
  bitsPerRegion: 6,
  /** One block of the log device per write to an idle region. */
  idleBytesPerCycle: 4096,
  hotBytesPerCycle: 0,
} as const;

/** Clears are written in batches that come on top of the marks' blocks; per cycle they may add this part of one block. */
export const CLEAR_BATCH_ALLOWANCE = 0.1;

/** One line of the verdict. */
export interface Verdict {
  readonly target: string;
  readonly value: string;
  readonly passed: boolean;
}

/** One row of a table: a kind of request, or a whole cycle. */
export interface Row {
  readonly workload: string;
  readonly row: string;
  /** Median over rounds of the echo's p50, for scale only. */
  readonly floorP50Ns: number | undefined;
  /** p50 to that of the echo. */
  readonly ratios: ReadonlyMap<SubjectName, Ratio>;
}

const MICROSECOND_NS = 1000;
/** The one request that may work in proportion to the region count. */
const SIZE_EXEMPT = new Set(['lifecycle: RESUME']);

/** What the latency targets are about: a table's life is not. */
const LATENCY_WORKLOADS = ['types', 'write', 'resync'];

/** Every request type and cycle of the workloads, each subject against the echo. */
export function compareRows(reports: RoundReports, workloads: readonly string[]): Row[] {
  const rows: Row[] = [];
  for (const workload of workloads) {
    const floor = reports.get('echo')?.get(workload) ?? [];
    for (const row of rowNames(floor)) {
      const floorP50 = floor.map((report) => pick(report, row)?.p50);
      const ratios = new Map<SubjectName, Ratio>();
      for (const [name, ofSubject] of reports) {
        if (name === 'echo') continue;
        const ratio = ratioOfRounds(
          (ofSubject.get(workload) ?? []).map((report) => pick(report, row)?.p50),
          floorP50,
        );
        if (ratio !== undefined) ratios.set(name, ratio);
      }
      rows.push({ workload, row, floorP50Ns: middle(floorP50), ratios });
    }
  }
  return rows;
}

/** Requests per second of each subject against the echo. */
export function compareRates(reports: RoundReports, workload: string): Map<SubjectName, Ratio> {
  const rates = (name: SubjectName) =>
    (reports.get(name)?.get(workload) ?? []).map((report) => report.requestsPerSecond);
  const ratios = new Map<SubjectName, Ratio>();
  for (const name of reports.keys()) {
    const ratio = name === 'echo' ? undefined : ratioOfRounds(rates(name), rates('echo'));
    if (ratio !== undefined) ratios.set(name, ratio);
  }
  return ratios;
}

/** singled at a larger region count against itself at 2^16, by request type. */
export function compareSizes(reports: RoundReports, regions: number): Map<string, Ratio> {
  const ratios = new Map<string, Ratio>();
  for (const workload of ['types', 'write', 'resync', 'lifecycle']) {
    const small = reports.get('singled')?.get(workload) ?? [];
    const large = reports.get('singled')?.get(sizedKey(workload, regions)) ?? [];
    for (const row of rowNames(small)) {
      const p50 = (list: readonly RunReport[]) => list.map((report) => pick(report, row)?.p50);
      const ratio = ratioOfRounds(p50(large), p50(small));
      // The cycle of a table's life contains RESUME.
      if (ratio !== undefined && !(workload === 'lifecycle' && row === CYCLE_ROW))
        ratios.set(`${workload}: ${row}`, ratio);
    }
  }
  return ratios;
}

/** The workloads in which state changes, and all request types. */
export const STATE_WORKLOADS: readonly string[] = LATENCY_WORKLOADS;

/** singled with its runtime state against itself without, by request type. */
export function compareState(reports: RoundReports): Map<string, Ratio> {
  const ratios = new Map<string, Ratio>();
  for (const workload of STATE_WORKLOADS) {
    const kept = reports.get('singled')?.get(workload) ?? [];
    const lost = reports.get('singled, no state')?.get(workload) ?? [];
    for (const row of rowNames(kept)) {
      const p50 = (list: readonly RunReport[]) => list.map((report) => pick(report, row)?.p50);
      const ratio = ratioOfRounds(p50(kept), p50(lost));
      if (ratio !== undefined) ratios.set(`${workload}: ${row}`, ratio);
    }
  }
  return ratios;
}

/** Judged by whole cycles: of single requests in microseconds the clock's own grain is more than a twentieth. */
export function judgeState(reports: RoundReports): Verdict {
  const cycles = [...compareState(reports)].filter(([row]) => row.endsWith(CYCLE_ROW));
  return worst(`runtime state: p50 of a cycle <= ${TARGETS.stateP50} x without`, cycles, TARGETS.stateP50);
}

export function judgeOneCore(reports: RoundReports): Verdict[] {
  const verdicts = [judgeP50(reports, LATENCY_WORKLOADS, TARGETS.oneCoreP50, 'one core: p50')];
  for (const workload of ['16 mirrors write', '16 pipelined']) {
    const ratio = compareRates(reports, workload).get('singled');
    if (ratio === undefined) continue;
    verdicts.push({
      target: `one core: requests/s, ${workload} >= ${TARGETS.oneCoreRate} x echo`,
      value: ratio.median.toFixed(2),
      passed: ratio.median >= TARGETS.oneCoreRate,
    });
  }
  return verdicts;
}

export function judgeTwoCores(unpinned: RoundReports, apart: RoundReports): Verdict[] {
  const limit = TARGETS.twoCoresP50;
  const spinning = ['write, driver spins', 'resync, driver spins'];
  return [
    judgeP50(unpinned, LATENCY_WORKLOADS, limit, 'two cores, unpinned: p50'),
    judgeP50(apart, LATENCY_WORKLOADS, limit, 'two cores, apart: p50'),
    judgeP50(apart, spinning, limit, 'two cores, apart, driver spins: p50'),
  ];
}

export function judgeSizes(reports: RoundReports): Verdict[] {
  const ratios = [...compareSizes(reports, REGION_COUNTS.large)];
  const isLife = ([row]: readonly [string, Ratio]) => row.startsWith('lifecycle: ');
  const life = ratios.filter(isLife).filter(([row]) => !SIZE_EXEMPT.has(row));
  const limit = TARGETS.sizeP50;
  return [
    worst(
      `2^27 regions, resumed log: p50 <= ${limit} x at 2^16`,
      ratios.filter((row) => !isLife(row)),
      limit,
    ),
    worst(`2^27 regions, table's life: p50 <= ${limit} x at 2^16`, life, limit),
  ];
}

export function judgeFootprint(footprint: Footprint): Verdict[] {
  const { disk } = footprint;
  const most = (target: string, value: number, limit: number, text: string): Verdict => ({
    target,
    value: text,
    passed: value <= limit,
  });
  const block = TARGETS.idleBytesPerCycle;
  return [
    most(
      'idle CPU, ticks of 10 ms = 0',
      footprint.idleTicks,
      TARGETS.idleTicks,
      `${footprint.idleTicks} in ${footprint.idleSeconds} s (${footprint.idleMicroseconds.toFixed(0)} us)`,
    ),
    most(
      `log bytes per write to an idle region <= ${block}`,
      disk.idleBytesPerCycle,
      block * (1 + CLEAR_BATCH_ALLOWANCE),
      `${disk.idleBytesPerCycle.toFixed(0)} (and ${disk.laterBytesPerCycle.toFixed(0)} later)`,
    ),
    most(
      'log bytes per write to a hot region = 0',
      disk.hotBytesPerCycle,
      TARGETS.hotBytesPerCycle,
      disk.hotBytesPerCycle.toFixed(1),
    ),
    most(
      'RSS with one mirror of 2^16 <= 90 MiB',
      footprint.rssOneMirrorBytes,
      TARGETS.rssOneMirrorBytes,
      `${(footprint.rssOneMirrorBytes / 2 ** 20).toFixed(1)} MiB`,
    ),
    most(
      `bits per region beyond <= ${TARGETS.bitsPerRegion}`,
      footprint.bitsPerRegion,
      TARGETS.bitsPerRegion,
      `${footprint.bitsPerRegion.toFixed(2)} (peak ${footprint.peakBitsPerRegion.toFixed(2)})`,
    ),
  ];
}

/** Requests that a subject did not answer in time, over all rounds of all environments. */
export function judgeLost(environments: readonly RoundReports[]): Verdict {
  const runs = environments.flatMap((reports) =>
    [...reports.values()].flatMap((ofSubject) => [...ofSubject.values()].flat()),
  );
  const lost = runs.reduce((sum, report) => sum + report.lost, 0);
  return { target: 'no request unanswered', value: String(lost), passed: lost === 0 };
}

function judgeP50(
  reports: RoundReports,
  workloads: readonly string[],
  limit: number,
  title: string,
): Verdict {
  const judged = compareRows(reports, workloads).flatMap(({ workload, row, ratios }) => {
    const ratio = ratios.get('singled');
    return ratio === undefined ? [] : [[`${workload}: ${row}`, ratio] as [string, Ratio]];
  });
  const verdict = worst(`${title} <= ${limit} x echo`, judged, limit);
  const bound = polledInC(reports, workloads);
  return bound === undefined
    ? verdict
    : { ...verdict, value: `${verdict.value}; C polling: ${bound.toFixed(2)}` };
}

/** What a C echo that polls reaches in the whole cycles: no daemon can do better on this machine. */
function polledInC(reports: RoundReports, workloads: readonly string[]): number | undefined {
  const cycles = compareRows(reports, workloads).filter(({ row }) => row === CYCLE_ROW);
  const ratios = cycles.flatMap(({ ratios }) => ratios.get('echo poll')?.median ?? []);
  return ratios.length === 0 ? undefined : median(ratios);
}

/** Every row must keep the limit: the worst one is named. */
function worst(target: string, rows: readonly (readonly [string, Ratio])[], limit: number): Verdict {
  const sorted = [...rows].sort((a, b) => b[1].median - a[1].median);
  const first = sorted[0];
  if (first === undefined) return { target, value: 'not measured', passed: false };
  const over = sorted.filter(([, ratio]) => ratio.median > limit).length;
  return {
    target,
    value: `worst ${first[1].median.toFixed(2)} (${first[0]}), ${over} of ${rows.length} rows over`,
    passed: over === 0,
  };
}

/** Name of the row that holds a whole cycle. */
export const CYCLE_ROW = 'whole cycle';

function rowNames(reports: readonly RunReport[]): string[] {
  const first = reports[0];
  if (first === undefined) return [];
  return [...Object.keys(first.types), ...(Object.keys(first.types).length > 1 ? [CYCLE_ROW] : [])];
}

function pick(report: RunReport, row: string): Summary | undefined {
  return row === CYCLE_ROW ? report.cycle : report.types[row];
}

function middle(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined).sort((a, b) => a - b);
  return known[known.length >> 1];
}

/** Nanoseconds as text in microseconds. */
export function microseconds(ns: number | undefined): string {
  return ns === undefined ? '' : (ns / MICROSECOND_NS).toFixed(1);
}
