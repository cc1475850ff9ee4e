/**
 * The compact form of a bitmap. All numbers little-endian.
 *
 * | offset | size | field        | note                                                        |
 * |      0 |    4 | magic        | "RBM1"                                                      |
 * |      4 |    4 | region count | u32                                                         |
 * |      8 |    4 | set bits     | u32                                                         |
 * |     12 |    4 | checksum     | u32, CRC-32 (IEEE) of bytes 0..11 followed by 16..end       |
 * |     16 |    - | runs         | cover every used word (32 regions) once, in order           |
 *
 * A run is an unsigned LEB128 number, `words * 4 + kind`, of at most 5 bytes. Kind 0: words of zeros; 1: words of ones (in the
 * last word: all its regions); 2: `words * 4` bytes follow as they are in memory. Size: 16 + 4 bytes per word that is neither
 * all zeros nor all ones + 1..5 bytes per run; never more than 21 + 4 bytes per word.
 */
import { crc32 } from './crc32.js';
import { BitmapFormatError } from './errors.js';
import { ALL_ONES, lastWordMask, popcount, usedWords, WORD_BITS } from './words.js';

const MAGIC = 0x314d4252; // "RBM1" read as a little-endian u32
const COUNT_AT = 4;
const SET_BITS_AT = 8;
const CHECKSUM_AT = 12;
const HEADER_BYTES = 16;
const WORD_BYTES = 4;
const RUN_HEAD_BYTES_MAX = 5;

const ZEROS = 0;
const ONES = 1;
const RAW = 2;

/** The kind of the run that starts at word `w`. */
function kindAt(words: Int32Array, w: number, last: number, lastMask: number): number {
  const word = words[w] as number;
  if (word === 0) return ZEROS;
  return word === (w === last ? lastMask : ALL_ONES) ? ONES : RAW;
}

/** The first word after the longest run that starts at `w`. */
function runEnd(words: Int32Array, w: number, last: number, lastMask: number): number {
  const kind = kindAt(words, w, last, lastMask);
  let end = w + 1;
  if (kind === ZEROS) while (end <= last && words[end] === 0) end++;
  else if (kind === ONES) {
    while (end < last && words[end] === ALL_ONES) end++;
    if (end === last && words[end] === lastMask) end++;
  } else while (end <= last && kindAt(words, end, last, lastMask) === RAW) end++;
  return end;
}

function varintBytes(value: number): number {
  return value === 0 ? 1 : Math.ceil((32 - Math.clz32(value)) / 7);
}

/** Serialises the used words of a bitmap with `setBits` set bits. The result is the caller's. */
export function encodeBitmap(words: Int32Array, regionCount: number, setBits: number): Uint8Array {
  const last = usedWords(regionCount) - 1;
  const lastMask = lastWordMask(regionCount);
  let byteLength = HEADER_BYTES;
  for (let w = 0; w <= last; ) {
    const end = runEnd(words, w, last, lastMask);
    byteLength += varintBytes((end - w) * 4);
    if (kindAt(words, w, last, lastMask) === RAW) byteLength += (end - w) * WORD_BYTES;
    w = end;
  }

  const bytes = new Uint8Array(byteLength);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MAGIC, true);
  view.setUint32(COUNT_AT, regionCount, true);
  view.setUint32(SET_BITS_AT, setBits, true);
  let at = HEADER_BYTES;
  for (let w = 0; w <= last; ) {
    const end = runEnd(words, w, last, lastMask);
    const kind = kindAt(words, w, last, lastMask);
    let head = (end - w) * 4 + kind;
    for (; head >= 0x80; head >>>= 7) bytes[at++] = (head & 0x7f) | 0x80;
    bytes[at++] = head;
    if (kind === RAW)
      for (let r = w; r < end; r++, at += WORD_BYTES) view.setInt32(at, words[r] as number, true);
    w = end;
  }
  view.setUint32(CHECKSUM_AT, checksum(bytes), true);
  return bytes;
}

function checksum(bytes: Uint8Array): number {
  return crc32(bytes, HEADER_BYTES, bytes.byteLength, crc32(bytes, 0, CHECKSUM_AT));
}

/** Steps over the runs of untrusted bytes, never past their end. */
class RunReader {
  kind = ZEROS;
  /** Words of the current run. */
  length = 0;
  /** Byte offset after what was read. */
  at = HEADER_BYTES;
  private readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** Reads the next run's head; a raw run's words start at `at`, and the caller adds their bytes. */
  advance(wordsLeft: number): void {
    const start = this.at;
    let head = 0;
    for (let i = 0; ; i++) {
      const byte = this.bytes[this.at++];
      if (byte === undefined)
        throw new BitmapFormatError(`run at byte ${start} is cut off: read the whole bitmap`);
      if (i === RUN_HEAD_BYTES_MAX - 1 && byte > 0x0f) {
        throw new BitmapFormatError(`run at byte ${start} has a head of more than 32 bits`);
      }
      head = (head | ((byte & 0x7f) << (7 * i))) >>> 0;
      if (byte < 0x80) break;
    }
    this.kind = head & 3;
    this.length = head >>> 2;
    if (this.kind > RAW) throw new BitmapFormatError(`run at byte ${start} is of unknown kind ${this.kind}`);
    if (this.length === 0 || this.length > wordsLeft) {
      throw new BitmapFormatError(`run at byte ${start} has ${this.length} words: ${wordsLeft} are left`);
    }
    if (this.kind === RAW && this.at + this.length * WORD_BYTES > this.bytes.byteLength) {
      throw new BitmapFormatError(`raw run at byte ${start} is cut off: it needs ${this.length} words`);
    }
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Checks everything about untrusted bytes and returns their region count. Throws {@link BitmapFormatError}. */
export function checkEncoded(bytes: Uint8Array, expectedCount?: number): number {
  if (bytes.byteLength < HEADER_BYTES) {
    throw new BitmapFormatError(
      `${bytes.byteLength} bytes are too short for a bitmap: the header has ${HEADER_BYTES}`,
    );
  }
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== MAGIC) {
    throw new BitmapFormatError('not a serialised bitmap of this version: the magic "RBM1" is missing');
  }
  const stored = view.getUint32(CHECKSUM_AT, true);
  const actual = checksum(bytes);
  if (stored !== actual) {
    throw new BitmapFormatError(
      `checksum is ${actual.toString(16)}, but ${stored.toString(16)} was stored: the bytes are damaged or cut`,
    );
  }
  const regionCount = view.getUint32(COUNT_AT, true);
  if (expectedCount !== undefined && regionCount !== expectedCount) {
    throw new BitmapFormatError(`bitmap has ${regionCount} regions, but ${expectedCount} were expected`);
  }
  checkRuns(bytes, view, regionCount);
  return regionCount;
}

function checkRuns(bytes: Uint8Array, view: DataView, regionCount: number): void {
  const total = usedWords(regionCount);
  const lastMask = lastWordMask(regionCount);
  const reader = new RunReader(bytes);
  let setBits = 0;
  for (let w = 0; w < total; w += reader.length) {
    reader.advance(total - w);
    const reachesEnd = w + reader.length === total;
    if (reader.kind === ONES) {
      setBits += reachesEnd ? regionCount - w * WORD_BITS : reader.length * WORD_BITS;
    } else if (reader.kind === RAW) {
      for (let i = 0; i < reader.length; i++, reader.at += WORD_BYTES) {
        setBits += popcount(view.getInt32(reader.at, true));
      }
      if (reachesEnd && (view.getInt32(reader.at - WORD_BYTES, true) & ~lastMask) !== 0) {
        throw new BitmapFormatError(`bits are set past the last region, ${regionCount - 1}`);
      }
    }
  }
  if (reader.at !== bytes.byteLength) {
    throw new BitmapFormatError(`${bytes.byteLength - reader.at} bytes are left over after the last run`);
  }
  const stored = view.getUint32(SET_BITS_AT, true);
  if (setBits !== stored)
    throw new BitmapFormatError(`${setBits} bits are set, but the header says ${stored}`);
}

/**
 * Decodes bytes that {@link checkEncoded} has accepted; cannot fail. A run of ones also sets bits past the last region, and the word
 * that rounds up to 64 bits is not written: adopting the memory (rebuild) clears both.
 */
export function decodeInto(words: Int32Array, bytes: Uint8Array, regionCount: number): void {
  const total = usedWords(regionCount);
  const view = viewOf(bytes);
  const reader = new RunReader(bytes);
  for (let w = 0; w < total; ) {
    reader.advance(total - w);
    const end = w + reader.length;
    if (reader.kind === RAW) {
      for (; w < end; w++, reader.at += WORD_BYTES) words[w] = view.getInt32(reader.at, true);
    } else {
      const value = reader.kind === ONES ? ALL_ONES : 0;
      for (; w < end; w++) if (words[w] !== value) words[w] = value;
    }
  }
}
