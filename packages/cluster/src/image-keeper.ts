import { BlockSet, type RegionBitmap } from '@dmlog/bitmap';
import {
  adoptHeader,
  blockOfRegion,
  collectDifferences,
  imageBytes,
  isCleanIn,
  stageBlock,
} from '@dmlog/log';

/** Blocks of clears in one write: marks that arrive meanwhile wait for it. */
const CLEAR_BLOCKS_PER_WRITE_MAX = 256;

/**
 * The disk image of a replicated log, in the hands of its writer: which blocks differ from the state, what to write next, and up to which position the
 * medium has everything. Pure; somebody else writes.
 *
 * `image` is the shadow: what was last given to the device. Marks must get there before anybody is told so, clears may take their time.
 *
 * Invariant: a region whose bit is 1 in the shadow and that is not clean lies in a block of `#must`.
 */
export class ImageKeeper {
  readonly image: Uint8Array;
  readonly blockBytes: number;
  /** (offset, length) pairs in bytes, {@link runCount} of them: the write under way. */
  readonly runs: number[] = [];
  runCount = 0;
  readonly #clean: RegionBitmap;
  readonly #must: BlockSet;
  readonly #may: BlockSet;
  readonly #writing: BlockSet;
  /** The header changes: it is written after the bitmap, or a power cut would let a new count vouch for old bits. */
  #headerLast = false;
  #underWay = false;
  /** Position of the state when the write under way was begun; 0 if it holds no marks, and then all marks were written before. */
  #positionOfWrite = 0;
  #marks = 0;
  #clears = 0;

  /** `image` holds what the device holds. `clean` is the state's own bitmap, in the kernel's bit order. */
  constructor(image: Uint8Array, blockBytes: number, clean: RegionBitmap) {
    const bytes = imageBytes(clean.regionCount, blockBytes);
    if (image.byteLength < bytes)
      throw new RangeError(`image memory of ${image.byteLength} bytes: ${bytes} are needed`);
    this.image = image.subarray(0, bytes);
    this.blockBytes = blockBytes;
    this.#clean = clean;
    const blocks = bytes / blockBytes;
    this.#must = new BlockSet(blocks);
    this.#may = new BlockSet(blocks);
    this.#writing = new BlockSet(blocks);
    this.#headerLast = adoptHeader(this.image, clean.regionCount);
    if (this.#headerLast) this.#must.add(0);
    collectDifferences(this.image, clean.bytes, blockBytes, this.#must);
  }

  /** All marks up to this position of the state are on stable media. */
  get marks(): number {
    return this.#marks;
  }

  /** And all clears up to this one. */
  get clears(): number {
    return this.#clears;
  }

  get writing(): boolean {
    return this.#underWay;
  }

  /** Nothing is left to write, and nothing is being written. */
  get idle(): boolean {
    return !this.#underWay && this.#must.size === 0 && this.#may.size === 0;
  }

  dirtied(region: number): void {
    if (isCleanIn(this.image, region)) this.#must.add(blockOfRegion(region, this.blockBytes));
  }

  cleaned(region: number): void {
    if (!isCleanIn(this.image, region)) this.#may.add(blockOfRegion(region, this.blockBytes));
  }

  /** Moves the positions on where nothing stands in their way. Call after the state has changed. */
  advance(position: number): void {
    if (this.#underWay || this.#must.size > 0) return;
    this.#marks = position;
    if (this.#may.size === 0) this.#clears = position;
  }

  /** Begins the next write, marks first; false if there is nothing to write or a write is under way. Clears only if `clearsToo`. */
  begin(position: number, clearsToo: boolean): boolean {
    if (this.#underWay) return false;
    const marks = this.#must.size > 0;
    if (!marks && !(clearsToo && this.#may.size > 0)) return false;
    if (marks) {
      const first = this.#headerLast && this.#must.size > 1 ? 1 : 0;
      for (let block = this.#must.next(first); block >= 0; block = this.#must.next(block + 1))
        this.#stage(block);
      this.#positionOfWrite = first === 0 ? position : 0;
    } else {
      let staged = 0;
      for (let block = this.#may.next(0); block >= 0 && staged < CLEAR_BLOCKS_PER_WRITE_MAX; staged++) {
        this.#stage(block);
        block = this.#may.next(block + 1);
      }
      this.#positionOfWrite = position;
    }
    this.runCount = this.#writing.byteRuns(this.blockBytes, this.runs);
    this.#underWay = true;
    return true;
  }

  /** The write has ended, on stable media or not; what failed is to be written again. */
  written(done: boolean, position: number): void {
    this.#underWay = false;
    if (done) {
      if (this.#positionOfWrite > 0) {
        this.#headerLast = false;
        this.#marks = Math.max(this.#marks, this.#positionOfWrite);
      }
    } else {
      for (let block = this.#writing.next(0); block >= 0; block = this.#writing.next(block + 1))
        this.#must.add(block);
    }
    this.#writing.clear();
    this.advance(position);
  }

  #stage(block: number): void {
    this.#must.remove(block);
    this.#may.remove(block);
    stageBlock(this.image, this.#clean.bytes, this.blockBytes, block);
    this.#writing.add(block);
  }
}
