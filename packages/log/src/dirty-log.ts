import type { FrameView } from '@dmlog/protocol';
import type { Effects } from './effects.js';
import type { LogMemory } from './log-memory.js';
import type { LogParameters } from './parameters.js';

/** Where a log stands in the exchange of tables. */
export type LogState =
  /** Made by CTR, never resumed: the inactive table's log. */
  | 'constructed'
  /** RESUME was asked and waits for the image. */
  | 'resuming'
  /** The live table's log. */
  | 'live'
  /** The live table's log, its device suspended. */
  | 'suspended'
  /** DTR was asked. Every further request is unknown. */
  | 'destroyed';

/** What an operator sees of a log. */
export interface LogSummary {
  readonly type: string;
  readonly state: LogState;
  readonly regionSizeSectors: number;
  readonly regionCount: number;
  readonly inSyncCount: number;
  /** Regions that are not clean: marked, held by lazy clear, or out of sync. */
  readonly dirtyCount: number;
  /** The region handed out for recovery, or null. */
  readonly recovering: number | null;
  /** `A` alive, `D` log device failed, `F` its flush failed; null without a log device. */
  readonly deviceStatus: 'A' | 'D' | 'F' | null;
}

/** Of some regions, how many are in sync and how many are clean. */
export interface RegionCounts {
  readonly inSync: number;
  readonly clean: number;
}

/** What every log type offers to the daemon. All calls are synchronous and pure: they change the log and fill `effects`. */
export interface DirtyLog {
  readonly parameters: LogParameters;
  readonly state: LogState;
  /** True while something waits for time to pass: call `tick` a few times a second. */
  readonly needsTick: boolean;
  /** Serves a request of any type but CTR. `port` is kept for late replies only. */
  request(view: FrameView, port: number, effects: Effects): void;
  /** `nowMs` is a monotonic clock in milliseconds with any origin. */
  tick(nowMs: number, effects: Effects): void;
  /** Takes over what a process that died left of this log; null, or why it cannot be believed. Before any request. */
  restore(memory: LogMemory): string | null;
  summary(): LogSummary;
  /** Counts regions `from..to-1`, at a step per 32 regions. All zero while the log has no bitmaps. */
  countRegions(from: number, to: number): RegionCounts;
  /** Throws when a numbered invariant does not hold. For tests and the simulator. */
  checkInvariants(): void;
}
