import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CpgError } from './errors.js';

/** A member inside the addon. Opaque. */
export type NativeHandle = object & { readonly unit?: 'NativeHandle' };

/** Layout of the control block, as in native/member.h: 32-bit words, then the counters as doubles, then small payloads. */
export const Control = {
  NODE_ID: 0,
  MESSAGE_BYTES_MAX: 1,
  QUORUM_TYPE: 2,
  /** Of a batch without a buffer: bytes of its payloads, which are in the block itself. */
  INLINE_BYTES: 3,
  QUORUM_ROWS: 8,
  QUORUM_ROWS_MAX: 16,
  EVENT_ROWS: 8 + 16 * 5,
  EVENT_ROWS_MAX: 64,
  /** A row: kind, node id (of a quorum row: quorate), pid, offset in the batch, length. */
  ROW_WORDS: 5,
  WORDS: 8 + (16 + 64) * 5,
  COUNTERS: 10,
  /** After the counters. */
  INLINE_BYTES_MAX: 4096,
} as const;
/** The counters, in their order. */
export const Counter = {
  QUEUED_MESSAGES: 0,
  QUEUED_BYTES: 1,
  IN_FLIGHT_MESSAGES: 2,
  IN_FLIGHT_BYTES: 3,
  SENT_MESSAGES: 4,
  SENT_BYTES: 5,
  DELIVERED_MESSAGES: 6,
  DELIVERED_BYTES: 7,
  BATCHES: 8,
  TRY_AGAINS: 9,
} as const;
/** Where a small batch's payloads are. */
export const INLINE_AT = Control.WORDS * 4 + Control.COUNTERS * 8;
export const CONTROL_BYTES = INLINE_AT + Control.INLINE_BYTES_MAX;

export const EventKind = { MESSAGE: 0, CONFCHG: 1, RING: 2, QUORUM: 3 } as const;
export const Signal = { JOB: 0, DRAIN: 1, DIED: 2, CLOSED: 3 } as const;
export const Job = { OPEN: 0, JOIN: 1, LEAVE: 2 } as const;
export const Sent = { TAKEN: 0, FULL: 1, TOO_BIG: 2, CLOSED: 3, NO_MEMORY: 4 } as const;

/** The whole native surface. Tests may inject another one. */
export interface CpgBinding {
  /**
   * A member that is not opened yet. `onBatch(bytes, quorums, events)` gets one batch, whose rows are in `control`, and its payloads too where `bytes` is null; after an exception it is called again
   * without arguments for the rest of the batch. `onSignal(kind, job, csError, text)` gets everything else.
   */
  create(
    group: string,
    cpgLibrary: string,
    quorumLibrary: string | null,
    control: ArrayBuffer,
    inFlightMessagesMax: number,
    inFlightBytesMax: number,
    onBatch: (bytes?: Buffer | null, quorums?: number, events?: number) => void,
    onSignal: (kind: number, job: number, csError: number, text: string) => void,
  ): NativeHandle;
  /** Starts a `Job` on a thread; its result comes as Signal.JOB. False: not now. */
  run(handle: NativeHandle, job: number): boolean;
  /** Returns a `Sent`. Copies. */
  send(handle: NativeHandle, bytes: Uint8Array): number;
  /** Ends all events at once; Signal.CLOSED when corosync knows. */
  close(handle: NativeHandle): void;
  /** Does not wait for Signal.CLOSED any longer. */
  release(handle: NativeHandle): void;
}

const ADDON = 'corosync_cpg.node';

/**
 * Loads the addon: the shipped binary of this architecture, which serves glibc and musl, else a build of one's own (`node native/build.mjs`).
 * Throws ERR_CPG_BINDING, which says what was tried and why it failed.
 *
 * @param root Directory that holds `prebuilds` and `build`. Default: this package's own (src/ and dist/ stand directly
 *   below it). An application that bundles this package gives its own.
 */
export function loadBinding(root = dirname(dirname(fileURLToPath(import.meta.url)))): CpgBinding {
  if (process.platform !== 'linux') {
    throw new CpgError('ERR_CPG_BINDING', `corosync is Linux only here, not ${process.platform}`);
  }
  const require = createRequire(import.meta.url);
  const candidates = [
    join(root, 'prebuilds', `linux-${process.arch}`, ADDON),
    join(root, 'build', 'Release', ADDON),
  ];
  const failures: string[] = [];
  for (const path of candidates) {
    try {
      return require(path) as CpgBinding;
    } catch (cause) {
      failures.push(cause instanceof Error ? (cause.message.split('\n')[0] as string) : String(cause));
    }
  }
  throw new CpgError(
    'ERR_CPG_BINDING',
    `no addon for linux-${process.arch}: ${failures.join('; ')}. Build it: node ${join(root, 'native', 'build.mjs')}`,
  );
}
