import { LabError } from './errors.js';
import { guestProgram } from './guest-program.js';
import type { Machine } from './machine.js';

const ROUNDS_TIMEOUT_MS = 120_000;

/** Microseconds of the guest's clock. Compare them with each other only: a guest is far slower than its host. */
export interface RoundTimes {
  readonly medianUs: number;
  readonly p90Us: number;
}

/** How long an ordered message takes from `cpg_mcast_joined` to its own delivery: one turn of the token. */
export async function measureRounds(machine: Machine, rounds: number): Promise<RoundTimes> {
  const program = await guestProgram('cpg-round', ['-ldl']);
  const { stdout } = await machine.run(`${program} ${rounds}`, { timeoutMs: ROUNDS_TIMEOUT_MS });
  const match = /^median (\d+) p90 (\d+)$/m.exec(stdout);
  if (match === null) throw new LabError('ERR_LAB_COMMAND', `cpg-round said:\n${stdout}`);
  return { medianUs: Number(match[1]), p90Us: Number(match[2]) };
}
