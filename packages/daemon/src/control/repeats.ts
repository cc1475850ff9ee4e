import { u32 } from './frame-fields.js';

/** The kernel repeats after 15 s (DM_ULOG_RETRY_TIMEOUT, drivers/md/dm-log-userspace-transfer.c); a little less, as its clock began earlier. */
const REPEAT_MS_MIN = 14_000;
/** What comes later than this is another request: nobody repeats so late. */
const REPEAT_MS_MAX = 20_000;

/** Requests that are remembered; of more, some are forgotten. A power of two. */
const SLOTS = 4096;

/**
 * Tells a request that the kernel repeats, under a new number, from a new one: the same log, type and first region as one that was left unanswered 15 s ago. What the
 * daemon never saw (a full receive buffer), and what it answered in vain, cannot be told.
 */
export class Repeats {
  readonly #keys = new Uint32Array(SLOTS);
  readonly #sinceMs = new Float64Array(SLOTS).fill(Number.NEGATIVE_INFINITY);
  #count = 0;

  /** Requests that were left unanswered, and unanswered again when the kernel repeated them. Never reset. */
  get count(): number {
    return this.#count;
  }

  /** The request with this key is not answered, at least not now. */
  unanswered(key: number, nowMs: number): void {
    const slot = key & (SLOTS - 1);
    const ageMs = nowMs - (this.#sinceMs[slot] as number);
    if (this.#keys[slot] === key && ageMs >= REPEAT_MS_MIN && ageMs <= REPEAT_MS_MAX) this.#count++;
    this.#keys[slot] = key;
    this.#sinceMs[slot] = nowMs;
  }

  /** It has been answered. */
  answered(key: number): void {
    const slot = key & (SLOTS - 1);
    if (this.#keys[slot] === key) this.#sinceMs[slot] = Number.NEGATIVE_INFINITY;
  }
}

/** What stays the same when the request at `offset` is repeated, as 32 bits. */
export function repeatKey(bytes: Uint8Array, offset: number): number {
  let key = u32(bytes, offset, 'type') & 0xff;
  for (const field of ['luidLow', 'luidHigh', 'region'] as const) {
    // The multiplier and the shift of MurmurHash3's finalizer.
    key = Math.imul(key ^ u32(bytes, offset, field), 0x85ebca6b);
    key ^= key >>> 13;
  }
  return key >>> 0;
}
