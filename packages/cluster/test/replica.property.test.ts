import { describe, expect, it } from 'vitest';
import { playCluster, seen } from './replica-play.js';

const SEEDS = Number(process.env['DMLOG_REPLICA_SEEDS'] ?? 40);

describe.each(['core', 'disk'] as const)('kernels on a replicated %s log', (kind) => {
  it.each([false, true])(
    'legs never differ unknown, and become equal (faults: %s)',
    (faults) => {
      for (let seed = 1; seed <= SEEDS; seed++) {
        try {
          playCluster(seed, { kind, faults });
        } catch (cause) {
          throw new Error(`seed ${seed}: ${cause instanceof Error ? cause.message : cause}`, { cause });
        }
      }
    },
    240_000,
  );
});

it('the runs came to what they are about', () => {
  console.log(JSON.stringify(seen));
  for (const what of [
    'writes',
    'recoveries',
    'crashes',
    'powerCuts',
    'daemonDeaths',
    'reloads',
    'imageWrites',
  ] as const) {
    expect(seen[what], what).toBeGreaterThan(0);
  }
});
