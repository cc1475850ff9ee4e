import type { Reply } from './proxy.js';

/** One `dm_consult_userspace()`: asked until it is answered. */
export interface Request {
  readonly type: number;
  readonly log: LogIdentity;
  /** Numbers of the payload, each a u64. */
  readonly words: readonly number[];
  /** The payload of CTR. */
  readonly text: string | null;
  /** Bytes of data that the answer may have: `rdata_size`. */
  readonly room: number;
}

/** How the kernel names a log: a pointer, as a number here, and the UUID of the table line. */
export interface LogIdentity {
  readonly luid: number;
  /** A frame with the three headers of this log's requests. */
  readonly frame: Uint8Array;
}

/** What a thread waits for: an answer, so many milliseconds, or for something to become true. */
export type Wait = Request | number | (() => boolean);

/** A kernel thread: what it runs says what it waits for, and goes on with the answer where that was a request. */
export type Body<T = void> = Generator<Wait, T, Reply>;

export const ThreadState = {
  /** Has to be run once to go on. */
  READY: 0,
  /** Its request has to be sent. */
  ASKS: 1,
  /** Its request was sent. */
  WAITS: 2,
  SLEEPS: 3,
  /** Until a condition holds. */
  BLOCKED: 4,
  ENDED: 5,
} as const;
export type ThreadState = (typeof ThreadState)[keyof typeof ThreadState];

export class Thread {
  readonly name: string;
  state: ThreadState = ThreadState.READY;
  request: Request | null = null;
  /** Under which its request was sent last. */
  seq = 0;
  /** When it wakes up, or sends again. */
  wakeAtMs = 0;
  condition: (() => boolean) | null = null;
  reply: Reply | null = null;
  readonly #body: Body;

  constructor(name: string, body: Body) {
    this.name = name;
    this.#body = body;
  }

  /** Runs to the next wait. */
  run(nowMs: number): void {
    const reply = this.reply;
    this.reply = null;
    const { done, value } = reply === null ? this.#body.next() : this.#body.next(reply);
    if (done === true) {
      this.state = ThreadState.ENDED;
      return;
    }
    const wait = value as Wait;
    if (typeof wait === 'number') {
      this.state = ThreadState.SLEEPS;
      this.wakeAtMs = nowMs + wait;
    } else if (typeof wait === 'function') {
      this.state = ThreadState.BLOCKED;
      this.condition = wait;
    } else {
      this.state = ThreadState.ASKS;
      this.request = wait;
    }
  }

  /** Whether {@link run} would get it further. */
  isReady(nowMs: number): boolean {
    switch (this.state) {
      case ThreadState.READY:
        return true;
      case ThreadState.SLEEPS:
        return nowMs >= this.wakeAtMs;
      case ThreadState.BLOCKED:
        return (this.condition as () => boolean)();
      default:
        return false;
    }
  }
}
