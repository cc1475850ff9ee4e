import { rm } from 'node:fs/promises';
import { bundle } from './bundle.js';
import type { Mutation } from './mutate.js';
import type { Report } from './orders.js';
import { Simulator } from './pool.js';

export interface Found {
  readonly bug: string;
  /** Null: it survived. */
  readonly report: Report | null;
  readonly seeds: number;
}

/** Simulates with a planted bug until it is found, with seeds from 1 on. */
export async function hunt(mutation: Mutation, seedsMax: number): Promise<Found> {
  const path = await bundle(mutation);
  const simulator = new Simulator(path);
  try {
    for (let seed = 1; seed <= seedsMax; seed++) {
      const report = await simulator.run({ seed, steps: null, only: null, trace: false });
      if (report.failure !== null) return { bug: mutation.name, report, seeds: seed };
    }
    return { bug: mutation.name, report: null, seeds: seedsMax };
  } finally {
    await simulator.close();
    await rm(path);
  }
}

/** Some hunts at the same time. */
export async function huntAll(
  mutations: readonly Mutation[],
  options: {
    readonly threads: number;
    readonly seedsMax: number;
    readonly onFound: (found: Found) => void;
  },
): Promise<void> {
  const left = [...mutations];
  const one = async () => {
    for (let next = left.shift(); next !== undefined; next = left.shift())
      options.onFound(await hunt(next, options.seedsMax));
  };
  await Promise.all(Array.from({ length: options.threads }, one));
}
