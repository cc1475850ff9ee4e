import { Errno, RequestType } from '@dmlog/protocol';
import { type LogIdentity, type Request, type Thread, ThreadState } from './thread.js';

/** DM_ULOG_RETRY_TIMEOUT, dm-log-userspace-transfer.c. */
export const RETRY_MS = 15_000;

const HEADER_BYTES = 196;
/** What the kernel's 512-byte buffer leaves, and the netlink header. */
export const FRAME_BYTES_MAX = 528;

/** What came of a request: `error` is 0 or negative; then what the data holds, as far as its size goes. */
export interface Reply {
  readonly error: number;
  readonly size: number;
  readonly first: number;
  readonly second: number;
  readonly text: string;
}

const NOTHING: Reply = { error: 0, size: 0, first: 0, second: 0, text: '' };
const ENOSPC = 28;

/** The identity of a log, with the headers of all its frames (packages/protocol/src/constants.ts has the table). */
export function logIdentity(uuid: string, luid: number): LogIdentity {
  const frame = new Uint8Array(HEADER_BYTES);
  const words = new DataView(frame.buffer);
  words.setUint16(4, 3, true);
  words.setUint32(16, 7, true);
  words.setUint32(20, 1, true);
  words.setUint32(36, luid >>> 0, true);
  words.setUint32(40, Math.floor(luid / 2 ** 32), true);
  for (let i = 0; i < uuid.length; i++) frame[44 + i] = uuid.charCodeAt(i);
  words.setUint32(176, 3, true);
  return { luid, frame };
}

/** Where frames go. False: nobody listens. */
export type Send = (thread: Thread, frame: Uint8Array, length: number) => boolean;

/**
 * dm-log-userspace-transfer.c: one sequence for all logs of a kernel; a request is sent again under a new number after 15 s, or when the answer is EAGAIN. Answers to numbers
 * that nobody waits under mean nothing.
 */
export class RequestProxy {
  seq: number;
  repeated = 0;
  again = 0;
  readonly #send: Send;
  readonly #waiting = new Map<number, Thread>();
  readonly #frame = new Uint8Array(FRAME_BYTES_MAX + 4);
  readonly #words = new DataView(this.#frame.buffer);

  constructor(send: Send, firstSeq = 0) {
    this.#send = send;
    this.seq = firstSeq;
  }

  /** Sends the thread's request, anew if it has been sent already. The answer may be there when this returns. */
  send(thread: Thread, nowMs: number): void {
    if (thread.state === ThreadState.WAITS) {
      this.#waiting.delete(thread.seq);
      this.repeated++;
    }
    const { seq } = this;
    this.seq = (seq + 1) >>> 0;
    const length = this.#encode(thread.request as Request, seq);
    thread.seq = seq;
    thread.state = ThreadState.WAITS;
    thread.wakeAtMs = nowMs + RETRY_MS;
    this.#waiting.set(seq, thread);
    if (this.#send(thread, this.#frame, length)) return;
    const { room } = thread.request as Request;
    this.#finish(thread, { ...NOTHING, error: -Errno.ESRCH, size: room });
  }

  /** A datagram from the daemon, at the beginning of `bytes`: `fill_pkg()`. */
  receive(bytes: Uint8Array): void {
    const isAck = bytes[32] === 0 && bytes[33] === 0;
    const thread = this.#waiting.get(u32(bytes, isAck ? 24 : 184));
    if (thread === undefined) return;
    if (isAck) {
      const errno = u32(bytes, 28);
      this.#finish(thread, errno === 0 ? NOTHING : { ...NOTHING, error: -errno });
      return;
    }
    const error = u32(bytes, 180) | 0;
    const size = u32(bytes, 192);
    const request = thread.request as Request;
    if (size > request.room) return this.#finish(thread, { ...NOTHING, error: -ENOSPC });
    // An error leaves the data as it is, but what is stated as its size is the room for the repeated answer.
    if (request.text !== null || request.type === RequestType.STATUS_INFO) {
      const text = Buffer.from(bytes.buffer, bytes.byteOffset + HEADER_BYTES, size).toString('latin1');
      return this.#finish(thread, { ...NOTHING, error, size, text });
    }
    const first = size >= 8 ? u32(bytes, 196) | 0 : 0;
    const second = size >= 16 ? u32(bytes, 204) : 0;
    this.#finish(thread, error === 0 && size === 0 ? NOTHING : { error, size, first, second, text: '' });
  }

  /** For stories; null where nobody waits for it. */
  describe(bytes: Uint8Array): string | null {
    const words = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const isAck = words.getUint16(32, true) === 0;
    const seq = words.getUint32(isAck ? 24 : 184, true);
    if (!this.#waiting.has(seq)) return null;
    if (isAck) return `${-words.getUint32(28, true)} (seq ${seq})`;
    const size = words.getUint32(192, true);
    const data = [];
    for (let at = 0; at + 8 <= Math.min(size, 16); at += 8)
      data.push(words.getInt32(HEADER_BYTES + at, true));
    return `${words.getInt32(180, true)}: ${data.join(' ')} (seq ${seq})`;
  }

  /** The machine is gone. */
  clear(): void {
    this.#waiting.clear();
  }

  #finish(thread: Thread, reply: Reply): void {
    this.#waiting.delete(thread.seq);
    if (reply.error === -Errno.EAGAIN) {
      this.again++;
      thread.state = ThreadState.ASKS;
      return;
    }
    thread.reply = reply;
    thread.state = ThreadState.READY;
  }

  #encode({ type, log, words, text }: Request, seq: number): number {
    const frame = this.#frame;
    const view = this.#words;
    frame.set(log.frame);
    const size = text === null ? 8 * words.length : text.length;
    const length = HEADER_BYTES + size;
    view.setUint32(0, length, true);
    view.setUint32(8, seq, true);
    view.setUint32(24, seq, true);
    view.setUint16(32, length - 36, true);
    view.setUint32(184, seq, true);
    view.setUint32(188, type, true);
    view.setUint32(192, size, true);
    if (text !== null) for (let i = 0; i < size; i++) frame[HEADER_BYTES + i] = text.charCodeAt(i);
    else {
      for (let i = 0; i < words.length; i++) {
        const word = words[i] as number;
        view.setInt32(HEADER_BYTES + 8 * i, word, true);
        view.setInt32(HEADER_BYTES + 8 * i + 4, 0, true);
      }
    }
    return length;
  }
}

/** Little endian; without a view of its own for each datagram. */
function u32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0
  );
}
