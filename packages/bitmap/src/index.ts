/**
 * A bit per region, for dirty logs: counted, searchable, mergeable, and in memory exactly what the kernel keeps on disk.
 * Pure: no dependency, no Node API. Knows nothing of logs.
 *
 * @example
 * import { BlockSet, RegionBitmap } from '@dmlog/bitmap';
 *
 * const inSync = new RegionBitmap(1000);
 * inSync.fill(true);
 * inSync.clear(42);
 * inSync.count; // 999
 * inSync.nextZero(0); // 42: the next region to recover
 *
 * const dirtyBlocks = new BlockSet(Math.ceil(inSync.bytes.byteLength / 512));
 * dirtyBlocks.add(Math.floor(42 / 8 / 512));
 *
 * const saved = inSync.serialize(); // 23 bytes
 * RegionBitmap.deserialize(saved, { regionCount: 1000 }).equals(inSync); // true
 *
 * @packageDocumentation
 */

export { BlockSet } from './block-set.js';
export { crc32 } from './crc32.js';
export { BitmapFormatError, BitmapGeometryError, BitmapSearchError, RegionRangeError } from './errors.js';
export { type DeserializeOptions, RegionBitmap, type RegionBitmapOptions } from './region-bitmap.js';
export { bitmapBytes, REGION_COUNT_MAX } from './words.js';
