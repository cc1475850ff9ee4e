import { BitmapGeometryError, BitmapSearchError, regionRange, spanRange } from './errors.js';
import { checkEncoded, decodeInto, encodeBitmap } from './serial.js';
import { Summary } from './summary.js';
import {
  ALL_ONES,
  assignWords,
  lastWordMask,
  lowestBit,
  popcount,
  usedWords,
  WORD_BITS,
  wordMemory,
  wordsOf,
} from './words.js';

/** Options of {@link RegionBitmap}. */
export interface RegionBitmapOptions {
  /**
   * Memory for the words: at least `bitmapBytes(regionCount)` bytes, starting at a multiple of 4 in its buffer. Used in place, for
   * example as a window into a disk image, and *adopted*: what it holds is the bitmap. Left out: allocated, all zero.
   */
  readonly memory?: Uint8Array;
  /** Keep the summary that `nextZero` needs (1/31 bit per region). Default true. */
  readonly searchZeros?: boolean;
  /** Keep the summary that `nextOne` needs (1/31 bit per region). Default true. */
  readonly searchOnes?: boolean;
}

/** Options of {@link RegionBitmap.deserialize}. `memory` is overwritten, not adopted, and only when the bytes are good. */
export interface DeserializeOptions extends RegionBitmapOptions {
  /** Refuse, before any memory is allocated, bytes of another region count. */
  readonly regionCount?: number;
}

/** Bytes that `load` copies at a time, through an aligned buffer. */
const LOAD_CHUNK_BYTES = 4096;

/**
 * One bit for each of 0..2^32-1 regions; counts its set bits as they change and finds the next zero or one without a scan.
 *
 * Bits are in the kernel's order: region r is bit `r & 7` of byte `r >> 3`, so {@link bytes} *is* the bitmap that
 * drivers/md/dm-log.c keeps on disk. Memory: one bit per region, and 1/31 bit more for each kind of search.
 *
 * Invariants, checked by {@link assertValid}: (1) `count` is the number of set bits; (2) bits past `regionCount` are zero;
 * (3) a summary names exactly the words that hold a zero, or a one.
 *
 * Every method that takes a region throws {@link RegionRangeError} (`ERR_REGION_RANGE`) for one that is not a whole number
 * 0..regionCount-1, and changes nothing. Ranges are half-open: `from` included, `to` excluded.
 */
export class RegionBitmap {
  readonly regionCount: number;
  /** The memory in the kernel's bit order, `bitmapBytes(regionCount)` long. Borrowed: read it; after a write, call {@link rebuild}. */
  readonly bytes: Uint8Array;
  private readonly words: Int32Array;
  /** Index of the last word that holds regions, -1 when there are none. */
  private readonly last: number;
  /** Bits of that word that are regions. */
  private readonly lastMask: number;
  private readonly zeroWords: Summary | null;
  private readonly oneWords: Summary | null;
  private setBits = 0;

  /**
   * All zero, or what `options.memory` holds. Throws {@link BitmapGeometryError} (`ERR_BITMAP_GEOMETRY`) for a count outside
   * 0..2^32-1, or memory that is too short or not 4-aligned.
   */
  constructor(regionCount: number, options: RegionBitmapOptions = {}) {
    this.bytes = wordMemory(regionCount, options.memory);
    this.regionCount = regionCount;
    this.words = wordsOf(this.bytes);
    const used = usedWords(regionCount);
    this.last = used - 1;
    this.lastMask = lastWordMask(regionCount);
    this.zeroWords = options.searchZeros === false ? null : new Summary(used, 'zeros');
    this.oneWords = options.searchOnes === false ? null : new Summary(used, 'ones');
    if (options.memory !== undefined) this.rebuild();
  }

  /** Set bits. */
  get count(): number {
    return this.setBits;
  }

  /** Clear bits. */
  get zeros(): number {
    return this.regionCount - this.setBits;
  }

  /** Bytes of words and summaries together. */
  get byteLength(): number {
    return this.bytes.byteLength + (this.zeroWords?.byteLength ?? 0) + (this.oneWords?.byteLength ?? 0);
  }

  /** Is the region's bit set? */
  get(region: number): boolean {
    const r = region >>> 0;
    if (r !== region || r >= this.regionCount) throw regionRange('region', region, this.regionCount);
    return (((this.words[r >>> 5] as number) >>> (r & 31)) & 1) !== 0;
  }

  /** Sets the region's bit; true if it was clear. */
  set(region: number): boolean {
    const r = region >>> 0;
    if (r !== region || r >= this.regionCount) throw regionRange('region', region, this.regionCount);
    const w = r >>> 5;
    const bit = 1 << (r & 31);
    const old = this.words[w] as number;
    if ((old & bit) !== 0) return false;
    const now = old | bit;
    this.words[w] = now;
    this.setBits++;
    if (old === 0 && this.oneWords !== null) this.oneWords.add(w);
    if (this.isFull(w, now) && this.zeroWords !== null) this.zeroWords.remove(w);
    return true;
  }

  /** Clears the region's bit; true if it was set. */
  clear(region: number): boolean {
    const r = region >>> 0;
    if (r !== region || r >= this.regionCount) throw regionRange('region', region, this.regionCount);
    const w = r >>> 5;
    const bit = 1 << (r & 31);
    const old = this.words[w] as number;
    if ((old & bit) === 0) return false;
    const now = old & ~bit;
    this.words[w] = now;
    this.setBits--;
    if (now === 0 && this.oneWords !== null) this.oneWords.remove(w);
    if (this.isFull(w, old) && this.zeroWords !== null) this.zeroWords.add(w);
    return true;
  }

  /** Gives every region the same bit. */
  fill(value: boolean): void {
    if (this.setBits === (value ? this.regionCount : 0)) return;
    assignWords(this.words, 0, this.last + 1, value ? ALL_ONES : 0);
    if (value) this.words[this.last] = this.lastMask;
    this.setBits = value ? this.regionCount : 0;
    if (value) {
      this.zeroWords?.removeAll();
      this.oneWords?.addAll();
    } else {
      this.zeroWords?.addAll();
      this.oneWords?.removeAll();
    }
  }

  /**
   * The first clear region at or after `from` (0..regionCount), or -1. Its cost does not depend on the region count. Throws
   * {@link BitmapSearchError} (`ERR_BITMAP_SEARCH`) on a bitmap made with `searchZeros: false`.
   */
  nextZero(from: number): number {
    if (this.zeroWords === null) throw new BitmapSearchError('nextZero needs a bitmap made with searchZeros');
    return this.next(from, this.zeroWords, ALL_ONES);
  }

  /** The first set region at or after `from` (0..regionCount), or -1: as {@link nextZero}, but with `searchOnes`. */
  nextOne(from: number): number {
    if (this.oneWords === null) throw new BitmapSearchError('nextOne needs a bitmap made with searchOnes');
    return this.next(from, this.oneWords, 0);
  }

  /**
   * Copies bytes in the kernel's bit order in. A short source reads as if zeros followed; a long one, and bits past the last
   * region, are ignored. Does not write words that keep their value. `source` may be this bitmap's own memory, but not overlap it
   * in part.
   */
  load(source: Uint8Array): void {
    const scratch = new Int32Array(LOAD_CHUNK_BYTES / Int32Array.BYTES_PER_ELEMENT);
    const scratchBytes = new Uint8Array(scratch.buffer);
    const { words } = this;
    for (let w = 0; w < words.length; w += scratch.length) {
      const chunk = source.subarray(w * 4, w * 4 + LOAD_CHUNK_BYTES);
      scratchBytes.set(chunk);
      if (chunk.byteLength < LOAD_CHUNK_BYTES) scratchBytes.fill(0, chunk.byteLength);
      const end = Math.min(scratch.length, words.length - w);
      for (let i = 0; i < end; i++) if (words[w + i] !== scratch[i]) words[w + i] = scratch[i] as number;
    }
    this.rebuild();
  }

  /** Counts and summarises anew after the memory was changed directly; clears bits past the last region. */
  rebuild(): void {
    const { words, last } = this;
    if (last >= 0) assignWords(words, last, last + 1, (words[last] as number) & this.lastMask);
    assignWords(words, last + 1, words.length, 0);
    let setBits = 0;
    for (let w = 0; w <= last; w++) {
      const word = words[w] as number;
      if (word !== 0) setBits += popcount(word);
    }
    this.setBits = setBits;
    this.zeroWords?.rebuild(words, this.lastMask);
    this.oneWords?.rebuild(words, this.lastMask);
  }

  /** Sets regions `from..to-1`. */
  setRange(from: number, to: number): void {
    this.checkSpan(from, to);
    if (to - from === this.regionCount) {
      this.fill(true);
      return;
    }
    const { words } = this;
    for (let w = from >>> 5; w * WORD_BITS < to; w++) {
      const old = words[w] as number;
      this.replace(w, old, old | maskWithin(w, from, to));
    }
  }

  /** Clears regions `from..to-1`. */
  clearRange(from: number, to: number): void {
    this.checkSpan(from, to);
    if (to - from === this.regionCount) {
      this.fill(false);
      return;
    }
    const { words } = this;
    for (let w = from >>> 5; w * WORD_BITS < to; w++) {
      const old = words[w] as number;
      this.replace(w, old, old & ~maskWithin(w, from, to));
    }
  }

  /** Set bits among regions `from..to-1`. Costs a step per 32 regions of the range. */
  countRange(from: number, to: number): number {
    this.checkSpan(from, to);
    if (to - from === this.regionCount) return this.setBits;
    const { words } = this;
    let count = 0;
    for (let w = from >>> 5; w * WORD_BITS < to; w++)
      count += popcount((words[w] as number) & maskWithin(w, from, to));
    return count;
  }

  /** Keeps the bits that `other` has too. Throws {@link BitmapGeometryError} for another region count, as all that merge do. */
  and(other: RegionBitmap): void {
    const theirs = this.wordsOfSameGeometry(other);
    const { words } = this;
    for (let w = 0; w <= this.last; w++) {
      const old = words[w] as number;
      this.replace(w, old, old & (theirs[w] as number));
    }
  }

  /** Adds the bits of `other`. */
  or(other: RegionBitmap): void {
    const theirs = this.wordsOfSameGeometry(other);
    const { words } = this;
    for (let w = 0; w <= this.last; w++) {
      const old = words[w] as number;
      this.replace(w, old, old | (theirs[w] as number));
    }
  }

  /** Clears the bits that `other` has. */
  andNot(other: RegionBitmap): void {
    const theirs = this.wordsOfSameGeometry(other);
    const { words } = this;
    for (let w = 0; w <= this.last; w++) {
      const old = words[w] as number;
      this.replace(w, old, old & ~(theirs[w] as number));
    }
  }

  /** Takes over the bits of `other`. */
  copyFrom(other: RegionBitmap): void {
    const theirs = this.wordsOfSameGeometry(other);
    for (let w = 0; w <= this.last; w++) this.replace(w, this.words[w] as number, theirs[w] as number);
  }

  /** Same region count and same bits? False, not an error, for another region count. */
  equals(other: RegionBitmap): boolean {
    if (other.regionCount !== this.regionCount || other.setBits !== this.setBits) return false;
    for (let w = 0; w <= this.last; w++) if (this.words[w] !== other.words[w]) return false;
    return true;
  }

  /** The compact form: under 1 KiB when all bits are alike, and never over 21 + 4 bytes per 32 regions. The bytes are the caller's. */
  serialize(): Uint8Array {
    return encodeBitmap(this.words, this.regionCount, this.setBits);
  }

  /**
   * The bitmap that {@link serialize} wrote. Throws `BitmapFormatError` (`ERR_BITMAP_FORMAT`) for bytes that are cut,
   * damaged, inconsistent or of another geometry: nothing is allocated and `options.memory` is untouched then.
   */
  static deserialize(bytes: Uint8Array, options: DeserializeOptions = {}): RegionBitmap {
    const regionCount = checkEncoded(bytes, options.regionCount);
    const memory = wordMemory(regionCount, options.memory);
    decodeInto(wordsOf(memory), bytes, regionCount);
    return new RegionBitmap(regionCount, { ...options, memory });
  }

  /** Checks the invariants against a bitmap built anew; throws an Error that says which fails. For tests and simulators: slow. */
  assertValid(): void {
    const fresh = new RegionBitmap(this.regionCount, { memory: this.bytes.slice() });
    if (this.bytes.some((byte, at) => byte !== fresh.bytes[at]))
      throw new Error('bits are set past the last region');
    if (this.setBits !== fresh.setBits)
      throw new Error(`count is ${this.setBits}, but ${fresh.setBits} bits are set`);
    if (this.zeroWords?.equals(fresh.zeroWords as Summary) === false)
      throw new Error('summary of zeros is wrong');
    if (this.oneWords?.equals(fresh.oneWords as Summary) === false)
      throw new Error('summary of ones is wrong');
  }

  private isFull(w: number, word: number): boolean {
    return word === ALL_ONES || (w === this.last && word === this.lastMask);
  }

  /** `flip` turns what is searched for into ones. */
  private next(from: number, summary: Summary, flip: number): number {
    const r = from >>> 0;
    if (r !== from || r > this.regionCount) throw regionRange('region', from, this.regionCount + 1);
    if (r === this.regionCount) return -1;
    let w = r >>> 5;
    let found = this.candidates(w, flip) & (-1 << (r & 31));
    if (found === 0) {
      w = summary.next(w + 1);
      if (w < 0) return -1;
      found = this.candidates(w, flip);
    }
    return w * WORD_BITS + lowestBit(found);
  }

  private candidates(w: number, flip: number): number {
    const word = (this.words[w] as number) ^ flip;
    return w === this.last ? word & this.lastMask : word;
  }

  private replace(w: number, old: number, now: number): void {
    if (old === now) return;
    this.words[w] = now;
    this.setBits += popcount(now) - popcount(old);
    if (this.oneWords !== null) {
      if (old === 0) this.oneWords.add(w);
      else if (now === 0) this.oneWords.remove(w);
    }
    if (this.zeroWords !== null) {
      if (this.isFull(w, now)) this.zeroWords.remove(w);
      else if (this.isFull(w, old)) this.zeroWords.add(w);
    }
  }

  private checkSpan(from: number, to: number): void {
    const whole = from >>> 0 === from && to >>> 0 === to;
    if (!whole || from > to || to > this.regionCount) throw spanRange(from, to, this.regionCount);
  }

  private wordsOfSameGeometry(other: RegionBitmap): Int32Array {
    if (other.regionCount !== this.regionCount) {
      throw new BitmapGeometryError(
        `a bitmap of ${other.regionCount} regions does not fit one of ${this.regionCount}: compare geometry first`,
      );
    }
    return other.words;
  }
}

/** The bits of word `w` that are in regions `from..to-1`; the word and the range overlap. */
function maskWithin(w: number, from: number, to: number): number {
  const first = w * WORD_BITS;
  let mask = ALL_ONES;
  if (from > first) mask <<= from - first;
  if (to < first + WORD_BITS) mask &= (1 << (to - first)) - 1;
  return mask;
}
