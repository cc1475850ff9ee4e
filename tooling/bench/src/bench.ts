import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Footprint, measureFootprint } from './footprint.js';
import { allowedCpus, compileNative } from './native.js';
import { ensureCacheDirectory } from './paths.js';
import { playRounds, type RoundReports, type RoundsOptions } from './rounds.js';
import { availableSubjects, type SubjectName } from './subjects.js';
import { renderComparison, renderSizes, renderState, renderVerdicts } from './table.js';
import {
  judgeFootprint,
  judgeLost,
  judgeOneCore,
  judgeSizes,
  judgeState,
  judgeTwoCores,
  STATE_WORKLOADS,
  type Verdict,
} from './targets.js';

export interface BenchOptions {
  /** Fewer and shorter rounds: below 40 s instead of below 3 minutes. */
  readonly quick?: boolean;
  /** Default: all that are built. The echo is always played. */
  readonly subjects?: readonly SubjectName[];
  /** Further arguments of singled. */
  readonly singledArgs?: readonly string[];
  /** Where the tables go, part by part. Default: nowhere. */
  readonly print?: (text: string) => void;
}

export interface BenchResult {
  readonly verdicts: readonly Verdict[];
  readonly oneCore: RoundReports;
  /** Two cores, placed by the scheduler. Absent on a machine with one processor. */
  readonly unpinned?: RoundReports;
  /** Two cores, one for each side. Absent on a machine with one processor. */
  readonly apart?: RoundReports;
  /** singled with and without runtime state, on one core. Absent without singled. */
  readonly state?: RoundReports;
  /** Absent without singled. */
  readonly footprint?: Footprint;
}

/** Lengths of the parts; a round takes runMs x workloads x subjects. */
/** Two periods of singled's lazy clear (3 s) and some: then everything that is owed to the log device has been written. */
const SETTLE_MS = 7500;
const FULL = { rounds: 7, runMs: 150, footprintMs: 500, settleMs: SETTLE_MS, idleMs: 3000, diskCycles: 200 };
const QUICK = { rounds: 3, runMs: 40, footprintMs: 200, settleMs: SETTLE_MS, idleMs: 3000, diskCycles: 50 };

/**
 * Runs the whole bench and writes `.cache/latest.json`. Needs root, `cc`, `taskset` and `unshare`.
 * Throws `BenchError`: a reply that the kernel would not accept ends the run.
 */
export async function runBench(options: BenchOptions = {}): Promise<BenchResult> {
  const lengths = options.quick === true ? QUICK : FULL;
  const print = options.print ?? (() => {});
  const programs = compileNative();
  const subjects = chooseSubjects(options.subjects, print);
  const singled = subjects.includes('singled');
  const cpus = allowedCpus();
  const common = { programs, singledArgs: options.singledArgs ?? [], ...lengths };

  print(
    `\nEvery number is a ratio of rounds that alternated on this machine: median [least-most] of ${lengths.rounds}.\n`,
  );
  // Polling on the only core would keep the driver from running: no daemon does it.
  const pinned = subjects.filter((name) => name !== 'echo poll');
  const oneCore = await playRounds({
    ...common,
    subjects: pinned,
    cpus: String(cpus.at(-1)),
    sizes: singled,
    spin: false,
  });
  const verdicts = [...(singled ? judgeOneCore(oneCore) : [])];
  print(`${renderComparison('one core', oneCore, false)}\n`);

  const twoCores = cpus.length > 1 ? await playTwoCores(cpus, { ...common, subjects }, print) : undefined;
  if (twoCores !== undefined && singled) verdicts.push(...judgeTwoCores(twoCores.unpinned, twoCores.apart));
  let footprint: Footprint | undefined;
  let state: RoundReports | undefined;
  if (singled) {
    state = await playRounds({
      ...common,
      subjects: ['singled', 'singled, no state'],
      cpus: String(cpus.at(-1)),
      sizes: false,
      spin: false,
      keys: STATE_WORKLOADS,
    });
    verdicts.push(judgeState(state));
    print(`${renderState(state)}\n`);
    verdicts.push(...judgeSizes(oneCore));
    print(`${renderSizes(oneCore)}\n`);
    footprint = await measureFootprint({ ...common, runMs: lengths.footprintMs, cpus: cpus.join(',') });
    verdicts.push(...judgeFootprint(footprint));
  }
  verdicts.push(
    judgeLost([oneCore, ...Object.values(twoCores ?? {}), ...(state === undefined ? [] : [state])]),
  );
  print(`${renderVerdicts(verdicts)}\n`);
  const result: BenchResult = {
    verdicts,
    oneCore,
    ...twoCores,
    ...(state === undefined ? {} : { state }),
    ...(footprint === undefined ? {} : { footprint }),
  };
  const path = join(ensureCacheDirectory(), 'latest.json');
  writeFileSync(path, `${JSON.stringify(result, mapsAsObjects, 1)}\n`);
  return result;
}

async function playTwoCores(
  cpus: readonly number[],
  common: Omit<RoundsOptions, 'cpus' | 'sizes' | 'spin'>,
  print: (text: string) => void,
): Promise<{ unpinned: RoundReports; apart: RoundReports }> {
  const pair = cpus.slice(0, 2).join(',');
  // No spinning driver here: the scheduler may leave two processes that never sleep on one processor.
  const unpinned = await playRounds({ ...common, cpus: pair, sizes: false, spin: false });
  print(`${renderComparison('two cores, unpinned', unpinned, false)}\n`);
  const places = { driver: cpus[0]!, subject: cpus[1]! };
  const apart = await playRounds({ ...common, cpus: pair, apart: places, sizes: false, spin: true });
  print(`${renderComparison('two cores, apart', apart, true)}\n`);
  return { unpinned, apart };
}

function chooseSubjects(
  wanted: readonly SubjectName[] | undefined,
  print: (text: string) => void,
): SubjectName[] {
  const available = availableSubjects();
  for (const name of ['transport', 'singled'] as const) {
    if (!available.includes(name)) print(`${name} is not built and not measured: run pnpm build`);
  }
  return available.filter((name) => name === 'echo' || wanted === undefined || wanted.includes(name));
}

function mapsAsObjects(_key: string, value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value;
}
