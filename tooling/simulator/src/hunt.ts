import { rm } from 'node:fs/promises';
import { bundle } from './bundle.js';
import type { Mutation } from './mutate.js';
import type { Report } from './orders.js';
import { parametersOf } from './parameters.js';
import { Simulator } from './pool.js';

export interface Found {
  readonly bug: string;
  /** Null: it survived. */
  readonly report: Report | null;
  /** Runs that were made. */
  readonly seeds: number;
}

/** Whether the seed's world runs the code that the bug is in. */
function isPlayedOn({ on }: Mutation, seed: number): boolean {
  const { clustered, kind, regionCount } = parametersOf(seed, null);
  switch (on) {
    case 'cluster':
      return clustered;
    case 'one machine':
      return !clustered;
    case 'large disk log':
      return kind === 'disk' && regionCount > 4096;
    default:
      return true;
  }
}

/** The seed that is known to find it, then those from 1 on whose world runs the code in question. */
function* seedsFor(mutation: Mutation): Generator<number> {
  if (mutation.seed !== undefined) yield mutation.seed;
  for (let seed = 1; ; seed++) if (seed !== mutation.seed && isPlayedOn(mutation, seed)) yield seed;
}

/** Simulates with a planted bug until it is found, with seeds from 1 on, of which only those are played whose world runs the code in question. */
export async function hunt(
  mutation: Mutation,
  { runsMax, unbroken }: { runsMax: number; unbroken: string },
): Promise<Found> {
  const path = await bundle(mutation);
  const simulator = new Simulator(path);
  const control = new Simulator(unbroken);
  let runs = 0;
  try {
    for (const seed of seedsFor(mutation)) {
      if (runs >= runsMax) break;
      runs++;
      const report = await simulator.run({ seed, steps: null, only: null, trace: false });
      if (report.failure === null) continue;
      // What is wrong without the bug, too, is another one.
      const without = await control.run({ seed, steps: null, only: null, trace: false });
      if (without.failure === null) return { bug: mutation.name, report, seeds: runs };
    }
    return { bug: mutation.name, report: null, seeds: runs };
  } finally {
    await simulator.close();
    await control.close();
    await rm(path);
  }
}

/** Some hunts at the same time. */
export async function huntAll(
  mutations: readonly Mutation[],
  options: {
    readonly threads: number;
    readonly runsMax: number;
    readonly onFound: (found: Found) => void;
  },
): Promise<void> {
  const left = [...mutations];
  const unbroken = await bundle();
  const one = async () => {
    for (let next = left.shift(); next !== undefined; next = left.shift())
      options.onFound(await hunt(next, { runsMax: options.runsMax, unbroken }));
  };
  try {
    await Promise.all(Array.from({ length: options.threads }, one));
  } finally {
    await rm(unbroken);
  }
}
