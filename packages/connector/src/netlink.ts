import { createRequire } from 'node:module';
import type { RawNetlinkSocket } from 'netlink';
import { ConnectorError, socketError } from './errors.js';
import { badReplyLength, type FaultSink, faultSink, handlerThrew, overran, sendFailed } from './faults.js';
import { type CheckedOptions, checkOptions } from './options.js';
import { emptyStats } from './stats.js';
import {
  BATCH_SLOTS_MAX,
  CONNECTOR_GROUP,
  type FrameHandler,
  NO_REPLY,
  REPLY_LATER,
  SLOT_BYTES,
  type Transport,
  type TransportOptions,
  type TransportStats,
} from './transport.js';

/** NETLINK_CONNECTOR, include/uapi/linux/netlink.h. */
const NETLINK_CONNECTOR = 11;

/** The package reads as soon as it is bound. What comes before {@link Transport.start} waits here, as in a socket's buffer. */
const EARLY_DATAGRAMS_MAX = 1024;

/** How long {@link Transport.close} waits for replies that the socket has not accepted yet, in milliseconds. */
const DRAIN_MS_MAX = 100;

/**
 * The portable transport, over the npm package `netlink` (its prebuilt binaries cover x64, ia32, arm and arm64).
 *
 * What it cannot do, because of the package:
 * - It allocates per datagram, both ways.
 * - The receive buffer is set by SO_RCVBUF only, which net.core.rmem_max limits; {@link Transport.receiveBufferBytes} tells
 *   what came of it. Raise net.core.rmem_max to get more.
 * - **Version 0.3.0 aborts the process when the receive buffer overflows** (it throws a C++ exception out of a libuv
 *   callback). No JavaScript can prevent that. Prefer {@link batchTransport} wherever it loads.
 *
 * Throws ERR_CONNECTOR_BINDING, _PERMISSION, _SOCKET or _USAGE.
 */
export function netlinkTransport(options: TransportOptions = {}): Transport {
  return new NetlinkTransport(options);
}

/** Loaded on first use: importing `@dmlog/connector` must not fail where the package has no binary. */
function loadPackage(): typeof import('netlink') {
  try {
    return createRequire(import.meta.url)('netlink') as typeof import('netlink');
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new ConnectorError('ERR_CONNECTOR_BINDING', `the npm package netlink does not load: ${text}`, {
      cause,
    });
  }
}

function openSocket(options: CheckedOptions): RawNetlinkSocket {
  const { RawNetlinkSocket: Socket } = loadPackage();
  let socket: RawNetlinkSocket | undefined;
  try {
    // Without peeking a longer datagram is reported as truncated, and each costs one system call instead of two.
    const raw = {
      messagePeeking: false,
      msgBufferSize: SLOT_BYTES,
      recvBufferSize: options.receiveBufferBytes,
    };
    socket = new Socket(NETLINK_CONNECTOR, { ...raw, sendBufferSize: 0 });
    socket.addMembership(CONNECTOR_GROUP); // a group number; the package's `localGroups` is a bit mask
    return socket;
  } catch (cause) {
    socket?.close();
    throw socketError(cause);
  }
}

class NetlinkTransport implements Transport {
  readonly name = 'netlink';
  readonly arena = new Uint8Array(SLOT_BYTES * BATCH_SLOTS_MAX);
  readonly port: number;
  readonly receiveBufferBytes: number;
  readonly #socket: RawNetlinkSocket;
  readonly #options: CheckedOptions;
  readonly #fault: FaultSink;
  readonly #early: { bytes: Uint8Array; port: number }[] = [];
  readonly #stats: TransportStats = emptyStats();
  #handler: FrameHandler | undefined;
  #closed: Promise<void> | undefined;
  #dead = false;
  #sendsPending = 0;

  constructor(options: TransportOptions) {
    this.#options = checkOptions(options, 1);
    this.#fault = faultSink(options);
    this.#socket = openSocket(this.#options);
    this.port = this.#socket.address().port;
    this.receiveBufferBytes = this.#socket.getRecvBufferSize();
    // An exception in one of these listeners would abort the process: none of them lets one out.
    this.#socket.on('message', (bytes, sender) => this.#receive(bytes, sender.port, false));
    this.#socket.on('truncatedMessage', (bytes, sender) => this.#receive(bytes, sender.port, true));
    this.#socket.on('error', (error) => this.#socketFault(error));
  }

  start(handler: FrameHandler): void {
    if (this.#handler !== undefined) {
      throw new ConnectorError('ERR_CONNECTOR_USAGE', 'the transport was started before');
    }
    if (this.#closed !== undefined)
      throw new ConnectorError('ERR_CONNECTOR_USAGE', 'the transport is closed');
    this.#handler = handler;
    if (this.#early.length > 0) setImmediate(() => this.#deliverEarly());
  }

  send(bytes: Uint8Array, port: number): void {
    if (this.#dead || this.#closed !== undefined) {
      this.#sendDone('the transport is closed');
      return;
    }
    this.#sendsPending++;
    // A copy: the package keeps a reference until the socket has accepted the bytes.
    this.#socket.send(Buffer.from(bytes), { port }, (error) => {
      this.#sendsPending--;
      this.#sendDone(error?.message);
    });
  }

  stats(): TransportStats {
    return { ...this.#stats };
  }

  close(): Promise<void> {
    this.#closed ??= this.#drainAndClose();
    return this.#closed;
  }

  #sendDone(failure: string | undefined): void {
    if (failure === undefined) {
      this.#stats.sent++;
      return;
    }
    this.#stats.sendFailures++;
    this.#fault('send', sendFailed(failure, 1));
  }

  /** Never closes from inside a callback of the package: it would free what its native frames still use. */
  async #drainAndClose(): Promise<void> {
    const giveUpAt = performance.now() + DRAIN_MS_MAX;
    do {
      await new Promise((resolve) => setImmediate(resolve));
    } while (this.#sendsPending > 0 && !this.#dead && performance.now() < giveUpAt);
    if (!this.#dead) this.#socket.close();
    this.#dead = true;
  }

  #receive(bytes: Uint8Array, port: number, truncated: boolean): void {
    if (this.#closed !== undefined) return;
    if (port !== 0 && !this.#options.acceptUserRequests) this.#stats.foreign++;
    else if (truncated) this.#stats.oversized++;
    else if (this.#handler !== undefined && this.#early.length === 0) this.#serve(this.#handler, bytes, port);
    else if (this.#early.length < EARLY_DATAGRAMS_MAX) this.#early.push({ bytes, port });
    else this.#overrun();
  }

  #deliverEarly(): void {
    const early = this.#early.splice(0);
    for (const { bytes, port } of early) {
      if (this.#closed === undefined) this.#serve(this.#handler as FrameHandler, bytes, port);
    }
  }

  /** One slot is enough: the package hands over one datagram at a time. */
  #serve(handler: FrameHandler, bytes: Uint8Array, port: number): void {
    this.arena.set(bytes, 0);
    this.#stats.received++;
    this.#stats.batches++;
    let reply: number;
    try {
      reply = handler(0, bytes.length, port);
    } catch (thrown) {
      this.#handlerFault(handlerThrew(thrown));
      return;
    }
    if (reply > 0 && reply <= SLOT_BYTES) this.#reply(reply, port);
    else if (reply !== NO_REPLY && reply !== REPLY_LATER) this.#handlerFault(badReplyLength(reply));
  }

  /** Like {@link send}, but the reply of a handler that has just closed the transport still leaves. */
  #reply(length: number, port: number): void {
    this.#sendsPending++;
    this.#socket.send(Buffer.from(this.arena.subarray(0, length)), { port }, (error) => {
      this.#sendsPending--;
      this.#sendDone(error?.message);
    });
  }

  #handlerFault(error: ConnectorError): void {
    this.#stats.handlerFaults++;
    this.#fault('handler', error);
  }

  #overrun(): void {
    this.#stats.overruns++;
    this.#fault('overrun', overran(this.receiveBufferBytes));
  }

  #socketFault(error: Error & { code?: string }): void {
    if (error.code === 'ENOBUFS') {
      this.#overrun();
      return;
    }
    this.#dead = true; // the package closes its socket after any other error of the poll handle
    const text = `the connector socket failed: ${error.message}. Close it and open another`;
    this.#fault('socket', new ConnectorError('ERR_CONNECTOR_SOCKET', text, { cause: error }));
  }
}
