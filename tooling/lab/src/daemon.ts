import { MAP_CELLS_MAX, type RegionMap } from '@dmlog/daemon';
import { GUEST_DIRECTORY } from './constants.js';
import { LabError } from './errors.js';
import type { GuestProcess } from './guest-process.js';
import type { Machine } from './machine.js';

/** Node starts slowly in a guest under load. */
const READY_TIMEOUT_MS = 30_000;

/** A daemon that runs in a machine. `Status` is what its `status --json` prints. */
export interface Daemon<Status = unknown> {
  readonly process: GuestProcess;
  /** `<program> status --json`. */
  status(): Promise<Status>;
  /** The same, asked of its control socket without the program: ten times as fast in a guest. */
  peek(): Promise<Status>;
  /** The log's regions, as `regions` of the control socket has them, one in each cell: for logs of up to 16,384 regions. */
  regions(uuid: string): Promise<RegionMap>;
  /** Kills it with this signal (default SIGTERM) and waits for its end. */
  stop(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Log lines so far, one parsed object each; what is not JSON is left out. */
  lines(): Record<string, unknown>[];
}

/** How a daemon with the manners of singled is started and asked: JSON lines on standard error, `status --json`, one line when it serves. */
export interface DaemonProgram {
  /** The built program, run by node: the host's path, which the guest sees too. */
  readonly cli: string;
  /** What is started instead of `cli`, such as a build with faults; `status` is still asked of `cli`. */
  readonly startedInstead?: string;
  /** What it says once requests are answered. */
  readonly ready: string | RegExp;
}

export interface DaemonOptions {
  /** More command line arguments: `['--lazy-clear-ms', '0']`. They follow `--log-level debug`, which they may override. */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Default 30 s. */
  readonly timeoutMs?: number;
}

/**
 * Starts a daemon in `machine` and returns when it has said that it serves.
 * @throws LabError ERR_LAB_COMMAND with its output when it ends instead, ERR_LAB_TIMEOUT.
 */
export async function startDaemon<Status>(
  machine: Machine,
  program: DaemonProgram,
  options: DaemonOptions = {},
): Promise<Daemon<Status>> {
  const started = program.startedInstead ?? program.cli;
  const command = ['node', started, '--log-level', 'debug', ...(options.args ?? [])].join(' ');
  const process = await machine.start(command, { env: options.env ?? {} });
  await process.waitFor(program.ready, options.timeoutMs ?? READY_TIMEOUT_MS);
  return {
    process,
    status: async () => JSON.parse((await machine.run(`node ${program.cli} status --json`)).stdout) as Status,
    peek: async () => ask<Status>(machine, program.cli, 'status'),
    regions: (log) => ask(machine, program.cli, 'regions', { log, cells: MAP_CELLS_MAX }),
    stop: async (signal = 'SIGTERM') => {
      process.kill(signal);
      await process.exited;
    },
    lines: () => process.output().split('\n').flatMap(parseLine),
  };
}

async function ask<Result>(
  machine: Machine,
  cli: string,
  method: string,
  params: unknown = null,
): Promise<Result> {
  const name = /([^/]+)\/dist\/cli\.cjs$/.exec(cli)?.[1];
  const { stdout } = await machine.run(
    `perl ${GUEST_DIRECTORY}/control.pl /run/dmlog/${name}.sock ${method} '${JSON.stringify(params)}'`,
  );
  const { result, error } = JSON.parse(stdout) as { result: Result; error?: unknown };
  if (result === undefined) throw new LabError('ERR_LAB_COMMAND', `${method}: ${JSON.stringify(error)}`);
  return result;
}

function parseLine(line: string): Record<string, unknown>[] {
  try {
    return [JSON.parse(line)];
  } catch {
    return [];
  }
}
