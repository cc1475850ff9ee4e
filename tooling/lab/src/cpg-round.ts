import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { GUEST_DIRECTORY } from './constants.js';
import { LabError } from './errors.js';
import { hostCommand } from './host-command.js';
import type { Machine } from './machine.js';
import { cached } from './packages.js';

const SOURCE = `${GUEST_DIRECTORY}/cpg-round.c`;
const ROUNDS_TIMEOUT_MS = 120_000;

/** Microseconds of the guest's clock. Compare them with each other only: a guest is far slower than its host. */
export interface RoundTimes {
  readonly medianUs: number;
  readonly p90Us: number;
}

/** How long an ordered message takes from `cpg_mcast_joined` to its own delivery: one turn of the token. */
export async function measureRounds(machine: Machine, rounds: number): Promise<RoundTimes> {
  const program = await compiled();
  const { stdout } = await machine.run(`${program} ${rounds}`, { timeoutMs: ROUNDS_TIMEOUT_MS });
  const match = /^median (\d+) p90 (\d+)$/m.exec(stdout);
  if (match === null) throw new LabError('ERR_LAB_COMMAND', `cpg-round said:\n${stdout}`);
  return { medianUs: Number(match[1]), p90Us: Number(match[2]) };
}

/** The program, compiled once for each version of its source. */
async function compiled(): Promise<string> {
  const version = createHash('sha256').update(readFileSync(SOURCE)).digest('hex').slice(0, 12);
  const directory = await cached(`tools/cpg-round-${version}`, async (target) => {
    const result = await hostCommand('cc', ['-O1', '-o', `${target}/cpg-round`, SOURCE, '-ldl']);
    if (result.code !== 0)
      throw new LabError('ERR_LAB_HOST', `cc cannot compile ${SOURCE}:\n${result.output}`);
  });
  return `${directory}/cpg-round`;
}
