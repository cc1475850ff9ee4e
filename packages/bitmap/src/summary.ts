/**
 * Summary levels over the words of a bitmap, 32-way: which words may hold what is searched for.
 *
 * Level 0 has one bit per word, level n+1 one bit per 32 of level n, up to a level of one word: 1/32 + 1/1024 + ... < 1/31 bit per
 * region. A *candidate* is a word (or group) in which the search can succeed. What is stored is `candidate XOR exhausted`, so
 * that a fresh bitmap, all words zero, has summaries that are all zero too (but for a few words of padding) and no memory is touched:
 *
 * | search    | `exhausted` word | stored bit 1 means |
 * | next one  |  0 (no ones)     | not empty          |
 * | next zero | -1 (no zeros)    | full               |
 */
import { assignWords, lowestBit, WORD_BITS } from './words.js';

/** Bits past the end of a level are never candidates. */
export class Summary {
  /** All levels, lowest first. */
  private readonly flags: Int32Array;
  /** Where in `flags` each level starts; one more entry at the end. */
  private readonly starts: number[] = [];
  /** Valid bits of each level. */
  private readonly sizes: number[] = [];
  private readonly exhausted: 0 | -1;

  /** For a bitmap of `wordCount` words, all of them zero. */
  constructor(wordCount: number, search: 'ones' | 'zeros') {
    let length = 0;
    for (let size = wordCount; size > 0; size = Math.ceil(size / WORD_BITS)) {
      this.starts.push(length);
      this.sizes.push(size);
      length += Math.ceil(size / WORD_BITS);
      if (size <= WORD_BITS) break;
    }
    this.starts.push(length);
    this.flags = new Int32Array(length);
    this.exhausted = search === 'ones' ? 0 : -1;
    this.pad();
  }

  get byteLength(): number {
    return this.flags.byteLength;
  }

  /** Word `index` may hold what is searched for. */
  add(index: number): void {
    const { flags, starts, exhausted } = this;
    let i = index;
    for (let level = 0; level < starts.length - 1; level++) {
      const at = (starts[level] as number) + (i >>> 5);
      const old = (flags[at] as number) ^ exhausted;
      flags[at] = (old | (1 << (i & 31))) ^ exhausted;
      if (old !== 0) return;
      i >>>= 5;
    }
  }

  /** Word `index` holds nothing that is searched for. */
  remove(index: number): void {
    const { flags, starts, exhausted } = this;
    let i = index;
    for (let level = 0; level < starts.length - 1; level++) {
      const at = (starts[level] as number) + (i >>> 5);
      const now = ((flags[at] as number) ^ exhausted) & ~(1 << (i & 31));
      flags[at] = now ^ exhausted;
      if (now !== 0) return;
      i >>>= 5;
    }
  }

  /** The first candidate word at or after `from`, or -1. Climbs until a level has one, then descends: at most twice the levels. */
  next(from: number): number {
    const { flags, starts, sizes, exhausted } = this;
    const levels = sizes.length;
    let i = from;
    for (let level = 0; level < levels; level++) {
      if (i >= (sizes[level] as number)) return -1;
      const group = i >>> 5;
      const found = ((flags[(starts[level] as number) + group] as number) ^ exhausted) & (-1 << (i & 31));
      if (found !== 0) {
        i = group * WORD_BITS + lowestBit(found);
        for (let below = level - 1; below >= 0; below--) {
          i = i * WORD_BITS + lowestBit((flags[(starts[below] as number) + i] as number) ^ exhausted);
        }
        return i;
      }
      i = group + 1;
    }
    return -1;
  }

  /** Every word is a candidate. */
  addAll(): void {
    assignWords(this.flags, 0, this.flags.length, ~this.exhausted);
    this.pad();
  }

  /** No word is a candidate. */
  removeAll(): void {
    assignWords(this.flags, 0, this.flags.length, this.exhausted);
  }

  /** Built anew from the words; of the last one only the bits of `lastMask` count. */
  rebuild(words: Int32Array, lastMask: number): void {
    const { flags, starts, sizes, exhausted } = this;
    let source = words;
    let sourceStart = 0;
    let sourceMask = lastMask;
    for (let level = 0; level < sizes.length; level++) {
      const size = sizes[level] as number;
      const start = starts[level] as number;
      for (let first = 0; first < size; first += WORD_BITS) {
        const end = Math.min(WORD_BITS, size - first);
        let bits = 0;
        for (let b = 0; b < end; b++) {
          if (((source[sourceStart + first + b] as number) ^ exhausted) !== 0) bits |= 1 << b;
        }
        if (
          first + end === size &&
          (((source[sourceStart + size - 1] as number) ^ exhausted) & sourceMask) === 0
        ) {
          bits &= ~(1 << (end - 1));
        }
        const at = start + first / WORD_BITS;
        if (flags[at] !== (bits ^ exhausted)) flags[at] = bits ^ exhausted;
      }
      source = flags;
      sourceStart = start;
      sourceMask = -1; // padding of a level is never a candidate
    }
  }

  /** Same candidates? For invariant checks. */
  equals(other: Summary): boolean {
    return (
      this.flags.every((word, at) => word === other.flags[at]) && this.flags.length === other.flags.length
    );
  }

  /** Makes the bits past the end of each level no candidates. */
  private pad(): void {
    for (let level = 0; level < this.sizes.length; level++) {
      const rest = (this.sizes[level] as number) % WORD_BITS;
      if (rest === 0) continue;
      const at = (this.starts[level + 1] as number) - 1;
      const valid = (1 << rest) - 1;
      const old = this.flags[at] as number;
      this.flags[at] = (old & valid) | (this.exhausted & ~valid);
    }
  }
}
