import { type FaultSink, faultSink, overran, sendFailed } from './faults.js';
import { type CheckedOptions, checkOptions } from './options.js';
import { requireStartable, serveFrame } from './serve-frame.js';
import { emptyStats } from './stats.js';
import {
  BATCH_SLOTS_MAX,
  type FrameHandler,
  SLOT_BYTES,
  type SocketHandOver,
  type Transport,
  type TransportOptions,
  type TransportStats,
} from './transport.js';

/** A port that netlink would not give to a socket of this process: high half set, low half zero. */
const LOOPBACK_PORT = 0x7fff0000;

export interface LoopbackTransportOptions extends TransportOptions {
  /** Called for each reply, in order. The bytes are a copy and belong to the observer. */
  readonly onReply?: (bytes: Uint8Array, port: number) => void;
}

/** The contract in memory, and the other end of the wire. */
export interface LoopbackTransport extends Transport {
  readonly name: 'loopback';
  /**
   * A datagram arrives from `port` (0, the default, is the kernel). Before `start` it waits. Otherwise the handler has run,
   * and its reply was observed, when this returns; called from inside the handler it is served after the current one.
   */
  deliver(bytes: Uint8Array, port?: number): void;
  /** The receive buffer overflows once: counted and reported as on a real socket. */
  simulateOverrun(): void;
  /** The socket refuses the next `count` replies. */
  failSends(count: number): void;
}

/** For tests: deterministic, synchronous, no system call. Throws ERR_CONNECTOR_USAGE for options out of range. */
export function loopbackTransport(options: LoopbackTransportOptions = {}): LoopbackTransport {
  return new Loopback(options);
}

class Loopback implements LoopbackTransport {
  readonly name = 'loopback';
  readonly arena = new Uint8Array(SLOT_BYTES * BATCH_SLOTS_MAX);
  readonly port = LOOPBACK_PORT;
  readonly receiveBufferBytes: number;
  readonly handOver: SocketHandOver = {
    descriptor: -1,
    pause: () => {
      this.#paused = true;
    },
    resume: () => {
      this.#paused = false;
      this.#drain();
    },
  };
  readonly #options: CheckedOptions;
  readonly #onReply: ((bytes: Uint8Array, port: number) => void) | undefined;
  readonly #fault: FaultSink;
  readonly #queue: { bytes: Uint8Array; port: number }[] = [];
  readonly #stats: TransportStats = emptyStats();
  #handler: FrameHandler | undefined;
  #open = true;
  #serving = false;
  #paused = false;
  #slot = 0;
  #sendsToFail = 0;

  constructor(options: LoopbackTransportOptions) {
    this.#options = checkOptions(options, 1);
    this.receiveBufferBytes = this.#options.receiveBufferBytes;
    this.#onReply = options.onReply;
    this.#fault = faultSink(options);
  }

  start(handler: FrameHandler): void {
    requireStartable(this.#handler, this.#open);
    this.#handler = handler;
    this.#drain();
  }

  deliver(bytes: Uint8Array, port = 0): void {
    if (!this.#open) return;
    if (port !== 0 && !this.#options.acceptUserRequests) this.#stats.foreign++;
    else if (bytes.length > SLOT_BYTES) this.#stats.oversized++;
    else this.#queue.push({ bytes: bytes.slice(), port });
    this.#drain();
  }

  simulateOverrun(): void {
    this.#stats.overruns++;
    this.#fault('overrun', overran(this.receiveBufferBytes));
  }

  failSends(count: number): void {
    this.#sendsToFail = count;
  }

  send(bytes: Uint8Array, port: number): void {
    if (this.#open) this.#reply(bytes, port);
    else this.#sendFailure('the transport is closed');
  }

  stats(): TransportStats {
    return { ...this.#stats };
  }

  close(): Promise<void> {
    this.#open = false;
    return Promise.resolve();
  }

  #drain(): void {
    if (this.#serving || this.#handler === undefined) return;
    this.#serving = true;
    try {
      while (this.#open && !this.#paused) {
        const next = this.#queue.shift();
        if (next === undefined) break;
        this.#serve(this.#handler, next.bytes, next.port);
      }
    } finally {
      this.#serving = false; // an observer of replies may throw, a test's assertion for one
    }
  }

  /** Every datagram takes the next slot, so that a handler that assumes offset 0 is found out. */
  #serve(handler: FrameHandler, bytes: Uint8Array, port: number): void {
    const offset = this.#slot * SLOT_BYTES;
    this.#slot = (this.#slot + 1) % BATCH_SLOTS_MAX;
    this.arena.set(bytes, offset);
    const reply = serveFrame(handler, offset, bytes.length, port, this.#stats, this.#fault);
    if (reply > 0) this.#reply(this.arena.subarray(offset, offset + reply), port);
  }

  #reply(bytes: Uint8Array, port: number): void {
    if (this.#sendsToFail > 0) {
      this.#sendsToFail--;
      this.#sendFailure('simulated');
      return;
    }
    this.#stats.sent++;
    this.#onReply?.(bytes.slice(), port);
  }

  #sendFailure(detail: string): void {
    this.#stats.sendFailures++;
    this.#fault('send', sendFailed(detail, 1));
  }
}
