import type { RunReport } from '../driver.js';
import { allowedCpus, compileNative } from '../native.js';
import { type Ratio, ratioOfRounds } from '../statistics.js';
import { type Subject, startSubject } from '../subjects.js';
import { goFirst } from './place.js';

/** Runs in each round: what no node needs to be asked for. The written region stays marked by lazy clear. */
const RUNS = [
  { key: 'rewrite', spec: { script: 'write', pattern: 'hot', log: 0 } },
  { key: 'question', spec: { script: 'in_sync', log: 0 } },
] as const;

const LOG = { log: 0, regions: 2 ** 16 };

/** Reports of one round by run. */
export interface LocalRound {
  readonly singled: Readonly<Record<string, RunReport>>;
  readonly clusterd: Readonly<Record<string, RunReport>>;
}

/**
 * singled with a `core` log and clusterd with a `clustered-core` one, alone in its group, each a process behind netlink, asked by the driver that plays the kernel in
 * `bench`. clusterd runs in `namespace`, where its corosync is.
 */
export async function playLocalRounds(options: {
  namespace: string;
  rounds: number;
  runMs: number;
  /** Of the round that warms up compilers and caches and is not kept. */
  warmMs: number;
}): Promise<LocalRound[]> {
  const { namespace, rounds, runMs, warmMs } = options;
  const programs = compileNative();
  const cpus = String(allowedCpus().at(-1));
  const subjects: Subject[] = [];
  try {
    subjects.push(await startSubject('singled', { programs, cpus }));
    subjects.push(await startSubject('clusterd', { programs, cpus, namespace }));
    const [singled, clusterd] = subjects as [Subject, Subject];
    for (const { pid } of subjects) goFirst(pid);
    await singled.driver.open({ ...LOG, args: 'core 2 nosync' });
    await clusterd.driver.open({ ...LOG, args: 'clustered-core 2 nosync' });
    const played: LocalRound[] = [];
    for (let round = 0; round <= rounds; round++) {
      const ms = round === 0 ? warmMs : runMs;
      const reports = { singled: {} as Record<string, RunReport>, clusterd: {} as Record<string, RunReport> };
      for (const { key, spec } of RUNS) {
        const order =
          round % 2 === 0 ? (['singled', 'clusterd'] as const) : (['clusterd', 'singled'] as const);
        for (const name of order)
          reports[name][key] = await (name === 'singled' ? singled : clusterd).run({ ...spec, ms });
      }
      if (round > 0) played.push(reports);
    }
    return played;
  } finally {
    await Promise.all(subjects.map((subject) => subject.stop()));
  }
}

/** clusterd's p50 to singled's, by run and request. */
export function localProcessRatios(rounds: readonly LocalRound[]): Map<string, Ratio> {
  const ratios = new Map<string, Ratio>();
  for (const { key } of RUNS) {
    for (const row of Object.keys(rounds[0]?.singled[key]?.types ?? {})) {
      const p50 = (side: 'singled' | 'clusterd') => rounds.map((round) => round[side][key]?.types[row]?.p50);
      const ratio = ratioOfRounds(p50('clusterd'), p50('singled'));
      if (ratio !== undefined) ratios.set(`${key}: ${row}`, ratio);
    }
    const cycle = (side: 'singled' | 'clusterd') => rounds.map((round) => round[side][key]?.cycle?.p50);
    const ratio = ratioOfRounds(cycle('clusterd'), cycle('singled'));
    if (ratio !== undefined) ratios.set(`${key}: whole cycle`, ratio);
  }
  return ratios;
}
