/**
 * The on-disk image of a dirty log: the kernel's `disk` format, version 2, byte for byte (drivers/md/dm-log.c).
 *
 * | offset | size | field      | type   | note                                                        |
 * |      0 |    4 | magic      | u32    | 0x4D695272, "MiRr"                                           |
 * |      4 |    4 | version    | u32    | 2; version 1 differed on big-endian machines only             |
 * |      8 |    8 | nr_regions | u64    |                                                             |
 * |     16 | 1008 |            |        | not used: kept as found                                      |
 * |   1024 |    … | bitmap     | bit[]  | bit r is byte r >> 3, bit r & 7; 1 = clean; padded to 64 bits |
 *
 * Little endian, as on every machine that Node runs this on. The size is rounded up to the device's logical block.
 */

import { type BlockSet, bitmapBytes, type RegionBitmap } from '@dmlog/bitmap';
import { REGION_COUNT_MAX, type SyncMode } from './parameters.js';

export const IMAGE_MAGIC = 0x4d695272;
export const IMAGE_VERSION = 2;
/** LOG_OFFSET sectors: where the bitmap begins. */
export const BITMAP_OFFSET = 1024;
/** Sector 0 holds the header. */
export const HEADER_BYTES = 16;

/** What an image's header says. */
export interface ImageHeader {
  readonly magic: number;
  readonly version: number;
  /** Regions the bitmap was written for; may exceed 2^53 in a damaged header, and is then Infinity. */
  readonly regionCount: number;
}

/** An image this package does not dare to use or overwrite. */
export class ImageError extends Error {
  override readonly name = 'ImageError';
  readonly code = 'ERR_IMAGE';
}

/** Bytes of the image of `regionCount` regions on a device with this logical block size. */
export function imageBytes(regionCount: number, logicalBlockBytes: number): number {
  const bytes = BITMAP_OFFSET + bitmapBytes(regionCount);
  return Math.ceil(bytes / logicalBlockBytes) * logicalBlockBytes;
}

function view(image: Uint8Array): DataView {
  if (image.byteLength < HEADER_BYTES) {
    throw new ImageError(`a log image has at least ${HEADER_BYTES} bytes, this one has ${image.byteLength}`);
  }
  return new DataView(image.buffer, image.byteOffset, image.byteLength);
}

/** Reads the header. Throws {@link ImageError} where there are too few bytes for one; judges nothing else. */
export function readHeader(image: Uint8Array): ImageHeader {
  const data = view(image);
  const high = data.getUint32(12, true);
  return {
    magic: data.getUint32(0, true),
    version: data.getUint32(4, true),
    regionCount: high < 2 ** 21 ? high * 2 ** 32 + data.getUint32(8, true) : Number.POSITIVE_INFINITY,
  };
}

/** Writes the 16 bytes of the header, and nothing else of sector 0, as `header_to_disk` does. */
export function writeHeader(image: Uint8Array, regionCount: number): void {
  const data = view(image);
  data.setUint32(0, IMAGE_MAGIC, true);
  data.setUint32(4, IMAGE_VERSION, true);
  data.setUint32(8, regionCount >>> 0, true);
  data.setUint32(12, Math.floor(regionCount / 2 ** 32), true);
}

/** How the image that was read is to be taken. */
export type ImageVerdict =
  /** A log of ours or of the kernel. */
  | { readonly kind: 'known'; readonly regionCount: number }
  /** No log is here yet: all regions are new. */
  | { readonly kind: 'blank' }
  /** A log that must not be overwritten. */
  | { readonly kind: 'refused'; readonly reason: string };

/**
 * Judges a header as `read_header` does: without the magic the log is new; version 1 is read as 2 (they differ on big-endian machines
 * only); any other version is refused. A count that no log can have is a damaged header, of which no region is believed (the
 * kernel takes its low 32 bits, which are 0 for the powers of two above them).
 */
export function judgeHeader(header: ImageHeader): ImageVerdict {
  if (header.magic !== IMAGE_MAGIC) return { kind: 'blank' };
  if (header.version !== 1 && header.version !== IMAGE_VERSION) {
    return {
      kind: 'refused',
      reason: `log image has format version ${header.version}, this daemon knows version ${IMAGE_VERSION}: it is left as it is (pass sync or nosync to overwrite it)`,
    };
  }
  return { kind: 'known', regionCount: header.regionCount > REGION_COUNT_MAX ? 0 : header.regionCount };
}

/**
 * Fills `clean` from the image as it was read, as `disk_resume` does: regions the image does not know are new, clean under `nosync` and dirty
 * otherwise; what lies past the end is cleared. Returns null, or why the image must be left alone, and then `clean` is untouched.
 */
export function adoptBits(
  image: Uint8Array,
  regionCount: number,
  mode: SyncMode,
  clean: RegionBitmap,
): string | null {
  const verdict = mode === 'default' ? judgeHeader(readHeader(image)) : ({ kind: 'blank' } as const);
  if (verdict.kind === 'refused') return verdict.reason;
  const known = verdict.kind === 'known' ? Math.min(verdict.regionCount, regionCount) : 0;
  clean.load(image.subarray(BITMAP_OFFSET, BITMAP_OFFSET + bitmapBytes(regionCount)));
  if (mode === 'nosync') clean.setRange(known, regionCount);
  else clean.clearRange(known, regionCount);
  return null;
}

/** Writes the header that the image has to have; true if it had another. */
export function adoptHeader(image: Uint8Array, regionCount: number): boolean {
  const before = image.slice(0, HEADER_BYTES);
  writeHeader(image, regionCount);
  return before.some((byte, i) => byte !== image[i]);
}

/** Adds each block to `blocks` in which the image's bitmap differs from `wanted`: grown and shrunk ends, and logs made anew. */
export function collectDifferences(
  image: Uint8Array,
  wanted: Uint8Array,
  blockBytes: number,
  blocks: BlockSet,
): void {
  const end = BITMAP_OFFSET + wanted.byteLength;
  for (let block = Math.floor(BITMAP_OFFSET / blockBytes); block * blockBytes < end; block++) {
    const from = Math.max(BITMAP_OFFSET, block * blockBytes);
    const to = Math.min(end, (block + 1) * blockBytes);
    if (differs(image, wanted, from, to)) blocks.add(block);
  }
}

/** Whether `image[from, to)` is not what `wanted`, which begins at {@link BITMAP_OFFSET}, says. */
function differs(image: Uint8Array, wanted: Uint8Array, from: number, to: number): boolean {
  for (let i = from; i < to; i++) if (image[i] !== wanted[i - BITMAP_OFFSET]) return true;
  return false;
}

/** The block that holds a region's bit. */
export function blockOfRegion(region: number, blockBytes: number): number {
  return Math.floor((BITMAP_OFFSET + (region >>> 3)) / blockBytes);
}

/** Whether the image calls the region clean. */
export function isCleanIn(image: Uint8Array, region: number): boolean {
  return ((image[BITMAP_OFFSET + (region >>> 3)] as number) & (1 << (region & 7))) !== 0;
}

/** Copies one block's part of `bits` into the image. The rest of the block stays as it was read from the device. */
export function stageBlock(image: Uint8Array, bits: Uint8Array, blockBytes: number, block: number): void {
  const from = Math.max(BITMAP_OFFSET, block * blockBytes);
  const to = Math.min((block + 1) * blockBytes, BITMAP_OFFSET + bits.byteLength);
  image.set(bits.subarray(from - BITMAP_OFFSET, to - BITMAP_OFFSET), from);
}
