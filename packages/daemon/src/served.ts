import type { DirtyLog, Effects, LogName, LogParameters } from '@dmlog/log';
import type { FrameView } from '@dmlog/protocol';

/**
 * What a disk log needs of its device. `LogDevice` is the real one; tests and other log types bring their own.
 * Callbacks are called exactly once, never before the method has returned.
 */
export interface ImageStore {
  /** `major:minor`, for STATUS_INFO and messages; a file's path in tests. */
  readonly deviceNumber: string;
  /** Reads the first `image.byteLength` bytes of the device. */
  readImage(image: Uint8Array, done: (error: Error | null) => void): void;
  /** Writes `count` (offset, length) pairs of `image` to the same offsets of the device; on stable media when `done(null)` is called. */
  writeRuns(
    image: Uint8Array,
    runs: readonly number[],
    count: number,
    done: (error: Error | null) => void,
  ): void;
  close(): void;
}

/** Flushes the volatile caches of a mirror's legs. */
export interface Legs {
  flush(done: (error: Error | null) => void): void;
  /** The table may have changed: look the legs up again. */
  invalidate(): void;
  close(): void;
}

/** Where a log's late replies go. */
export type LateReply = (seq: number, port: number, errno: number) => void;

/** Totals of one log since CTR. */
export interface ServedCounters {
  requests: number;
  lateReplies: number;
  writes: number;
  bytesWritten: number;
  legFlushes: number;
  legFlushFailures: number;
}

export function newServedCounters(): ServedCounters {
  return { requests: 0, lateReplies: 0, writes: 0, bytesWritten: 0, legFlushes: 0, legFlushFailures: 0 };
}

/** A log as the dispatcher sees it: what answers the requests of one table. */
export interface Served {
  readonly name: LogName;
  readonly log: DirtyLog;
  /** What its table says. */
  readonly parameters: LogParameters;
  readonly counters: ServedCounters;
  /** `major:minor` of the log device, or null. */
  readonly device: string | null;
  /** Device-mapper name of the mirror, once it was found; for people only. */
  readonly dmName: string | null;
  /** Whoever writes the image: logs with the same one never write it against each other. */
  readonly imageKeeper: object;
  /** Whether a write to the log device is under way. Absent where the log does not know. */
  readonly writing?: boolean;
  /** Some of its requests were left without an answer, and are to be repeated when there is one. Absent: none. */
  readonly owes?: boolean;
  /** Serves a request: `effects` holds the reply, everything else that was asked for is under way when this returns. */
  request(view: FrameView, port: number, effects: Effects): void;
  tick(nowMs: number): void;
  /** No I/O begins from now on, whatever ends or is heard. What was asked for meanwhile begins at {@link resume}: or another process does it. */
  pause(): void;
  resume(): void;
  /** Gives up what it holds. I/O under way ends unheard. Kept state stays: the next process goes on with it. */
  close(): void;
  /** Closes a log that the kernel does not have any more, and forgets its state. */
  discard(): void;
  /** Another log was resumed on this one's device. False while that one must not read the image yet. */
  giveUpImage(): boolean;
}
