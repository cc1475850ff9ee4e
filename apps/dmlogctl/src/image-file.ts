import { RegionBitmap } from '@dmlog/bitmap';
import {
  BITMAP_OFFSET,
  IMAGE_MAGIC,
  type ImageHeader,
  imageBytes,
  judgeHeader,
  readHeader,
} from '@dmlog/log';
import { CommandFailure, ExitCode } from './exit-codes.js';
import { openSource } from './image-source.js';

const SECTOR_BYTES = 512;

/** A log's on-disk image, as it was at one moment. */
export interface Image {
  readonly path: string;
  readonly sizeBytes: number;
  readonly header: ImageHeader;
  /** Bit set: clean. As many regions as the header says. */
  readonly clean: RegionBitmap;
  /** Bits that are set in the bitmap's last 8 bytes behind the last region: the kernel clears them. */
  readonly strayBits: number;
}

/**
 * Reads the image on a block device (past the page cache, so that what a live log has written is seen) or in a file.
 *
 * @throws CommandFailure `DATA` where there is no image that can be read; DeviceError; errors of the file system.
 */
export async function readImage(path: string): Promise<Image> {
  const source = await openSource(path, { writable: false });
  try {
    const head = await source.read(BITMAP_OFFSET);
    const header = readHeader(head);
    const verdict = judgeHeader(header);
    if (verdict.kind === 'blank') throw noLog(path, header);
    if (verdict.kind === 'refused') throw new CommandFailure(ExitCode.DATA, `${path}: ${verdict.reason}`);
    const needed = imageBytes(verdict.regionCount, SECTOR_BYTES);
    if (verdict.regionCount === 0 || needed > source.sizeBytes) {
      throw new CommandFailure(
        ExitCode.DATA,
        `${path}: the header names ${header.regionCount} regions, which need ${needed} bytes, and there are ${source.sizeBytes}: the header is damaged, or the device was cut`,
      );
    }
    const bytes = (await source.read(needed)).subarray(BITMAP_OFFSET);
    const clean = new RegionBitmap(verdict.regionCount);
    clean.load(bytes);
    return {
      path,
      sizeBytes: source.sizeBytes,
      header,
      clean,
      strayBits: strayBits(bytes, verdict.regionCount),
    };
  } finally {
    await source.close();
  }
}

export function noLog(path: string, { magic }: ImageHeader): CommandFailure {
  const found = `0x${magic.toString(16).padStart(8, '0')}`;
  return new CommandFailure(
    ExitCode.DATA,
    `${path} holds no dirty log: it begins with ${found}, a log with 0x${IMAGE_MAGIC.toString(16)}; is this the log device of the mirror (dmsetup table)?`,
  );
}

/** How many bits behind the last region are set in `bytes`, which begin with the bitmap. */
export function strayBits(bytes: Uint8Array, regionCount: number): number {
  const end = Math.ceil(regionCount / 64) * 8;
  let count = 0;
  for (let bit = regionCount; bit < end * 8; bit++) count += ((bytes[bit >> 3] ?? 0) >> (bit & 7)) & 1;
  return count;
}
