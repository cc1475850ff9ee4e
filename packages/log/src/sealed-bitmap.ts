import { RegionBitmap, type RegionBitmapOptions } from '@dmlog/bitmap';

/**
 * A bitmap in memory that outlives the process, with a digest beside it, so that a restarted daemon can tell a whole bitmap from a damaged one.
 *
 * The digest is the XOR of one number for each word, so a change of one bit changes it in a step of its own. The process may die
 * between the two steps; then digest and words differ by exactly the bit that the seal's *intent* names, from before the first step until after the last.
 * Anything else is damage. What changes many words at once opens the seal and closes it again when it is done.
 *
 * | word | of a seal                                                         |
 * |    0 | digest                                                            |
 * |    1 | intent: region that is being changed and 1 more; 0 at rest        |
 * |    2 | 1 while many words are being changed: the digest says nothing     |
 * |    3 | zero                                                              |
 *
 * Fresh memory, all zero, has a valid seal that is all zero too.
 */
export const SEAL_WORDS = 4;

const DIGEST = 0;
const INTENT = 1;
const OPEN = 2;

/** A one-to-one mix of 32 bits (the finalizer of MurmurHash3): any change of a word changes its number. */
function mix(word: number): number {
  let v = word;
  v = Math.imul(v ^ (v >>> 16), 0x85ebca6b);
  v = Math.imul(v ^ (v >>> 13), 0xc2b2ae35);
  return v ^ (v >>> 16);
}

/** What makes the number of a word depend on its place. */
function salt(index: number): number {
  return Math.imul(index + 1, 0x9e3779b1);
}

/** How the digest changes when word `index` turns from `before` to `now`: XOR it in. The digest of words that are all zero is 0. */
export function change(index: number, before: number, now: number): number {
  const s = salt(index);
  return mix(before ^ s) ^ mix(now ^ s);
}

/** The digest of all words; 0 where all of them are zero. */
export function digestOf(words: Int32Array): number {
  let digest = 0;
  for (let w = 0; w < words.length; w++) {
    const word = words[w] as number;
    if (word !== 0) digest ^= change(w, 0, word);
  }
  return digest;
}

/** Whether `words` are what the seal vouches for, but for the one change that it announces. */
export function isWhole(words: Int32Array, seal: Int32Array): boolean {
  if (seal[OPEN] !== 0) return false;
  const missing = digestOf(words) ^ (seal[DIGEST] as number);
  if (missing === 0) return true;
  const intent = (seal[INTENT] as number) >>> 0;
  const w = (intent - 1) >>> 5;
  if (intent === 0 || w >= words.length) return false;
  const now = words[w] as number;
  return change(w, now ^ (1 << ((intent - 1) & 31)), now) === missing;
}

function wordsOf(bytes: Uint8Array): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / Int32Array.BYTES_PER_ELEMENT);
}

/** See the file comment. Offers what the logs use; `and`, `or`, `andNot` and `rebuild` would break the seal and are not to be called. */
export class SealedBitmap extends RegionBitmap {
  readonly #words: Int32Array;
  readonly #seal: Int32Array;

  /**
   * Adopts what `memory` holds and seals it: check with {@link isWhole} before. `fresh` says that memory and seal are all zero, which need not be
   * looked at then.
   */
  constructor(
    regionCount: number,
    memory: Uint8Array,
    seal: Int32Array,
    options: Omit<RegionBitmapOptions, 'memory'> = {},
    fresh = false,
  ) {
    super(regionCount, { ...options, memory });
    this.#words = wordsOf(this.bytes);
    this.#seal = seal;
    if (!fresh) this.#close();
  }

  override set(region: number): boolean {
    const w = region >>> 5;
    const before = this.#words[w] as number;
    this.#seal[INTENT] = region + 1;
    const changed = super.set(region);
    if (changed)
      this.#seal[DIGEST] = (this.#seal[DIGEST] as number) ^ change(w, before, before ^ (1 << (region & 31)));
    this.#seal[INTENT] = 0;
    return changed;
  }
  override clear(region: number): boolean {
    const w = region >>> 5;
    const before = this.#words[w] as number;
    this.#seal[INTENT] = region + 1;
    const changed = super.clear(region);
    if (changed)
      this.#seal[DIGEST] = (this.#seal[DIGEST] as number) ^ change(w, before, before ^ (1 << (region & 31)));
    this.#seal[INTENT] = 0;
    return changed;
  }
  override fill(value: boolean): void {
    this.#seal[OPEN] = 1;
    super.fill(value);
    this.#close();
  }

  override load(source: Uint8Array): void {
    this.#seal[OPEN] = 1;
    super.load(source);
    this.#close();
  }

  override setRange(from: number, to: number): void {
    this.#seal[OPEN] = 1;
    super.setRange(from, to);
    this.#close();
  }

  override clearRange(from: number, to: number): void {
    this.#seal[OPEN] = 1;
    super.clearRange(from, to);
    this.#close();
  }

  override copyFrom(other: RegionBitmap): void {
    this.#seal[OPEN] = 1;
    super.copyFrom(other);
    this.#close();
  }

  #close(): void {
    const digest = digestOf(this.#words);
    if (this.#seal[DIGEST] !== digest) this.#seal[DIGEST] = digest;
    if (this.#seal[INTENT] !== 0) this.#seal[INTENT] = 0;
    if (this.#seal[OPEN] !== 0) this.#seal[OPEN] = 0;
  }
}
