/**
 * The state of a log in memory that outlives the process: what a restarted daemon needs to go on as if nothing had happened.
 *
 * Two pieces. *Control* is small and of a fixed size; *body* holds the bitmaps, one after the other, and exists from the first RESUME on.
 *
 * | control at | size | what                                                                  |
 * |          0 |   32 | record, even generations                                              |
 * |         32 |   32 | record, odd generations                                               |
 * |         64 | 16·n | seal of each bitmap (sealed-bitmap.ts), {@link SECTIONS_MAX} at most  |
 *
 * | record word | what                                                                           |
 * |           0 | generation: one more at each commit, wraps                                     |
 * |        1…6  | values; their meaning is the log type's                                        |
 * |           7 | check over words 0…6                                                           |
 *
 * A commit writes the older record, its check last: a process that dies meanwhile leaves the other one, which is the state before. Host byte order.
 */
import { bitmapBytes, RegionBitmap } from '@dmlog/bitmap';
import { isWhole, SEAL_WORDS, SealedBitmap } from './sealed-bitmap.js';

export const CONTROL_BYTES = 1024;
/** Values of a record. */
export const RECORD_VALUES = 6;

const RECORD_WORDS = RECORD_VALUES + 2;
const CHECK = RECORD_WORDS - 1;
const SEALS_AT_WORD = 2 * RECORD_WORDS;
/** Bitmaps of one log at most. */
export const SECTIONS_MAX = (CONTROL_BYTES / 4 - SEALS_AT_WORD) / SEAL_WORDS;

/** Both pieces; each starts at a multiple of 8 in its buffer. */
export interface LogMemory {
  readonly control: Uint8Array;
  readonly body: Uint8Array;
}

/** Gives a log its memory at the first RESUME: `control` as it was, `body` of so many bytes, all zero. Null where there is none to be had. */
export type MemoryHome = (bodyBytes: number) => LogMemory | null;

/** One bitmap of a log. */
export interface Section {
  readonly bits: number;
  readonly searchZeros: boolean;
  readonly searchOnes: boolean;
}

/** Bytes of the body that holds these bitmaps. */
export function bodyBytes(sections: readonly Section[]): number {
  return sections.reduce((sum, { bits }) => sum + bitmapBytes(bits), 0);
}

function check(words: Uint32Array, from: number): number {
  let h = 0x444d4c47;
  for (let i = from; i < from + CHECK; i++) {
    h = Math.imul(h ^ (words[i] as number), 0x9e3779b1);
    h ^= h >>> 15;
  }
  return h >>> 0;
}

function wordsOf(control: Uint8Array): Uint32Array {
  return new Uint32Array(control.buffer, control.byteOffset, CONTROL_BYTES / 4);
}

/** Where the record of this generation stands. */
function slotOf(generation: number): number {
  return (generation & 1) * RECORD_WORDS;
}

/** The newest valid record: generation and values. Null where neither is valid. */
export function readRecord(control: Uint8Array): Uint32Array | null {
  const words = wordsOf(control);
  const valid = [0, RECORD_WORDS].filter(
    (at) => words[at + CHECK] === check(words, at) && slotOf(words[at] as number) === at,
  );
  const [a, b] = valid;
  if (a === undefined) return null;
  // Generations wrap: the newer one is the one that is less than half the circle ahead.
  const newest = b !== undefined && (((words[b] as number) - (words[a] as number)) | 0) > 0 ? b : a;
  return words.slice(newest, newest + RECORD_WORDS - 1);
}

/** Makes `values` (up to {@link RECORD_VALUES}) the state, in one step as far as any later process can tell. Allocates nothing. */
export function writeRecord(control: Uint32Array, generation: number, values: Uint32Array): void {
  const at = slotOf(generation);
  control[at] = generation;
  for (let i = 0; i < RECORD_VALUES; i++) control[at + 1 + i] = values[i] as number;
  control[at + CHECK] = check(control, at);
}

/** Control of a log that was constructed and nothing else: record values all zero, no bitmap. */
export function freshControl(): Uint8Array {
  const control = new Uint8Array(CONTROL_BYTES);
  writeRecord(wordsOf(control), 0, new Uint32Array(RECORD_VALUES));
  return control;
}

/** The memory of one log, in use. */
export class KeptState {
  /** What the next {@link commit} makes the state. */
  readonly values = new Uint32Array(RECORD_VALUES);
  readonly #control: Uint32Array;
  readonly #memory: LogMemory;
  readonly #sections: readonly Section[];
  #generation: number;
  #fresh = false;

  /** Throws RangeError for memory that is too small. */
  constructor(memory: LogMemory, sections: readonly Section[]) {
    if (memory.control.byteLength < CONTROL_BYTES || memory.body.byteLength < bodyBytes(sections)) {
      throw new RangeError('the memory is too small for the bitmaps of this log');
    }
    this.#memory = memory;
    this.#sections = sections;
    this.#control = wordsOf(memory.control);
    const record = readRecord(memory.control);
    this.#generation = record?.[0] ?? 0;
    if (record !== null) this.values.set(record.subarray(1));
  }

  commit(): void {
    this.#generation = (this.#generation + 1) >>> 0;
    writeRecord(this.#control, this.#generation, this.values);
  }

  /** For memory whose bitmaps are all zero: whatever seals an earlier use left are void. Before any bitmap is taken. */
  sealAfresh(): void {
    this.#fresh = true;
    this.#control.fill(0, SEALS_AT_WORD);
  }

  isWhole(index: number): boolean {
    const bytes = this.#bytes(index);
    return isWhole(new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4), this.#seal(index));
  }

  /** The bitmap as it is in memory; `empty` clears it first. */
  bitmap(index: number, empty = false): SealedBitmap {
    const { bits, ...search } = this.#sections[index] as Section;
    const bytes = this.#bytes(index);
    if (empty) bytes.fill(0);
    return new SealedBitmap(bits, bytes, this.#seal(index), search, this.#fresh);
  }

  #bytes(index: number): Uint8Array {
    const from = bodyBytes(this.#sections.slice(0, index));
    return this.#memory.body.subarray(from, from + bitmapBytes((this.#sections[index] as Section).bits));
  }

  #seal(index: number): Int32Array {
    const at = this.#memory.control.byteOffset + 4 * (SEALS_AT_WORD + SEAL_WORDS * index);
    return new Int32Array(this.#memory.control.buffer, at, SEAL_WORDS);
  }
}

/** A bitmap in ordinary memory, for a log without a home. */
export function heapBitmap({ bits, ...search }: Section): RegionBitmap {
  return new RegionBitmap(bits, search);
}

/** Clears every bit of `bitmap` whose bit in `allowed` is clear, or set where `inverted`. Writes only bits that change, one by one. */
export function keepOnly(bitmap: RegionBitmap, allowed: RegionBitmap, inverted = false): void {
  const own = bitmap.bytes;
  const theirs = allowed.bytes;
  const flip = inverted ? 0xff : 0;
  for (let i = 0; i < own.length; i++) {
    const excess = (own[i] as number) & ~((theirs[i] as number) ^ flip);
    if (excess === 0) continue;
    for (let bit = 0; bit < 8; bit++) if ((excess >> bit) & 1) bitmap.clear(8 * i + bit);
  }
}
