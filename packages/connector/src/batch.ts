import { getSystemErrorName } from 'node:util';
import { markAsUntransferable } from 'node:worker_threads';
import { type ConnectorBinding, loadBinding, type NativeHandle } from './binding.js';
import {
  CONTROL_COUNT,
  CONTROL_LENGTHS,
  CONTROL_OUTSTANDING,
  CONTROL_PORT,
  CONTROL_PORTS,
  CONTROL_RECEIVE_BUFFER,
  CONTROL_REPLIES,
  COUNTER_FOREIGN,
  COUNTER_OVERRUNS,
  COUNTER_OVERSIZED,
  COUNTER_POLL_HITS,
  COUNTER_POLL_IDLE_NS,
  COUNTER_SEND_FAILURES,
  COUNTER_SENT,
  type ControlBlock,
  controlBlock,
} from './control.js';
import { ConnectorError, socketError } from './errors.js';
import { badReplyLength, type FaultSink, faultSink, handlerThrew, overran, sendFailed } from './faults.js';
import { checkOptions } from './options.js';
import { requireStartable } from './serve-frame.js';
import {
  BATCH_SLOTS_MAX,
  CONNECTOR_GROUP,
  type FrameHandler,
  NO_REPLY,
  REPLY_LATER,
  SLOT_BYTES,
  type SocketHandOver,
  type Transport,
  type TransportOptions,
  type TransportStats,
} from './transport.js';

/** Kinds of fault the addon reports, as `native/serve.c` numbers them. */
const FAULT_OVERRUN = 0;
const FAULT_SEND = 1;

export interface BatchTransportOptions extends TransportOptions {
  /** The native part. Default: the addon that {@link loadBinding} finds. */
  readonly binding?: ConnectorBinding;
}

/**
 * The fast transport: a small addon of our own that receives and sends in batches, and looks for the kernel's next request
 * before it sleeps. Throws ERR_CONNECTOR_BINDING, _PERMISSION, _SOCKET or _USAGE.
 */
export function batchTransport(options: BatchTransportOptions = {}): Transport {
  return new BatchTransport(options.binding ?? loadBinding(), options);
}

class BatchTransport implements Transport {
  readonly name = 'batch';
  readonly arena: Uint8Array;
  readonly port: number;
  readonly receiveBufferBytes: number;
  readonly handOver: SocketHandOver;
  readonly #binding: ConnectorBinding;
  readonly #handle: NativeHandle;
  readonly #control: ControlBlock;
  readonly #words: Int32Array;
  readonly #unsigned: Uint32Array;
  readonly #fault: FaultSink;
  #handler: FrameHandler | undefined;
  #closed: Promise<void> | undefined;
  #open = true;
  #inBatch = false;
  #received = 0;
  #batches = 0;
  #handlerFaults = 0;

  constructor(binding: ConnectorBinding, options: TransportOptions) {
    const checked = checkOptions(options, binding.availableCpus());
    const memory = new ArrayBuffer(SLOT_BYTES * BATCH_SLOTS_MAX);
    // The addon keeps the address: moving the memory to another thread would leave it dangling.
    markAsUntransferable(memory);
    this.arena = new Uint8Array(memory);
    this.#binding = binding;
    this.#fault = faultSink(options);
    this.#control = controlBlock();
    this.#words = this.#control.words;
    this.#unsigned = this.#control.unsigned;
    try {
      this.#handle = binding.open(
        memory,
        this.#control.buffer,
        CONNECTOR_GROUP,
        checked.receiveBufferBytes,
        checked.acceptUserRequests,
        checked.pollMicroseconds * 1000,
        () => this.#serveBatch(),
        (kind, errno, count) => this.#nativeFault(kind, errno, count),
        options.descriptor,
      );
    } catch (cause) {
      throw socketError(cause);
    }
    this.port = this.#unsigned[CONTROL_PORT] as number;
    this.receiveBufferBytes = this.#words[CONTROL_RECEIVE_BUFFER] as number;
    this.handOver = {
      descriptor: binding.descriptor(this.#handle),
      pause: () => binding.pause(this.#handle),
      resume: () => binding.start(this.#handle),
    };
  }

  start(handler: FrameHandler): void {
    requireStartable(this.#handler, this.#open);
    this.#handler = handler;
    this.#binding.start(this.#handle);
  }

  send(bytes: Uint8Array, port: number): void {
    const words = this.#words;
    const outstanding = words[CONTROL_OUTSTANDING] as number;
    // Inside a batch the answer may precede the handler's REPLY_LATER: the balance is struck when the batch ends.
    if (outstanding > 0 || this.#inBatch) words[CONTROL_OUTSTANDING] = outstanding - 1;
    const errno = this.#binding.send(this.#handle, bytes, port);
    if (errno !== 0) this.#fault('send', sendFailed(getSystemErrorName(-errno), 1));
  }

  stats(): TransportStats {
    const counters = this.#control.counters;
    return {
      received: this.#received,
      sent: counters[COUNTER_SENT] as number,
      sendFailures: counters[COUNTER_SEND_FAILURES] as number,
      foreign: counters[COUNTER_FOREIGN] as number,
      oversized: counters[COUNTER_OVERSIZED] as number,
      overruns: counters[COUNTER_OVERRUNS] as number,
      handlerFaults: this.#handlerFaults,
      batches: this.#batches,
      pollIdleNs: counters[COUNTER_POLL_IDLE_NS] as number,
      pollHits: counters[COUNTER_POLL_HITS] as number,
    };
  }

  close(): Promise<void> {
    if (this.#closed !== undefined) return this.#closed;
    this.#open = false;
    // Inside the handler the addon waits for the batch's replies to leave; after this turn of the loop it is closed for sure.
    this.#binding.close(this.#handle);
    this.#closed = new Promise((resolve) => {
      setImmediate(resolve);
    });
    return this.#closed;
  }

  /** The one entry from native code. Must not throw. */
  #serveBatch(): void {
    const words = this.#words;
    const unsigned = this.#unsigned;
    const handler = this.#handler as FrameHandler;
    const count = words[CONTROL_COUNT] as number;
    this.#batches++;
    this.#inBatch = true;
    for (let slot = 0; slot < count && this.#open; slot++) {
      const length = words[CONTROL_LENGTHS + slot] as number;
      if (length < 0) continue;
      this.#received++;
      try {
        const reply = handler(slot * SLOT_BYTES, length, unsigned[CONTROL_PORTS + slot] as number);
        if (reply > 0 && reply <= SLOT_BYTES) words[CONTROL_REPLIES + slot] = reply;
        else if (reply === REPLY_LATER)
          words[CONTROL_OUTSTANDING] = (words[CONTROL_OUTSTANDING] as number) + 1;
        else if (reply !== NO_REPLY) this.#handlerFault(badReplyLength(reply));
      } catch (thrown) {
        this.#handlerFault(handlerThrew(thrown));
      }
    }
    this.#inBatch = false;
    if ((words[CONTROL_OUTSTANDING] as number) < 0) words[CONTROL_OUTSTANDING] = 0;
  }

  #handlerFault(error: ConnectorError): void {
    this.#handlerFaults++;
    this.#fault('handler', error);
  }

  #nativeFault(kind: number, errno: number, count: number): void {
    if (kind === FAULT_OVERRUN) {
      this.#fault('overrun', overran(this.receiveBufferBytes));
    } else if (kind === FAULT_SEND) {
      this.#fault('send', sendFailed(getSystemErrorName(-errno), count));
    } else {
      const text = `the connector socket failed: ${getSystemErrorName(-errno)}. Close it and open another`;
      this.#fault('socket', new ConnectorError('ERR_CONNECTOR_SOCKET', text));
    }
  }
}
