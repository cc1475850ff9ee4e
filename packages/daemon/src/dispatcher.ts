import { type FrameHandler, NO_REPLY, REPLY_LATER, SLOT_BYTES } from '@dmlog/connector';
import { Effects, LogRegistry, ReplyKind } from '@dmlog/log';
import {
  ACK_BYTES,
  DecodeCode,
  decodeCodeName,
  Errno,
  encodeAckInto,
  FrameView,
  RequestType,
  requestTypeName,
} from '@dmlog/protocol';
import { ImageVerdict, settleImage } from './image-owner.js';
import type { Logger } from './logging.js';
import type { Served } from './served.js';

/** Request types are 1 … 17; counters are kept for each. */
const REQUEST_TYPES = 18;

/** Netlink port of the kernel itself. */
const KERNEL_PORT = 0;

/** Of refused requests so many are logged, then one in so many: a flood must not fill the journal. */
const REFUSED_LOGGED_FIRST = 10;
const REFUSED_LOGGED_EVERY = 1000;

/** Makes the log that a CTR asks for. Replies by itself, later. */
export interface Constructor {
  /** `frame` is a copy. `found` is the log of that name, when there is one. */
  construct(frame: Uint8Array, port: number, found: Served | null): void;
}

/** Plain counters, read by metrics and status; never reset. */
export interface DispatchCounters {
  /** By request type. */
  readonly requests: Float64Array;
  readonly errors: Float64Array;
  malformed: number;
  unknownLogs: number;
  silent: number;
}

/**
 * From datagram to reply: decodes in place, finds the log, steps it, writes the reply over the request. Allocates nothing on the way, and
 * throws nothing.
 */
export class Dispatcher {
  readonly logs = new LogRegistry<Served>();
  readonly counters: DispatchCounters = {
    requests: new Float64Array(REQUEST_TYPES),
    errors: new Float64Array(REQUEST_TYPES),
    malformed: 0,
    unknownLogs: 0,
    silent: 0,
  };
  readonly handle: FrameHandler;
  readonly #arena: Uint8Array;
  readonly #view: FrameView;
  readonly #effects = new Effects();
  /** Logs that were asked what only a table in use asks, when they were not resumed. */
  readonly #used = new WeakSet<Served>();
  /** Requests that were decoded and refused, for the log. */
  #refused = 0;
  #lastText = '';
  #lastTextBytes: Uint8Array = new Uint8Array(1);
  readonly #ack = new Uint8Array(ACK_BYTES);
  readonly #send: (bytes: Uint8Array, port: number) => void;
  readonly #logger: Logger;
  readonly #onTickNeeded: () => void;
  readonly #lastSeq: Uint32Array;
  #answersCtr: Constructor | null = null;

  constructor(init: {
    arena: Uint8Array;
    send: (bytes: Uint8Array, port: number) => void;
    logger: Logger;
    /** Called when a log wants ticks; often. */
    onTickNeeded: () => void;
    /** `[0]` is told the sequence number of each request of the kernel. */
    lastSeq?: Uint32Array;
  }) {
    this.#arena = init.arena;
    this.#view = new FrameView(init.arena, SLOT_BYTES);
    this.#send = init.send;
    this.#logger = init.logger;
    this.#onTickNeeded = init.onTickNeeded;
    this.#lastSeq = init.lastSeq ?? new Uint32Array(1);
    this.handle = (offset, length, port) => this.#handle(offset, length, port);
  }

  /** Who answers CTR. Set before the first frame. */
  constructWith(constructs: Constructor): void {
    this.#answersCtr = constructs;
  }

  /** Answers an earlier request that returns nothing. Bound: logs are handed this. */
  readonly replyLate = (seq: number, port: number, errno: number): void => {
    encodeAckInto(this.#ack, 0, seq, errno);
    this.#send(this.#ack, port);
  };

  #handle(offset: number, length: number, port: number): number {
    const view = this.#view;
    const code = view.decode(offset, length);
    if (code !== DecodeCode.OK) return this.#refuse(code, port);
    if (port === KERNEL_PORT) this.#lastSeq[0] = view.seq;
    const type = view.type;
    this.counters.requests[type] = (this.counters.requests[type] as number) + 1;
    const served = this.logs.find(view);
    if (type === RequestType.CTR) return this.#construct(offset, length, port, served);
    if (served === null) return this.#unknown(type);
    if (type === RequestType.RESUME && served.device !== null) {
      const verdict = settleImage(this.logs, served, this.#used.has(served));
      if (verdict !== ImageVerdict.OURS)
        return verdict === ImageVerdict.ANOTHERS ? view.replyAck(0) : NO_REPLY;
    }
    const effects = this.#effects;
    effects.reset();
    served.request(view, port, effects);
    if (effects.reply === ReplyKind.UNKNOWN) this.#used.add(served);
    if (effects.destroyed) this.#forget(served);
    else if (served.log.needsTick) this.#onTickNeeded();
    return this.#reply(view, effects, type);
  }

  #reply(view: FrameView, effects: Effects, type: number): number {
    switch (effects.reply) {
      case ReplyKind.ACK:
        return view.replyAck(0);
      case ReplyKind.VALUE:
        return view.replyValue(effects.first);
      case ReplyKind.PAIR:
        return view.replyPair(effects.first, effects.second);
      case ReplyKind.LATER:
        return REPLY_LATER;
      case ReplyKind.UNKNOWN:
        return this.#unknown(type);
      case ReplyKind.ERROR:
        return this.#error(view, type, effects.errno);
      case ReplyKind.TEXT:
        return view.replyBytes(this.#textBytes(effects.text));
      default:
        return this.#silence(view, type);
    }
  }

  /** The text with a NUL. Status is asked again and again with the same answer: the last one is kept. */
  #textBytes(text: string): Uint8Array {
    if (text !== this.#lastText) {
      this.#lastText = text;
      this.#lastTextBytes = Buffer.from(`${text}\0`, 'latin1');
    }
    return this.#lastTextBytes;
  }

  #error(view: FrameView, type: number, errno: number): number {
    this.counters.errors[type] = (this.counters.errors[type] as number) + 1;
    this.#logRefusal(view, type, errno);
    return view.replyError(-errno);
  }

  /** An IN_SYNC that no true answer is known to: an error would be taken for "not in sync" (design rule 9). */
  #silence(view: FrameView, type: number): number {
    this.counters.silent++;
    this.#logRefusal(view, type, null);
    return NO_REPLY;
  }

  #logRefusal(view: FrameView, type: number, errno: number | null): void {
    if (!isLogged(++this.#refused)) return;
    const regions = Array.from({ length: view.regionCount }, (_, i) => view.region(i));
    this.#logger.warn(
      { uuid: view.uuidText(), request: requestTypeName(type), errno, regions, refused: this.#refused },
      errno === null
        ? 'request left unanswered, because no answer would be true: the kernel repeats it'
        : 'request refused, and the kernel told so',
    );
  }

  /** The kernel then constructs and resumes the log again, and repeats the request, without an I/O error (facts: -ESRCH). */
  #unknown(type: number): number {
    this.counters.unknownLogs++;
    this.counters.errors[type] = (this.counters.errors[type] as number) + 1;
    return this.#view.replyError(-Errno.ESRCH);
  }

  #refuse(code: number, port: number): number {
    const view = this.#view;
    const seen = ++this.counters.malformed;
    if (isLogged(seen)) {
      this.#logger.warn(
        { reason: decodeCodeName(code), port, malformed: seen },
        'malformed frame refused: no log is touched by it',
      );
    }
    // An error to IN_SYNC would be taken for "not in sync" (design rule 9); what cannot be answered is left unanswered.
    if (!view.answerable || view.type === RequestType.IN_SYNC) return NO_REPLY;
    return view.replyError(-Errno.EINVAL);
  }

  #construct(offset: number, length: number, port: number, found: Served | null): number {
    // A copy with room for the reply: the slot is ours only until we return.
    const frame = new Uint8Array(SLOT_BYTES);
    frame.set(this.#arena.subarray(offset, offset + Math.min(length, SLOT_BYTES)));
    (this.#answersCtr as Constructor).construct(frame, port, found);
    return REPLY_LATER;
  }

  #forget(served: Served): void {
    this.logs.remove(served.name);
    this.#logger.info({ uuid: served.name.uuid }, 'log destroyed by the kernel');
  }
}

function isLogged(count: number): boolean {
  return count <= REFUSED_LOGGED_FIRST || count % REFUSED_LOGGED_EVERY === 0;
}
