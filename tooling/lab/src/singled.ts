import { fileURLToPath } from 'node:url';
import { type Daemon as AnyDaemon, startDaemon } from './daemon.js';
import type { Machine } from './machine.js';

/** singled, running in a machine. */
export type Daemon = AnyDaemon<DaemonStatus>;

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
  const { faults, ...rest } = options;
  const program = { cli: SINGLED, ready: 'serving dirty logs' };
  if (faults === undefined) return startDaemon(machine, program, rest);
  return startDaemon(
    machine,
    { ...program, startedInstead: FAULTY },
    { ...rest, env: { DMLOG_FAULTS: JSON.stringify(faults) } },
  );
}
