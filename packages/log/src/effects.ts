/**
 * What a log wants done, as data. One object is made per log user and reused for every step: nothing is allocated per request.
 *
 * The order in which effects are performed does not matter: whatever must wait for an I/O is not replied before the log was told of its end.
 */

/** How the request that was just stepped is to be answered. */
export const ReplyKind = {
  /** Not at all: a wrong answer would corrupt, silence makes the kernel ask again (design rule 9). */
  SILENT: 0,
  /** Success, nothing returned. */
  ACK: 1,
  /** One number, {@link Effects.first}. */
  VALUE: 2,
  /** Two numbers, {@link Effects.first} and {@link Effects.second}. */
  PAIR: 3,
  /** {@link Effects.text}, without a NUL. */
  TEXT: 4,
  /** A failure, {@link Effects.errno}. */
  ERROR: 5,
  /** The log is not known or not resumed: `-ESRCH`, so that the kernel constructs and resumes it again. */
  UNKNOWN: 6,
  /** Later, by {@link LateReplies}. */
  LATER: 7,
} as const;
export type ReplyKind = (typeof ReplyKind)[keyof typeof ReplyKind];

/** Requests that wait in one log at most. A kernel has a handful; past this they are dropped and the kernel repeats them. */
export const WAITING_MAX = 4096;

/** Requests whose answer is decided now although they were asked earlier: (seq, port, errno) each. */
export class LateReplies {
  count = 0;
  readonly seq: number[] = [];
  readonly port: number[] = [];
  /** Positive errno, 0 is success. */
  readonly errno: number[] = [];

  push(seq: number, port: number, errno: number): void {
    this.seq[this.count] = seq;
    this.port[this.count] = port;
    this.errno[this.count] = errno;
    this.count++;
  }
}

/** See the file comment. `reset` before every step. */
export class Effects {
  reply: ReplyKind = ReplyKind.SILENT;
  /** Positive errno of an {@link ReplyKind.ERROR}. */
  errno = 0;
  first = 0;
  second = 0;
  text = '';
  /** Replies to earlier requests. */
  readonly late = new LateReplies();
  /** Read the whole image from the log device into `log.image`, then call `imageRead`. */
  readImage = false;
  /** Write the runs of `log.runs` from `log.image` to stable media, then call `written`. Never asked for while a write is under way. */
  write = false;
  /** Flush the volatile caches of all legs, then call `legsFlushed`. Never asked for while one is under way. */
  flushLegs = false;
  /** The kernel destroyed the log: forget it, close what it held. */
  destroyed = false;

  reset(): void {
    this.reply = ReplyKind.SILENT;
    this.errno = 0;
    this.late.count = 0;
    this.readImage = false;
    this.write = false;
    this.flushLegs = false;
    this.destroyed = false;
  }

  ack(): void {
    this.reply = ReplyKind.ACK;
  }

  value(value: number): void {
    this.reply = ReplyKind.VALUE;
    this.first = value;
  }

  pair(first: number, second: number): void {
    this.reply = ReplyKind.PAIR;
    this.first = first;
    this.second = second;
  }

  later(): void {
    this.reply = ReplyKind.LATER;
  }

  fail(errno: number): void {
    this.reply = ReplyKind.ERROR;
    this.errno = errno;
  }
}

/** A bounded list of requests that wait for the same I/O. */
export class Waiters {
  count = 0;
  readonly #seq: number[] = [];
  readonly #port: number[] = [];

  /** False when the list is full: the request must then be dropped. */
  add(seq: number, port: number): boolean {
    if (this.count >= WAITING_MAX) return false;
    this.#seq[this.count] = seq;
    this.#port[this.count] = port;
    this.count++;
    return true;
  }

  /** Answers all and empties the list. */
  answer(errno: number, late: LateReplies): void {
    for (let i = 0; i < this.count; i++) late.push(this.#seq[i] as number, this.#port[i] as number, errno);
    this.count = 0;
  }

  /** Moves all waiters of `other` here. */
  take(other: Waiters): void {
    for (let i = 0; i < other.count; i++) this.add(other.#seq[i] as number, other.#port[i] as number);
    other.count = 0;
  }
}
