import { writeHeader } from '@dmlog/log';
import type { Random } from './random.js';

/** Logical block: written whole or not at all. */
export const LOG_BLOCK_BYTES = 512;
const BITMAP_OFFSET = 1024;

/** One block on its way to the medium. */
export interface BlockWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Regions whose bits lie in the block at `offset`: from, to (exclusive). */
export function regionsAt(offset: number, regionCount: number): { from: number; to: number } {
  const first = (at: number) => Math.min(regionCount, Math.max(0, at - BITMAP_OFFSET) * 8);
  return { from: first(offset), to: first(offset + LOG_BLOCK_BYTES) };
}

/** The log device, shared by all nodes. Writes reach the medium block by block; reads and writes fail while {@link failing}. */
export class LogDisk {
  readonly media: Uint8Array;
  failing = false;
  /** Grows with every change of the medium. */
  version = 0;

  constructor(bytes: number) {
    this.media = new Uint8Array(bytes);
  }

  /** An image of a mirror that is in sync. */
  format(regions: number): void {
    writeHeader(this.media, regions);
    for (let region = 0; region < regions; region++) {
      const at = BITMAP_OFFSET + (region >>> 3);
      this.media[at] = (this.media[at] as number) | (1 << (region & 7));
    }
  }

  /** What a write of these (offset, length) runs of `image` is made of, as of now. */
  blocksOf(image: Uint8Array, runs: readonly number[], count: number): BlockWrite[] {
    const blocks: BlockWrite[] = [];
    for (let i = 0; i < count; i++) {
      const [from, length] = [runs[2 * i] as number, runs[2 * i + 1] as number];
      if (from % LOG_BLOCK_BYTES !== 0 || length % LOG_BLOCK_BYTES !== 0 || from + length > this.media.length)
        throw new Error(`a write of ${length} bytes at ${from} does not suit the log device`);
      for (let offset = from; offset < from + length; offset += LOG_BLOCK_BYTES)
        blocks.push({ offset, bytes: image.slice(offset, offset + LOG_BLOCK_BYTES) });
    }
    return blocks;
  }

  put({ offset, bytes }: BlockWrite): void {
    this.media.set(bytes, offset);
    this.version++;
  }

  /** What a crash leaves of blocks that were on their way: any of them. True if some got there and others did not. */
  tear(blocks: readonly BlockWrite[], random: Random): boolean {
    let put = 0;
    for (const block of blocks) {
      if (!random.chance(0.5)) continue;
      this.put(block);
      put++;
    }
    return put > 0 && put < blocks.length;
  }

  isClean(region: number): boolean {
    return ((this.media[BITMAP_OFFSET + (region >>> 3)] as number) & (1 << (region & 7))) !== 0;
  }
}
