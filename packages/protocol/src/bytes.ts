/** Text and integers in bytes. */

// WHATWG Encoding: part of every JavaScript host, but not of the ES library that this package is compiled against.
declare class TextDecoder {
  constructor(label: string, options?: { ignoreBOM?: boolean });
  decode(bytes: Uint8Array): string;
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

const TWO_POW_32 = 2 ** 32;
/** First value of the high word at which a u64 no longer fits a double exactly: 2^53 / 2^32. */
const HIGH_WORD_LIMIT = 2 ** 21;

/** UTF-8, malformed sequences replaced by U+FFFD: for text that ends in a path or a log line. Copies. */
export function utf8Text(arena: Uint8Array, offset: number, length: number): string {
  return utf8.decode(arena.slice(offset, offset + length));
}

/** One character per byte, so that two different byte strings never become the same text. */
export function latin1Text(arena: Uint8Array, offset: number, length: number): string {
  let text = '';
  for (let i = 0; i < length; i++) text += String.fromCharCode(arena[offset + i] as number);
  return text;
}

/** The u64 of two words as a number; Infinity when it is 2^53 or more, which no device has as a region. */
export function u64Number(low: number, high: number): number {
  if (high === 0) return low;
  return high < HIGH_WORD_LIMIT ? high * TWO_POW_32 + low : Number.POSITIVE_INFINITY;
}

/** Writes `value`, an integer 0..2^53 (checked by the caller), as a u64. */
export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value >>> 0, true);
  view.setUint32(at + 4, (value / TWO_POW_32) >>> 0, true);
}

/** 2^53: the largest integer that {@link setU64} takes. */
export const U64_NUMBER_MAX = 2 ** 53;

export function assertU64(value: number): void {
  if (!(value >= 0 && value <= U64_NUMBER_MAX && Math.floor(value) === value)) {
    throw new RangeError(`${value} is not an integer 0..2^53: it cannot go to the kernel as a u64`);
  }
}
