import { type FrameHandler, REPLY_LATER, type Transport } from '@dmlog/connector';
import { seqOfReply, u32, uuidOf } from './frame-fields.js';
import { LatencyHistograms } from './latency.js';
import { Repeats, repeatKey } from './repeats.js';

/**
 * Of requests that are answered in place one in so many is timed: the clock costs as much as serving one. A prime, as the kernel asks in rounds of 4 and 6, of which
 * every member must get its turn.
 */
export const TIMED_EVERY = 61;

/** Requests whose late answers are timed at once; of more, the older ones are forgotten. A power of two. */
const PENDING_SLOTS = 4096;

/** Requests of a tap whose replies it waits for at most. */
const AWAITED_MAX = 4096;

/** One datagram on its way. The bytes are the receiver's. */
export interface TappedFrame {
  /** Microseconds since the tap was opened. */
  readonly us: number;
  readonly dir: 'from-kernel' | 'to-kernel';
  /** Netlink port of the other side; 0 is the kernel. */
  readonly port: number;
  readonly bytes: Uint8Array;
}

export interface TapOptions {
  /** Only requests of this log, and their replies. */
  readonly uuid?: string;
  /** Only requests of these types, and their replies. */
  readonly types?: ReadonlySet<number>;
  readonly onFrame: (frame: TappedFrame) => void;
}

interface Tap extends TapOptions {
  readonly openedAt: number;
  /** Sequence numbers of requests that were shown and not answered yet, in their order. */
  readonly awaited: Set<number>;
}

/**
 * Stands between transport and dispatcher: times answers and lets operators look at what passes. While nobody looks it costs a request one decrement and two
 * comparisons, and one in {@link TIMED_EVERY} two looks at the clock.
 */
export class RequestObserver {
  readonly latencies = new LatencyHistograms();
  readonly #repeats = new Repeats();
  readonly #taps = new Set<Tap>();
  #arena: Uint8Array = new Uint8Array(0);
  #untilTimed = TIMED_EVERY;
  readonly #pendingSeq = new Uint32Array(PENDING_SLOTS);
  readonly #pendingType = new Uint8Array(PENDING_SLOTS);
  readonly #pendingKey = new Uint32Array(PENDING_SLOTS);
  readonly #pendingSince = new Float64Array(PENDING_SLOTS);

  /** Requests that were left unanswered, and unanswered again when the kernel repeated them after 15 s. */
  get repeated(): number {
    return this.#repeats.count;
  }

  /** `transport`, observed. For one transport only. */
  observe(transport: Transport): Transport {
    this.#arena = transport.arena;
    const { name, arena, port, receiveBufferBytes, handOver } = transport;
    return {
      name,
      arena,
      port,
      receiveBufferBytes,
      handOver,
      start: (handler) => transport.start(this.#handler(handler)),
      send: (bytes, to) => {
        transport.send(bytes, to);
        this.#sentLate(bytes, to);
      },
      stats: () => transport.stats(),
      close: () => transport.close(),
    };
  }

  /** Shows what passes from now on; returns what ends it. */
  tap(options: TapOptions): () => void {
    const tap: Tap = { ...options, openedAt: performance.now(), awaited: new Set() };
    this.#taps.add(tap);
    return () => void this.#taps.delete(tap);
  }

  #handler(inner: FrameHandler): FrameHandler {
    return (offset, length, port) => {
      if (--this.#untilTimed > 0 && this.#taps.size === 0) {
        const reply = inner(offset, length, port);
        if (reply <= 0) this.#unanswered(offset, reply);
        return reply;
      }
      return this.#observed(inner, offset, length, port);
    };
  }

  #sentLate(bytes: Uint8Array, port: number): void {
    const seq = seqOfReply(bytes);
    const slot = seq & (PENDING_SLOTS - 1);
    const type = this.#pendingType[slot] as number;
    if (type !== 0 && this.#pendingSeq[slot] === seq) {
      this.latencies.note(type, performance.now() - (this.#pendingSince[slot] as number));
      this.#repeats.answered(this.#pendingKey[slot] as number);
      this.#pendingType[slot] = 0;
    }
    if (this.#taps.size > 0) this.#showReply(bytes, port);
  }

  #observed(inner: FrameHandler, offset: number, length: number, port: number): number {
    const timed = this.#untilTimed <= 0;
    if (timed) this.#untilTimed = TIMED_EVERY;
    const type = u32(this.#arena, offset, 'type') & 0xff;
    if (this.#taps.size > 0) this.#showRequest(offset, length, port, type);
    const since = performance.now();
    const reply = inner(offset, length, port);
    if (reply <= 0) this.#unanswered(offset, reply);
    else {
      // A frame that is no request has no type.
      if (timed && type >= 1 && type <= 17) this.latencies.note(type, performance.now() - since);
      if (this.#taps.size > 0) this.#showReply(this.#arena.subarray(offset, offset + reply), port);
    }
    return reply;
  }

  /** `reply`: answered later, or never. */
  #unanswered(offset: number, reply: number): void {
    const now = performance.now();
    const key = repeatKey(this.#arena, offset);
    this.#repeats.unanswered(key, now);
    if (reply !== REPLY_LATER) return;
    const seq = u32(this.#arena, offset, 'seq');
    const slot = seq & (PENDING_SLOTS - 1);
    this.#pendingSeq[slot] = seq;
    this.#pendingType[slot] = u32(this.#arena, offset, 'type') & 0xff;
    this.#pendingSince[slot] = now;
    this.#pendingKey[slot] = key;
  }

  #showRequest(offset: number, length: number, port: number, type: number): void {
    for (const tap of this.#taps) {
      if (tap.types !== undefined && !tap.types.has(type)) continue;
      if (tap.uuid !== undefined && uuidOf(this.#arena, offset) !== tap.uuid) continue;
      tap.awaited.add(u32(this.#arena, offset, 'seq'));
      if (tap.awaited.size > AWAITED_MAX) tap.awaited.delete(tap.awaited.values().next().value as number);
      show(tap, 'from-kernel', port, this.#arena.slice(offset, offset + length));
    }
  }

  #showReply(bytes: Uint8Array, port: number): void {
    const seq = seqOfReply(bytes);
    for (const tap of this.#taps) {
      if (tap.awaited.delete(seq)) show(tap, 'to-kernel', port, bytes.slice());
    }
  }
}

function show(tap: Tap, dir: TappedFrame['dir'], port: number, bytes: Uint8Array): void {
  tap.onFrame({ us: Math.round((performance.now() - tap.openedAt) * 1000), dir, port, bytes });
}
