/**
 * The words under a bitmap: geometry, bit counting, and the byte order they rely on.
 *
 * Words are `Int32Array`, not `Uint32Array`: bitwise operators yield signed 32-bit values, so a signed word is read, combined,
 * compared and stored without ever becoming a double.
 */
import { BitmapGeometryError } from './errors.js';

/** Regions per word. */
export const WORD_BITS = 32;
/** A word with every bit set. */
export const ALL_ONES = -1;
/** Most regions of one bitmap: every region index, and the count itself, then fits an unsigned 32-bit number. */
export const REGION_COUNT_MAX = 2 ** 32 - 1;

/** The kernel rounds its log bitset up to whole `unsigned long`s: create_log_context, drivers/md/dm-log.c (64-bit). */
const BITS_PER_LONG = 64;
const LONG_BYTES = 8;

// The words are the kernel's on-disk bitmap (test_bit_le and friends, drivers/md/dm-log.c) only where a word's first byte
// holds its lowest bits. A big-endian machine would write logs that no kernel can read, so it must not get past loading.
if (new Uint8Array(Uint32Array.of(1).buffer)[0] !== 1) {
  throw new Error('@dmlog/bitmap needs a little-endian machine: its words are the on-disk bitmap');
}

/** Throws {@link BitmapGeometryError} unless `regionCount` is a whole number 0..{@link REGION_COUNT_MAX}. */
export function checkRegionCount(regionCount: number): void {
  if (regionCount >>> 0 !== regionCount) {
    throw new BitmapGeometryError(
      `region count ${regionCount} is not supported: need a whole number 0..${REGION_COUNT_MAX}`,
    );
  }
}

/**
 * Bytes of the bitmap of `regionCount` regions: one bit each, rounded up to 8 bytes as the kernel does (BITS_PER_LONG = 64).
 * Throws {@link BitmapGeometryError} for a count that is not a whole number 0..2^32-1.
 */
export function bitmapBytes(regionCount: number): number {
  checkRegionCount(regionCount);
  return Math.ceil(regionCount / BITS_PER_LONG) * LONG_BYTES;
}

/** Words that hold at least one region; the kernel's rounding may add one more, always zero. */
export function usedWords(regionCount: number): number {
  return Math.ceil(regionCount / WORD_BITS);
}

/** The bits of the last used word that are regions. */
export function lastWordMask(regionCount: number): number {
  const rest = regionCount % WORD_BITS;
  return rest === 0 ? ALL_ONES : ((1 << rest) - 1) | 0; // | 0: a word, also for 31 regions
}

/** Memory for the words of `regionCount` regions, or `memory` checked to be fit for it: long enough and 4-aligned. */
export function wordMemory(regionCount: number, memory?: Uint8Array): Uint8Array {
  const byteLength = bitmapBytes(regionCount);
  if (memory === undefined) return new Uint8Array(byteLength);
  if (memory.byteLength < byteLength) {
    throw new BitmapGeometryError(
      `memory of ${memory.byteLength} bytes is too short: ${regionCount} regions need ${byteLength}`,
    );
  }
  if (memory.byteOffset % Int32Array.BYTES_PER_ELEMENT !== 0) {
    throw new BitmapGeometryError(
      `memory starts at byte ${memory.byteOffset} of its buffer: it must start at a multiple of 4`,
    );
  }
  return memory.subarray(0, byteLength);
}

/** The bytes as words. `bytes` is 4-aligned and a multiple of 4 long. */
export function wordsOf(bytes: Uint8Array): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / Int32Array.BYTES_PER_ELEMENT);
}

/** Set bits of one word, 0..32. */
export function popcount(word: number): number {
  let v = word - ((word >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Index of the lowest set bit of a word that is not 0, 0..31. */
export function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}

/**
 * Gives `words[from..to-1]` the value, writing only what differs: memory that the operating system has not handed out yet reads
 * as zero, and a write of zero would make it do so.
 */
export function assignWords(words: Int32Array, from: number, to: number, value: number): void {
  for (let w = from; w < to; w++) if (words[w] !== value) words[w] = value;
}
