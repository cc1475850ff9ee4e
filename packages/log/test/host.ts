import { encodeRequestInto, FrameView, RequestType } from '@dmlog/protocol';
import {
  CoreLog,
  DiskLog,
  Effects,
  freshControl,
  imageBytes,
  type LazyClearOptions,
  type LogMemory,
  type LogParameters,
  type MemoryHome,
  parseConstructor,
  ReplyKind,
} from '../src/index.js';

/** What came back for one request. */
export interface Answer {
  kind: ReplyKind;
  errno: number;
  first: number;
  second: number;
  text: string;
}

/** A waiting request: `errno` is set once it was answered. */
export interface Pending {
  seq: number;
  errno: number | null;
}

const PORT = 0;
const LUID = { low: 0x6600_0000, high: 0xffff_8880 };

/**
 * The kernel and the daemon around one log, in memory: asks requests through real frames and performs effects on a simulated log device.
 * Writes and leg flushes stay under way until the test ends them; `auto` ends them at once.
 */
export class TestHost {
  log: CoreLog | DiskLog;
  readonly #make: () => CoreLog | DiskLog;
  /** What outlives the log: a restart finds it. */
  memory: LogMemory = { control: freshControl(), body: new Uint8Array(0) };
  readonly #effects = new Effects();
  readonly #arena = new Uint8Array(1024);
  readonly #view = new FrameView(this.#arena);
  readonly #waiting = new Map<number, Pending>();
  #seq = 1;
  /** Stable media. Only a write that ended well changes it. */
  media: Uint8Array;
  /** Runs under way, with the bytes as they were submitted. */
  write: { offset: number; bytes: Uint8Array }[] | null = null;
  legFlushUnderWay = false;
  legFlushes = 0;
  writes = 0;
  blocksWritten = 0;
  auto = true;
  /** errno of the next I/O that ends by itself. */
  failReads = 0;
  failWrites = 0;
  failLegFlushes = false;
  refusal: string | null = null;

  constructor(
    text: string,
    options: {
      media?: Uint8Array;
      lazyClear?: LazyClearOptions;
      blockBytes?: number;
      reconnected?: boolean;
      /** The log keeps its state in `memory`. */
      keeps?: boolean;
      /** Makes logs of a further type, which `text` names. */
      make?: { typeName: string; log: (parameters: LogParameters, home: MemoryHome | null) => CoreLog };
    } = {},
  ) {
    const further = options.make;
    const parameters = parseConstructor(text, {
      memoryTypes: further === undefined ? [] : [further.typeName],
    });
    const blockBytes = options.blockBytes ?? 512;
    const bytes = imageBytes(parameters.regionCount, blockBytes);
    this.media = new Uint8Array(bytes);
    if (options.media !== undefined) this.media.set(options.media.subarray(0, bytes));
    const reconnected = options.reconnected ?? false;
    const home = (bodyBytes: number) => {
      this.memory = { control: this.memory.control, body: new Uint8Array(bodyBytes) };
      return this.memory;
    };
    const kept = options.keeps === true ? home : null;
    this.#make = () =>
      parameters.kind === 'core'
        ? (further?.log(parameters, kept) ?? new CoreLog(parameters, reconnected, kept))
        : new DiskLog({
            parameters,
            deviceNumber: '254:3',
            blockBytes,
            image: new Uint8Array(bytes),
            reconnected,
            home: kept,
            lazyClear: options.lazyClear ?? { milliseconds: 0, regionsMax: 1000 },
          });
    this.log = this.#make();
  }

  /**
   * The process dies and another begins with what is in `memory` and on the medium; `lands` says which blocks of the write under way still got there.
   * Requests that wait are forgotten: the kernel asks again. Returns why the state was refused, or null.
   */
  restart(lands: (block: number) => boolean = () => false): string | null {
    const { blockBytes } = this.log instanceof DiskLog ? this.log : { blockBytes: 512 };
    for (const { offset, bytes } of this.write ?? []) {
      for (let at = 0; at < bytes.length; at += blockBytes) {
        if (lands((offset + at) / blockBytes))
          this.media.set(bytes.subarray(at, at + blockBytes), offset + at);
      }
    }
    this.write = null;
    this.legFlushUnderWay = false;
    this.#waiting.clear();
    this.log = this.#make();
    const problem = this.log.restore(this.memory);
    if (problem === null && this.log instanceof DiskLog && this.log.needsImage) {
      this.#effects.reset();
      if (this.failReads === 0) this.disk.image.set(this.media);
      this.disk.imageRestored(this.failReads, this.#effects);
      this.#perform();
    }
    return problem;
  }

  get disk(): DiskLog {
    if (this.log instanceof DiskLog) return this.log;
    throw new Error('not a disk log');
  }

  ask(type: RequestType, ...values: number[]): Answer {
    const data = new Uint8Array(values.length * 8);
    const words = new DataView(data.buffer);
    values.forEach((value, i) => {
      words.setUint32(8 * i, value >>> 0, true);
      words.setUint32(8 * i + 4, Math.floor(value / 2 ** 32), true);
    });
    const seq = this.#seq++;
    const end = encodeRequestInto(this.#arena, 0, { type, version: 3, seq, luid: LUID, uuid: 'test', data });
    const code = this.#view.decode(0, end);
    if (code !== 0) throw new Error(`frame refused with ${code}`);
    this.#effects.reset();
    this.log.request(this.#view, PORT, this.#effects);
    const { reply, errno, first, second, text } = this.#effects;
    if (reply === ReplyKind.LATER) this.#waiting.set(seq, { seq, errno: null });
    this.#perform();
    return { kind: reply, errno, first, second, text };
  }

  /** Asks and follows the answer if it comes later. */
  later(type: RequestType, ...values: number[]): Pending {
    const seq = this.#seq;
    const answer = this.ask(type, ...values);
    if (answer.kind === ReplyKind.ACK) return { seq, errno: 0 };
    if (answer.kind === ReplyKind.ERROR) return { seq, errno: answer.errno };
    return this.#waiting.get(seq) ?? this.#answered.get(seq) ?? { seq, errno: null };
  }
  readonly #answered = new Map<number, Pending>();

  tick(nowMs: number): void {
    this.#effects.reset();
    this.log.tick(nowMs, this.#effects);
    this.#perform();
  }

  /** Ends the write under way. `errno` 0: it is on stable media. */
  endWrite(errno = 0): void {
    if (this.write === null) throw new Error('no write is under way');
    if (errno === 0) for (const { offset, bytes } of this.write) this.media.set(bytes, offset);
    this.write = null;
    this.#effects.reset();
    this.disk.written(errno, this.#effects);
    this.#perform();
  }

  endLegFlush(flushed = true): void {
    if (!this.legFlushUnderWay) throw new Error('no flush of the legs is under way');
    this.legFlushUnderWay = false;
    this.#effects.reset();
    this.disk.legsFlushed(flushed, this.#effects);
    this.#perform();
  }

  /** Regions that the medium calls clean. */
  cleanOnMedia(): number[] {
    const clean: number[] = [];
    for (let r = 0; r < this.log.regionCount; r++) {
      if (((this.media[1024 + (r >>> 3)] as number) >> (r & 7)) & 1) clean.push(r);
    }
    return clean;
  }

  #perform(): void {
    const { late, write, flushLegs, readImage } = this.#effects;
    for (let i = 0; i < late.count; i++) {
      const seq = late.seq[i] as number;
      const pending = this.#waiting.get(seq) ?? { seq, errno: null };
      if (pending.errno !== null) throw new Error(`request ${seq} was answered twice`);
      pending.errno = late.errno[i] as number;
      this.#waiting.delete(seq);
      this.#answered.set(seq, pending);
    }
    if (write) this.#beginWrite();
    if (flushLegs) {
      if (this.legFlushUnderWay) throw new Error('a second flush of the legs was asked for');
      this.legFlushUnderWay = true;
      this.legFlushes++;
    }
    if (readImage) {
      this.#effects.reset();
      if (this.failReads === 0) this.disk.image.set(this.media);
      this.refusal = this.disk.imageRead(this.failReads, this.#effects);
      this.#perform();
    }
    if (!this.auto) return;
    if (this.write !== null) this.endWrite(this.failWrites);
    else if (this.legFlushUnderWay) this.endLegFlush(!this.failLegFlushes);
  }

  #beginWrite(): void {
    if (this.write !== null) throw new Error('a second write was asked for');
    const { runs, runCount, image, blockBytes } = this.disk;
    this.write = [];
    this.writes++;
    for (let i = 0; i < runCount; i++) {
      const offset = runs[2 * i] as number;
      const length = runs[2 * i + 1] as number;
      this.blocksWritten += length / blockBytes;
      this.write.push({ offset, bytes: image.slice(offset, offset + length) });
    }
  }
}

/** Resumes and returns the host, for a log of 16 regions unless `text` says otherwise. */
export function resumed(host: TestHost): TestHost {
  const pending = host.later(RequestType.RESUME);
  if (pending.errno !== 0) throw new Error(`RESUME was answered with ${pending.errno}`);
  return host;
}
