import { BitmapGeometryError, regionRange } from './errors.js';
import { RegionBitmap } from './region-bitmap.js';

/**
 * A set of block indices: which blocks of a disk image have to be written. Block b is whatever the owner says it is, such as the
 * 4096 bytes from byte 4096 * b. Allocates nothing after construction.
 *
 * A block that is not a whole number 0..blockCount-1 throws {@link RegionRangeError} (`ERR_REGION_RANGE`).
 */
export class BlockSet {
  readonly blockCount: number;
  private readonly bits: RegionBitmap;

  /** Empty. Throws {@link BitmapGeometryError} for a count that is not a whole number 0..2^32-1. */
  constructor(blockCount: number) {
    this.bits = new RegionBitmap(blockCount, { searchZeros: false });
    this.blockCount = blockCount;
  }

  /** Blocks in the set. */
  get size(): number {
    return this.bits.count;
  }

  /** Adds a block; true if it was not in the set. */
  add(block: number): boolean {
    this.check(block);
    return this.bits.set(block);
  }

  /** Removes a block; true if it was in the set. */
  remove(block: number): boolean {
    this.check(block);
    return this.bits.clear(block);
  }

  /** Writes the set as (offset, length) pairs in bytes into `runs`, neighbouring blocks as one; returns the number of pairs. */
  byteRuns(blockBytes: number, runs: number[]): number {
    let count = 0;
    for (let block = this.next(0); block >= 0; ) {
      let end = block + 1;
      while (end < this.blockCount && this.has(end)) end++;
      runs[2 * count] = block * blockBytes;
      runs[2 * count + 1] = (end - block) * blockBytes;
      count++;
      block = this.next(end);
    }
    return count;
  }

  has(block: number): boolean {
    this.check(block);
    return this.bits.get(block);
  }

  /** Adds blocks `from..to-1`. */
  addRange(from: number, to: number): void {
    this.bits.setRange(from, to);
  }

  /** Adds every block. */
  addAll(): void {
    this.bits.fill(true);
  }

  /** Removes every block. */
  clear(): void {
    this.bits.fill(false);
  }

  /** The first block of the set at or after `from` (0..blockCount), or -1. */
  next(from: number): number {
    return this.bits.nextOne(from);
  }

  /**
   * Moves every block into `other` and leaves this set empty: what a flush takes, while new marks gather here. A failed flush
   * gives back with `other.takeInto(this)`. Throws {@link BitmapGeometryError} when `other` has another block count.
   */
  takeInto(other: BlockSet): void {
    if (other.blockCount !== this.blockCount) {
      throw new BitmapGeometryError(`${this.blockCount} blocks do not fit a set of ${other.blockCount}`);
    }
    if (other === this || this.size === 0) return;
    other.bits.or(this.bits);
    this.bits.fill(false);
  }

  private check(block: number): void {
    if (block >>> 0 !== block || block >= this.blockCount) throw regionRange('block', block, this.blockCount);
  }
}
