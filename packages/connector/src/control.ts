import { BATCH_SLOTS_MAX } from './transport.js';

/**
 * The control block that `native/` and `batch.ts` share: 32-bit words in host byte order, then counters
 * as doubles. `native/dmlog_connector.h` holds the same table; the addon refuses a block of another size.
 *
 * | word | content                                                             | written by |
 * |    0 | slots of this batch                                                 | C          |
 * |    1 | requests answered with REPLY_LATER and not yet sent                 | JS         |
 * |    2 | netlink port of the socket (u32)                                    | C, at open |
 * |    3 | receive buffer, bytes                                               | C, at open |
 * |    8 | per slot: bytes received, or -1 for a slot that is not to be served | C          |
 * |   40 | per slot: port of the sender (u32)                                  | C          |
 * |   72 | per slot: bytes of the reply, 0 for none                            | JS         |
 * |  104 | 8 doubles: the counters below                                       | C          |
 */
export const CONTROL_COUNT = 0;
export const CONTROL_OUTSTANDING = 1;
export const CONTROL_PORT = 2;
export const CONTROL_RECEIVE_BUFFER = 3;
export const CONTROL_LENGTHS = 8;
export const CONTROL_PORTS = CONTROL_LENGTHS + BATCH_SLOTS_MAX;
export const CONTROL_REPLIES = CONTROL_PORTS + BATCH_SLOTS_MAX;
const CONTROL_WORDS = CONTROL_REPLIES + BATCH_SLOTS_MAX;

export const COUNTER_SENT = 0;
export const COUNTER_SEND_FAILURES = 1;
export const COUNTER_FOREIGN = 2;
export const COUNTER_OVERSIZED = 3;
export const COUNTER_OVERRUNS = 4;
export const COUNTER_POLL_IDLE_NS = 5;
export const COUNTER_POLL_HITS = 6;
const COUNTERS = 8;

export interface ControlBlock {
  readonly buffer: ArrayBuffer;
  readonly words: Int32Array;
  /** The same bytes as `words`, for ports, which use all 32 bits. */
  readonly unsigned: Uint32Array;
  readonly counters: Float64Array;
}

export function controlBlock(): ControlBlock {
  const buffer = new ArrayBuffer(CONTROL_WORDS * 4 + COUNTERS * 8);
  return {
    buffer,
    words: new Int32Array(buffer, 0, CONTROL_WORDS),
    unsigned: new Uint32Array(buffer, 0, CONTROL_WORDS),
    counters: new Float64Array(buffer, CONTROL_WORDS * 4, COUNTERS),
  };
}
