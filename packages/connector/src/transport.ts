/**
 * The transport contract: how datagrams reach a daemon and how replies leave it.
 *
 * A transport owns one *arena*, cut into slots of {@link SLOT_BYTES}. It receives up to {@link BATCH_SLOTS_MAX} datagrams,
 * each into its own slot, and calls the handler once per datagram. The handler writes its reply over the request, in the
 * same slot: nothing is copied and nothing is allocated on the way from datagram to reply.
 */

/** Bytes of one slot. A kernel request is at most 512 bytes (dm-log-userspace-transfer.c); the rest is room for reply text. */
export const SLOT_BYTES = 1024;

/** Datagrams received by one system call, and replies sent by one. */
export const BATCH_SLOTS_MAX = 32;

/** The handler dropped the frame: no reply will ever come for it (the kernel repeats what it misses). */
export const NO_REPLY = 0;

/** The handler keeps the request and will call {@link Transport.send} for it later. */
export const REPLY_LATER = -1;

/**
 * Serves the datagram that stands at `arena[offset, offset + length)`, sent from netlink port `port` (0 is the kernel).
 *
 * Returns the length in bytes of the reply, written at `offset` (at most {@link SLOT_BYTES}), or {@link NO_REPLY}, or
 * {@link REPLY_LATER}. The slot is the handler's only until it returns. A handler should not throw; if it does, the
 * transport counts it, reports it by `onFault` and sends nothing for that frame.
 */
export type FrameHandler = (offset: number, length: number, port: number) => number;

/** Totals since the transport was made. Datagrams are counted once, whatever becomes of them. */
export interface TransportStats {
  /** Datagrams handed to the handler. */
  received: number;
  /** Replies accepted by the socket. */
  sent: number;
  /** Replies the socket refused (the kernel then repeats its request after 15 s). */
  sendFailures: number;
  /** Datagrams dropped because of their sender: not the kernel, and `acceptUserRequests` is off. */
  foreign: number;
  /** Datagrams longer than a slot, or otherwise unusable before decoding. */
  oversized: number;
  /**
   * Overflows of the receive buffer: each is at least one lost request, that is a stall of 15 s for somebody. The batch transport
   * counts the kernel's reports of it (ENOBUFS), the netlink transport every datagram lost.
   */
  overruns: number;
  /** Exceptions that escaped the handler. */
  handlerFaults: number;
  /** Calls into the handler's language runtime; received / batches is the mean batch. */
  batches: number;
  /** Nanoseconds spent looking for the next request without finding one. 0 where polling is off. */
  pollIdleNs: number;
  /** Requests found by polling, that is without a sleep and a wake-up. */
  pollHits: number;
}

/**
 * What a transport reports besides requests. `overrun`, `send` and `handler` are survivable; `socket` means the transport is dead.
 * `unguarded` comes at most once, soon after opening, and only from the netlink transport: it serves, but might not survive an overrun.
 */
export interface TransportFault {
  readonly kind: 'overrun' | 'send' | 'handler' | 'socket' | 'unguarded';
  readonly error: Error;
}

export interface TransportOptions {
  /** Receive buffer to force, in bytes (SO_RCVBUFFORCE, needs CAP_NET_ADMIN). Default {@link RECEIVE_BUFFER_BYTES}. */
  readonly receiveBufferBytes?: number;
  /** Also hand over datagrams whose sender is a user process (port other than 0). Default false. */
  readonly acceptUserRequests?: boolean;
  /**
   * How long to look for the next request after having served one, in microseconds; 0 is off. Default 50 where this process
   * may run on two CPUs or more, else 0. Only the batch transport polls.
   */
  readonly pollMicroseconds?: number;
  /** Called for each fault; never for each datagram. */
  readonly onFault?: (fault: TransportFault) => void;
  /**
   * Descriptor of a connector socket that this process was given by the one before it, or by a service manager: it is served instead of a new one, with what
   * waits in it. The transport's own from then on; where opening throws it is still the caller's. Only the batch transport can do that.
   */
  readonly descriptor?: number;
}

/** A socket that another process may be given while it is open: requests wait in it meanwhile. */
export interface SocketHandOver {
  /** The socket, for as long as the transport is open. */
  readonly descriptor: number;
  /** Reads nothing more; what was read is still answered. */
  pause(): void;
  /** Reads again. */
  resume(): void;
}

/** 8 MiB: at 512 bytes and their overhead a few thousand requests, far more than all mirrors of a machine have in flight. */
export const RECEIVE_BUFFER_BYTES = 8 << 20;

/** dm-log-userspace multicasts to this group: CN_IDX_DM, include/uapi/linux/connector.h. A number, not a bit mask. */
export const CONNECTOR_GROUP = 7;

export interface Transport {
  /** For logs and metrics: which implementation this is. */
  readonly name: 'batch' | 'netlink' | 'loopback';
  /** The slots. The same object for the transport's whole life. */
  readonly arena: Uint8Array;
  /** Netlink port of the socket (loopback: a made-up one). */
  readonly port: number;
  /** Receive buffer in bytes that the socket really has. */
  readonly receiveBufferBytes: number;
  /** Begins to deliver. Called once. */
  start(handler: FrameHandler): void;
  /**
   * Sends `bytes` to `port`: the reply to a frame for which the handler returned {@link REPLY_LATER}. The bytes may be reused
   * when the call returns. Never throws; a failure is counted and reported.
   */
  send(bytes: Uint8Array, port: number): void;
  /** A snapshot; allocates, so not for the hot path. */
  stats(): TransportStats;
  /** Null where the socket cannot be given away: the package `netlink` reads on its own and cannot use a socket that it did not open. */
  readonly handOver: SocketHandOver | null;
  /** Stops delivering, closes the socket. Safe to call twice and from inside the handler. */
  close(): Promise<void>;
}
