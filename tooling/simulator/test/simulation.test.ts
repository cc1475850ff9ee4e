import { rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundle, Coverage, type Order, type Report, runAll, Simulator, shrink } from '../src/index.js';

const SEEDS = Number(process.env['DMLOG_SIMULATOR_SEEDS'] ?? 40);
const orderOf = (seed: number): Order => ({ seed, steps: null, only: null, trace: false });

let path: string;
let simulator: Simulator;

beforeAll(async () => {
  path = await bundle();
  simulator = new Simulator(path);
});

afterAll(async () => {
  await simulator.close();
  await rm(path);
});

it(`nothing is found in seeds 1 to ${SEEDS}`, async () => {
  const coverage = new Coverage();
  const failures: Report[] = [];
  await runAll(path, Array.from({ length: SEEDS }, (_, i) => orderOf(i + 1)).values(), {
    threads: Math.min(2, availableParallelism()),
    onReport: (report) => {
      coverage.add(report.coverage);
      if (report.failure !== null) failures.push(report);
      return true;
    },
  });
  expect(
    failures.map(({ seed, failure }) => `seed ${seed}: ${failure?.invariant} ${failure?.message}`),
  ).toEqual([]);
  for (const situation of [
    'write acknowledged',
    'region recovered',
    'machine crash',
    'daemon death',
  ] as const)
    expect(coverage.counts[situation], situation).toBeGreaterThan(0);
});

describe('a replay', () => {
  it.each([1, 3, 5])(
    'of seed %i is the same, bit for bit, on another thread and with its story told',
    async (seed) => {
      const first = await simulator.run(orderOf(seed));
      const other = new Simulator(path);
      try {
        await other.run(orderOf(seed + 1));
        const again = await other.run({ ...orderOf(seed), trace: true });
        expect(again.digest).toBe(first.digest);
        expect(again.steps).toBe(first.steps);
        expect(again.story.length).toBeGreaterThan(10);
      } finally {
        await other.close();
      }
    },
  );
});

it('a failing story is made shorter, and still fails', async () => {
  const broken = await bundle({
    name: 'a short story',
    file: 'packages/cluster/src/state.ts',
    find: '!this.inSync.get(region) || this.isMarked(region)) return;',
    replace: '!this.inSync.get(region)) return;',
  });
  const other = new Simulator(broken);
  try {
    let failed: Report | null = null;
    for (let seed = 1; seed <= 20 && failed === null; seed++) {
      const report = await other.run(orderOf(seed));
      if (report.failure !== null) failed = report;
    }
    expect(failed?.failure?.invariant).toBe('state');
    const { last, steps, report } = await shrink(failed as Report, (order) => other.run(order), {
      runsMax: 30,
      onProgress: () => {},
    });
    expect(report.failure?.invariant).toBe('state');
    expect(steps.length).toBeLessThan(last);
  } finally {
    await other.close();
    await rm(broken);
  }
});
