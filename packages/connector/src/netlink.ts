import type { RawNetlinkSocket } from 'netlink';
import { ConnectorError } from './errors.js';
import { type FaultSink, faultSink, overran, sendFailed } from './faults.js';
import { openNetlinkSocket } from './netlink-socket.js';
import type { DropCounter } from './netlink-table.js';
import { type CheckedOptions, checkOptions } from './options.js';
import { requireStartable, serveFrame } from './serve-frame.js';
import { emptyStats } from './stats.js';
import {
  BATCH_SLOTS_MAX,
  type FrameHandler,
  SLOT_BYTES,
  type Transport,
  type TransportOptions,
  type TransportStats,
} from './transport.js';

/** Datagrams that wait for {@link Transport.start}, as in a socket's buffer: the package reads as soon as it is bound. */
const QUEUE_MAX = 1024;

/** While datagrams arrive, lost ones are looked for this often, in milliseconds. */
const OVERRUN_CHECK_MS = 1000;

/** How long {@link Transport.close} waits for replies that the socket has not accepted yet, in milliseconds. */
const DRAIN_MS_MAX = 100;

/**
 * The portable transport, over the npm package `netlink` (its prebuilt binaries cover x64, ia32, arm and arm64).
 *
 * Version 0.3.0 of the package can neither force a receive buffer nor survive its overflow: ENOBUFS makes it throw a C++ exception
 * out of a libuv callback, which aborts the process. So a short-lived child, perl or else python3, sets both up on the socket when
 * it is opened (some 10 to 150 ms, once): SO_RCVBUFFORCE, and NETLINK_NO_ENOBUFS, with which there is no such error. Overruns are
 * then counted from /proc/self/net/netlink, once a second while datagrams arrive and in {@link Transport.stats}.
 *
 * Where neither interpreter runs the transport serves all the same, but **an overflow may abort the process**: that is reported
 * once, as an `unguarded` fault, and net.core.rmem_max limits {@link Transport.receiveBufferBytes}.
 *
 * A socket cannot be handed over: the package uses none that it did not open.
 *
 * It allocates per datagram, both ways. Prefer {@link batchTransport} wherever it loads.
 *
 * Throws ERR_CONNECTOR_BINDING, _PERMISSION, _SOCKET or _USAGE.
 */
export function netlinkTransport(options: TransportOptions = {}): Transport {
  return new NetlinkTransport(options);
}

/**
 * Nothing of the application runs inside a callback of the package, only in turns of the event loop of our own: an exception that gets
 * into one, be it from a tick or a promise that the application left behind, aborts the process.
 */
class NetlinkTransport implements Transport {
  readonly name = 'netlink';
  readonly arena = new Uint8Array(SLOT_BYTES * BATCH_SLOTS_MAX);
  readonly port: number;
  readonly receiveBufferBytes: number;
  readonly handOver = null;
  readonly #socket: RawNetlinkSocket;
  readonly #options: CheckedOptions;
  readonly #fault: FaultSink;
  readonly #queue: { bytes: Uint8Array; port: number }[] = [];
  readonly #stats: TransportStats = emptyStats();
  #drops: DropCounter | undefined;
  #overrunsReported = 0;
  #overrunCheck: NodeJS.Timeout | undefined;
  #handler: FrameHandler | undefined;
  #serveSoon = false;
  #closed: Promise<void> | undefined;
  #dead = false;
  #sendsPending = 0;

  constructor(options: TransportOptions) {
    this.#options = checkOptions(options, 1);
    if (options.descriptor !== undefined) {
      throw new ConnectorError(
        'ERR_CONNECTOR_USAGE',
        'the package netlink cannot serve a socket that it did not open',
      );
    }
    this.#fault = faultSink(options);
    const { socket, drops, unguarded } = openNetlinkSocket(this.#options);
    this.#socket = socket;
    this.#drops = drops;
    this.port = socket.address().port;
    this.receiveBufferBytes = socket.getRecvBufferSize();
    socket.on('message', (bytes, sender) => this.#receive(bytes, sender.port, false));
    socket.on('truncatedMessage', (bytes, sender) => this.#receive(bytes, sender.port, true));
    socket.on('error', (error) => this.#socketFault(error));
    if (unguarded !== undefined) setImmediate(() => this.#fault('unguarded', unguarded));
  }

  start(handler: FrameHandler): void {
    requireStartable(this.#handler, this.#closed === undefined);
    this.#handler = handler;
    this.#wake();
  }

  send(bytes: Uint8Array, port: number): void {
    if (this.#dead || this.#closed !== undefined) this.#refused('the transport is closed');
    else this.#transmit(bytes, port);
  }

  stats(): TransportStats {
    this.#countOverruns();
    return { ...this.#stats };
  }

  close(): Promise<void> {
    this.#closed ??= this.#drainAndClose();
    return this.#closed;
  }

  #transmit(bytes: Uint8Array, port: number): void {
    this.#sendsPending++;
    // A copy: the package keeps a reference until the socket has accepted the bytes.
    this.#socket.send(Buffer.from(bytes), { port }, (error) => {
      this.#sendsPending--;
      if (error === undefined) this.#stats.sent++;
      else setImmediate(() => this.#refused(error.message));
    });
  }

  #refused(detail: string): void {
    this.#stats.sendFailures++;
    this.#fault('send', sendFailed(detail, 1));
  }

  /** Never closes from inside a callback of the package: it would free what its native frames still use. */
  async #drainAndClose(): Promise<void> {
    const giveUpAt = performance.now() + DRAIN_MS_MAX;
    do {
      await new Promise((resolve) => setImmediate(resolve));
    } while (this.#sendsPending > 0 && !this.#dead && performance.now() < giveUpAt);
    this.#countOverruns();
    clearTimeout(this.#overrunCheck);
    if (!this.#dead) this.#socket.close();
    this.#die();
  }

  /** The socket is closed, or about to be: its inode may soon be another's. */
  #die(): void {
    this.#dead = true;
    this.#drops = undefined;
  }

  #receive(bytes: Uint8Array, port: number, truncated: boolean): void {
    if (this.#closed !== undefined) return;
    // Unreferenced, and none while nothing arrives: what overflowed has left datagrams to arrive.
    this.#overrunCheck ??= setTimeout(() => {
      this.#overrunCheck = undefined;
      this.#countOverruns();
    }, OVERRUN_CHECK_MS).unref();
    if (port !== 0 && !this.#options.acceptUserRequests) this.#stats.foreign++;
    else if (truncated) this.#stats.oversized++;
    else if (this.#queue.length < QUEUE_MAX) {
      this.#queue.push({ bytes, port });
      this.#wake();
    } else this.#stats.overruns++;
  }

  /** Serves the queue once the package has handed over what it has (it reads up to 32 datagrams at a time). */
  #wake(): void {
    if (this.#serveSoon || this.#handler === undefined || this.#queue.length === 0) return;
    this.#serveSoon = true;
    setImmediate(() => {
      this.#serveSoon = false;
      for (const { bytes, port } of this.#queue.splice(0)) {
        if (this.#closed === undefined && !this.#dead) this.#serve(bytes, port);
      }
    });
  }

  /** One slot is enough: datagrams are served one at a time. The reply of a handler that has just closed the transport still leaves. */
  #serve(bytes: Uint8Array, port: number): void {
    this.arena.set(bytes, 0);
    const handler = this.#handler as FrameHandler;
    const reply = serveFrame(handler, 0, bytes.length, port, this.#stats, this.#fault);
    if (reply > 0) this.#transmit(this.arena.subarray(0, reply), port);
  }

  #countOverruns(): void {
    this.#stats.overruns += this.#drops?.take() ?? 0;
    if (this.#stats.overruns === this.#overrunsReported) return;
    this.#overrunsReported = this.#stats.overruns;
    this.#fault('overrun', overran(this.receiveBufferBytes));
  }

  #socketFault(error: Error & { code?: string }): void {
    if (error.code === 'ENOBUFS') {
      // Only where the socket is unguarded, and the package came upon the error while it was reading: then it lives.
      if (this.#drops === undefined) this.#stats.overruns++;
      setImmediate(() => this.#countOverruns());
      return;
    }
    this.#die(); // the package closes its socket after any other error of the poll handle
    const text = `the connector socket failed: ${error.message}. Close it and open another`;
    const fault = new ConnectorError('ERR_CONNECTOR_SOCKET', text, { cause: error });
    setImmediate(() => this.#fault('socket', fault));
  }
}
