import { fileURLToPath } from 'node:url';
import { type Daemon as AnyDaemon, type DaemonOptions, startDaemon } from './daemon.js';
import type { Machine } from './machine.js';
import type { DaemonStatus } from './singled.js';

/** clusterd, running in a machine. */
export type Clusterd = AnyDaemon<ClusterdStatus>;

/** What scenarios read of `clusterd status --json`. */
export interface ClusterdStatus extends DaemonStatus {
  readonly logs: readonly (DaemonStatus['logs'][number] & { readonly cluster?: ClusterLogStatus })[];
}

/** A node's share in a clustered log. */
export interface ClusterLogStatus {
  readonly nodeId: number | null;
  readonly quorate: boolean;
  readonly phase: string;
  readonly mirror: string;
  readonly writer: number | null;
  readonly position: number;
  /** Of the history so far: equal at equal positions on members that agree. Null without a state. */
  readonly digest: string | null;
  readonly members: readonly {
    readonly nodeId: number;
    readonly presence: string;
    readonly marks: number;
    readonly leases: number;
  }[];
  readonly needReload: readonly number[];
  readonly staleCount: number;
  readonly givenUpCount: number;
  readonly counters: Readonly<Record<string, number>>;
}

/** The built program: the host's path, which guests see too. */
export const CLUSTERD = fileURLToPath(new URL('../../../apps/clusterd/dist/cli.cjs', import.meta.url));

/** Starts clusterd in `machine` and returns when it answers the kernel. Corosync need not run yet. */
export function startClusterd(machine: Machine, options: DaemonOptions = {}): Promise<Clusterd> {
  return startDaemon(machine, { cli: CLUSTERD, ready: 'serving dirty logs' }, options);
}
