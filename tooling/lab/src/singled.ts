import { fileURLToPath } from 'node:url';
import type { GuestProcess } from './guest-process.js';
import type { Machine } from './machine.js';

/** A daemon that runs in a machine. */
export interface Daemon {
  readonly process: GuestProcess;
  /** `singled status --json`. */
  status(): Promise<DaemonStatus>;
  /** Kills it with this signal (default SIGTERM) and waits for its end. */
  stop(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Log lines so far, one parsed object each; what is not JSON is left out. */
  lines(): Record<string, unknown>[];
}

/** What scenarios read of `singled status --json`. */
export interface DaemonStatus {
  readonly transport: Readonly<Record<string, number | string>>;
  readonly logs: readonly {
    readonly uuid: string;
    /** `0x` and 16 hexadecimal digits. */
    readonly luid: string;
    readonly type: string;
    readonly state: string;
    readonly regionCount: number;
    readonly inSyncCount: number;
    readonly dirtyCount: number;
    readonly lazyCount: number;
    readonly recovering: number | null;
    readonly deviceStatus: string | null;
    readonly writes: number;
    readonly bytesWritten: number;
    readonly legFlushes: number;
    readonly requests: number;
  }[];
}

export interface SingledOptions {
  /** More command line arguments: `['--lazy-clear-ms', '0']`. */
  readonly args?: readonly string[];
  /** Faults, as `faulty-singled` understands them: another program is started then, built from the same parts. */
  readonly faults?: Readonly<Record<string, unknown>>;
  /** Default 30 s: node starts slowly in a guest under load. */
  readonly timeoutMs?: number;
}

const SINGLED = fileURLToPath(new URL('../../../apps/singled/dist/cli.cjs', import.meta.url));
const FAULTY = fileURLToPath(new URL('../dist/faulty-singled.js', import.meta.url));

/** Starts singled in `machine` and returns when it answers the kernel. */
export async function startSingled(machine: Machine, options: SingledOptions = {}): Promise<Daemon> {
  const program = options.faults === undefined ? SINGLED : FAULTY;
  const command = ['node', program, '--log-level', 'debug', ...(options.args ?? [])].join(' ');
  const env = options.faults === undefined ? {} : { DMLOG_FAULTS: JSON.stringify(options.faults) };
  const process = await machine.start(command, { env });
  await process.waitFor('serving dirty logs', options.timeoutMs ?? 30_000);
  return {
    process,
    status: async () => JSON.parse((await machine.run(`node ${SINGLED} status --json`)).stdout),
    stop: async (signal = 'SIGTERM') => {
      process.kill(signal);
      await process.exited;
    },
    lines: () => process.output().split('\n').flatMap(parseLine),
  };
}

function parseLine(line: string): Record<string, unknown>[] {
  try {
    return [JSON.parse(line)];
  } catch {
    return [];
  }
}
