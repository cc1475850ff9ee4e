import { RawNetlinkSocket } from 'netlink';
import { vi } from 'vitest';
import {
  CONNECTOR_GROUP,
  type FrameHandler,
  NO_REPLY,
  type Transport,
  type TransportFault,
} from '../src/index.js';
import { isOwn } from './frames.js';

/** The kernel's side of a transport under test. */
export interface Peer {
  readonly port: number;
  request(bytes: Uint8Array): void;
  close(): void;
}

/** A transport, the other end of its wire, and what came out of both. */
export interface Rig {
  readonly transport: Transport;
  readonly peer: Peer;
  /** Replies in the order of arrival. */
  readonly replies: Uint8Array[];
  readonly faults: TransportFault[];
}

/** Waits until `condition` holds. Fails after two seconds. */
export async function until(condition: () => boolean): Promise<void> {
  await vi.waitFor(
    () => {
      if (!condition()) throw new Error(`not within time: ${condition}`);
    },
    { timeout: 20_000, interval: 2 },
  );
}

/** Hands only frames of this test run to `serve`, which sees them as bytes in the arena. */
export function serveOwn(
  transport: Transport,
  serve: (frame: Uint8Array, port: number) => number,
): { calls: () => number } {
  let calls = 0;
  const handler: FrameHandler = (offset, length, port) => {
    const bytes = transport.arena.subarray(offset, offset + length);
    if (!isOwn(bytes)) return NO_REPLY;
    calls++;
    return serve(bytes, port);
  };
  transport.start(handler);
  return { calls: () => calls };
}

/** A second socket of this process: multicasts requests, as the kernel does, and gets replies at its own port. */
export function netlinkPeer(replies: Uint8Array[]): Peer {
  const socket = new RawNetlinkSocket(11, {
    messagePeeking: false,
    recvBufferSize: 4 << 20,
    sendBufferSize: 4 << 20,
  });
  socket.on('message', (bytes) => {
    replies.push(Uint8Array.from(bytes));
  });
  return {
    port: socket.address().port,
    // The destination is a mask (bit 6 is group 7); joining takes a number.
    request: (bytes) => socket.send(bytes, { groups: 1 << (CONNECTOR_GROUP - 1) }),
    close: () => socket.close(),
  };
}
