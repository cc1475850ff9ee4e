import { execFileSync } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { Command, InvalidArgumentError } from 'commander';
import { bundle, ROOT } from './bundle.js';
import { Coverage } from './coverage.js';
import { huntAll } from './hunt.js';
import type { Order, Report } from './orders.js';
import { PLANTED_BUGS } from './planted-bugs.js';
import { runAll, Simulator } from './pool.js';
import { shrink } from './shrink.js';
import { describeFailure, parseSteps, summary, textOfSteps } from './text.js';

const SEEDS_DEFAULT = 200;
/** A long run has at least so many seeds, and at least so many steps in all of them. */
const LONG_SEEDS = 2000;
const LONG_STEPS = 10_000_000;
/** A run that is not watched says so often how far it is, in milliseconds. */
const PROGRESS_MS = 10_000;
const SHRINK_RUNS_MAX = 1500;
const EXIT_FAILURE = 1;

interface Options {
  readonly seed?: number;
  readonly from: number;
  readonly seeds?: number;
  readonly steps?: number;
  readonly only?: string;
  readonly threads: number;
  readonly trace?: boolean;
  readonly shrink?: boolean;
  readonly long?: boolean;
  readonly keepGoing?: boolean;
  readonly bugs?: string | true;
}

function whole(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('a whole number, at least 1');
  return value;
}

const program = new Command('simulate')
  .description(
    'Plays stories of kernels, daemons, disks and networks that fail, one for each seed, and checks what must hold.',
  )
  .option('--seed <n>', 'one run, bit for bit as it was', whole)
  .option('--from <n>', 'first seed', whole, 1)
  .option('--seeds <n>', `how many; default ${SEEDS_DEFAULT}`, whole)
  .option('--steps <n>', 'steps with faults, instead of as many as the seed has', whole)
  .option('--only <list>', 'of those only these: 1-5,9')
  .option('--threads <n>', 'at the same time', whole, availableParallelism())
  .option('--trace', 'print the story')
  .option('--shrink', 'print the shortest story that fails')
  .option(
    '--long',
    `at least ${LONG_SEEDS} seeds and ${LONG_STEPS} steps, unless --seeds says how many; fail if a rare situation was never reached`,
  )
  .option('--keep-going', 'do not stop at the first failure; tell all seeds that fail')
  .option(
    '--bugs [name]',
    'plant the bugs that have to be found (whose name has this in it), one after the other',
  )
  .parse();
const options = program.opts<Options>();

function commit(): string {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim();
  try {
    return `${git('rev-parse', '--short', 'HEAD')}${git('status', '--porcelain') === '' ? '' : ' and changes'}`;
  } catch {
    return 'unknown';
  }
}

function orderOf(seed: number, trace: boolean): Order {
  const { steps = null, only } = options;
  return { seed, steps, only: only === undefined ? null : parseSteps(only), trace };
}

async function playOne(seed: number): Promise<number> {
  const simulator = new Simulator(await bundle());
  try {
    const report = await simulator.run(orderOf(seed, options.trace === true && options.shrink !== true));
    for (const line of report.story) console.log(line);
    if (report.failure === null) {
      console.log(
        `seed ${seed}: ${report.parameters}: ${report.steps} steps, ${report.requests} requests, nothing found; digest ${report.digest}`,
      );
      return 0;
    }
    console.log(describeFailure(report, commit()));
    if (options.shrink === true) await shorten(simulator, report);
    return EXIT_FAILURE;
  } finally {
    await simulator.close();
  }
}

async function shorten(simulator: Simulator, report: Report): Promise<void> {
  const {
    last,
    steps,
    report: short,
  } = await shrink(report, (order) => simulator.run(order), {
    runsMax: SHRINK_RUNS_MAX,
    onProgress: (left, runs) => process.stderr.write(`\r${left} steps are left after ${runs} runs   `),
  });
  process.stderr.write('\n');
  const told = await simulator.run({ seed: report.seed, steps: last, only: steps, trace: true });
  for (const line of told.story) console.log(line);
  console.log(describeFailure(short, commit()));
  console.log(
    `again: pnpm simulate --seed ${report.seed} --steps ${last} --only ${textOfSteps(steps)} --trace`,
  );
}

/** Seeds from `--from` on, as many as were asked for; in a long run until it is long enough. */
function* orders(totals: { readonly steps: number }): Generator<Order, void> {
  const { from, long } = options;
  const untilLong = long === true && options.seeds === undefined;
  const least = options.seeds ?? (untilLong ? LONG_SEEDS : SEEDS_DEFAULT);
  for (let i = 0; i < least || (untilLong && totals.steps < LONG_STEPS); i++) yield orderOf(from + i, false);
}

/** What is told while seeds are played: on a terminal in place, else now and then. */
function progress(totals: { readonly runs: number; readonly steps: number }, failures: number): string {
  return `${totals.runs} seeds, ${totals.steps} steps, ${failures} failures`;
}

async function playMany(): Promise<number> {
  const { from, threads, keepGoing = false } = options;
  const coverage = new Coverage();
  const totals = { runs: 0, steps: 0, requests: 0, milliseconds: 0 };
  const startedAt = Date.now();
  const failures: Report[] = [];
  console.log(`commit ${commit()}, seeds from ${from} on, ${threads} at a time`);
  const { isTTY } = process.stderr;
  let toldAt = startedAt;
  const tell = () => {
    if (isTTY) process.stderr.write(`\r${progress(totals, failures.length)}   `);
    else if (Date.now() - toldAt >= PROGRESS_MS) {
      toldAt = Date.now();
      console.log(progress(totals, failures.length));
    }
  };
  const path = await bundle();
  await runAll(path, orders(totals), {
    threads,
    onReport: (report) => {
      totals.runs++;
      totals.steps += report.steps;
      totals.requests += report.requests;
      totals.milliseconds += report.milliseconds;
      coverage.add(report.coverage);
      if (report.failure !== null) {
        failures.push(report);
        if (keepGoing) console.log(describeFailure(report, commit()));
      }
      tell();
      return report.failure === null || keepGoing;
    },
  });
  await rm(path);
  if (isTTY) process.stderr.write('\n');
  console.log(summary(totals, coverage, (Date.now() - startedAt) / 1000));
  const [first, ...others] = failures.sort((a, b) => a.seed - b.seed);
  if (first !== undefined) {
    console.log(describeFailure(first, commit()));
    if (others.length > 0) console.log(`failing seeds: ${failures.map(({ seed }) => seed).join(', ')}`);
    return EXIT_FAILURE;
  }
  if (options.long === true && coverage.missing.length > 0) {
    console.log(`never reached: ${coverage.missing.join(', ')}`);
    return EXIT_FAILURE;
  }
  return 0;
}

async function playBugs(filter: string): Promise<number> {
  let survivors = 0;
  await huntAll(
    PLANTED_BUGS.filter(({ name }) => name.includes(filter)),
    {
      threads: options.threads,
      runsMax: options.seeds ?? SEEDS_DEFAULT,
      onFound: ({ bug, report, seeds }) => {
        if (report === null) survivors++;
        const how = report?.failure;
        console.log(
          how
            ? `found by seed ${seeds}: ${bug}: ${how.invariant} ${how.message.split('\n')[0]?.slice(0, 110)}`
            : `SURVIVED ${seeds} seeds: ${bug}`,
        );
      },
    },
  );
  return survivors > 0 ? EXIT_FAILURE : 0;
}

if (options.bugs !== undefined) process.exitCode = await playBugs(options.bugs === true ? '' : options.bugs);
else process.exitCode = options.seed === undefined ? await playMany() : await playOne(options.seed);
