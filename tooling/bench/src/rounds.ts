import type { LogSpec, RunReport, RunSpec } from './driver.js';
import { type StartOptions, type Subject, type SubjectName, startSubject } from './subjects.js';

/** Region counts the targets name. */
export const REGION_COUNTS = { small: 2 ** 16, middle: 2 ** 21, large: 2 ** 27 } as const;

/** Mirrors that have one request each in flight. */
export const IN_FLIGHT = 16;

/** Driver slots. `pool` is the first of {@link IN_FLIGHT}. */
const SLOT = { nosync: 0, resync: 1, pool: 2, life: 20, middle: 30, large: 40 } as const;

/** One run that is repeated in every round. */
export interface Workload {
  /** Key of its reports, and its title. */
  readonly key: string;
  readonly spec: RunSpec;
  /** Which subjects play it; all when absent. */
  readonly only?: readonly SubjectName[];
}

/** Reports by subject and workload, one per round. */
export type RoundReports = Map<SubjectName, Map<string, RunReport[]>>;

/** What stands open while rounds are played. */
interface OpenLog extends LogSpec {
  /** Only made known, for the script `lifecycle`. */
  readonly prepareOnly?: boolean;
  readonly only?: readonly SubjectName[];
}

export interface RoundsOptions extends StartOptions {
  readonly subjects: readonly SubjectName[];
  readonly rounds: number;
  /** Length of one run in ms. */
  readonly runMs: number;
  /** Also play larger logs, on singled. */
  readonly sizes: boolean;
  /** Also with a driver that never sleeps. */
  readonly spin: boolean;
  /** Keys of the workloads to play. Default: all. */
  readonly keys?: readonly string[];
  readonly onRound?: (round: number) => void;
}

/**
 * Starts every subject, each in its own namespace, opens the logs, and plays all workloads once per round, changing from
 * subject to subject within the round and beginning with another one each time.
 */
export async function playRounds(options: RoundsOptions): Promise<RoundReports> {
  const started: Subject[] = [];
  const reports: RoundReports = new Map();
  const logs = openLogs(options);
  const workloads = planWorkloads(options).filter(({ key }) => options.keys?.includes(key) ?? true);
  try {
    for (const name of options.subjects) {
      started.push(await startSubject(name, options));
      reports.set(name, new Map());
    }
    for (const subject of started) await openAll(subject, logs);
    // The first pass warms up compilers and caches and is not kept.
    await playRound(started, workloads);
    for (let round = 0; round < options.rounds; round++) {
      const turn = round % started.length;
      const order = [...started.slice(turn), ...started.slice(0, turn)];
      await playRound(order, workloads, reports);
      options.onRound?.(round);
    }
    for (const subject of started) await closeAll(subject, logs);
  } finally {
    await Promise.all(started.map((subject) => subject.stop()));
  }
  return reports;
}

async function playRound(
  subjects: readonly Subject[],
  workloads: readonly Workload[],
  into?: RoundReports,
): Promise<void> {
  for (const { key, spec, only } of workloads) {
    for (const subject of subjects) {
      if (only !== undefined && !only.includes(subject.name)) continue;
      const report = await subject.run({ ...spec, strict: subject.name.startsWith('singled') });
      if (into === undefined) continue;
      const ofSubject = into.get(subject.name)!;
      ofSubject.set(key, [...(ofSubject.get(key) ?? []), report]);
    }
  }
}

const SINGLED: readonly SubjectName[] = ['singled'];

/** Cycles of a table's life per round. One at 2^27 regions builds whole bitmaps: a few must do. */
const LIFE_CYCLES = 32;
const LIFE_CYCLES_SIZED = 6;

function openLogs(options: RoundsOptions): OpenLog[] {
  const { small, middle, large } = REGION_COUNTS;
  const logs: OpenLog[] = [
    { log: SLOT.nosync, regions: small, args: 'core 2 nosync' },
    { log: SLOT.resync, regions: small, args: 'core 2' },
    { log: SLOT.life, regions: small, args: 'core 2 nosync', prepareOnly: true },
  ];
  for (let i = 0; i < IN_FLIGHT; i++)
    logs.push({ log: SLOT.pool + i, regions: small, args: 'core 2 nosync' });
  if (options.sizes) {
    for (const [slot, regions] of [[SLOT.middle, middle] as const, [SLOT.large, large] as const]) {
      logs.push({ log: slot, regions, args: 'core 2 nosync', only: SINGLED });
      logs.push({ log: slot + 1, regions, args: 'core 2', only: SINGLED });
      logs.push({ log: slot + 2, regions, args: 'core 2 nosync', prepareOnly: true, only: SINGLED });
    }
  }
  return logs;
}

/** Key of a workload at another region count. */
export function sizedKey(key: string, regions: number): string {
  return `${key} @2^${Math.log2(regions)}`;
}

function planWorkloads({ runMs: ms, sizes, spin }: RoundsOptions): Workload[] {
  const workloads: Workload[] = [
    { key: 'types', spec: { script: 'types', log: SLOT.nosync, ms } },
    { key: 'write', spec: { script: 'write', log: SLOT.nosync, ms } },
    { key: 'resync', spec: { script: 'resync', log: SLOT.resync, ms } },
    { key: 'lifecycle', spec: { script: 'lifecycle', log: SLOT.life, cycles: LIFE_CYCLES } },
    {
      key: '16 mirrors write',
      spec: { script: 'write', log: SLOT.pool, logs: IN_FLIGHT, lanes: IN_FLIGHT, ms },
    },
    { key: '16 pipelined', spec: { script: 'in_sync', log: SLOT.nosync, lanes: IN_FLIGHT, ms } },
  ];
  if (spin) {
    workloads.push({
      key: 'write, driver spins',
      spec: { script: 'write', log: SLOT.nosync, ms, wait: 'spin' },
    });
    workloads.push({
      key: 'resync, driver spins',
      spec: { script: 'resync', log: SLOT.resync, ms, wait: 'spin' },
    });
  }
  if (sizes) {
    for (const [slot, regions] of [
      [SLOT.middle, REGION_COUNTS.middle] as const,
      [SLOT.large, REGION_COUNTS.large] as const,
    ]) {
      const at = (key: string, spec: RunSpec) =>
        workloads.push({ key: sizedKey(key, regions), spec, only: SINGLED });
      at('types', { script: 'types', log: slot, ms });
      at('write', { script: 'write', log: slot, ms });
      at('resync', { script: 'resync', log: slot + 1, ms });
      at('lifecycle', { script: 'lifecycle', log: slot + 2, cycles: LIFE_CYCLES_SIZED });
    }
  }
  return workloads;
}

async function openAll(subject: Subject, logs: readonly OpenLog[]): Promise<void> {
  for (const { prepareOnly, only, ...spec } of logs) {
    if (only !== undefined && !only.includes(subject.name)) continue;
    if (prepareOnly === true) await subject.driver.prepare(spec);
    else await subject.driver.open(spec);
  }
}

async function closeAll(subject: Subject, logs: readonly OpenLog[]): Promise<void> {
  for (const { log, prepareOnly, only } of logs) {
    if (prepareOnly === true || (only !== undefined && !only.includes(subject.name))) continue;
    await subject.driver.close(log);
  }
}
