import { rm } from 'node:fs/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bundle, hunt, PLANTED_BUGS } from '../src/index.js';

/** Runs for each bug; the long hunt is `pnpm simulate --bugs --seeds 2000`. */
const RUNS_MAX = Number(process.env['DMLOG_SIMULATOR_BUG_RUNS'] ?? 200);

let unbroken: string;

beforeAll(async () => {
  unbroken = await bundle();
});

afterAll(() => rm(unbroken));

it.each(PLANTED_BUGS.filter(({ survives }) => survives !== true).map((bug) => [bug.name, bug] as const))(
  'the simulation finds a planted bug: %s',
  async (_, bug) => {
    const { report, seeds } = await hunt(bug, { runsMax: RUNS_MAX, unbroken });
    expect(report?.failure, `it survived ${seeds} runs`).toBeTruthy();
  },
);
