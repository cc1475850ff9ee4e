/**
 * Typed failures of this package. Match on `code`: two copies of the package may be loaded, and messages may change.
 */

/** A region (or block, or a range of them) outside the bitmap, or not a whole number. Nothing was changed. */
export class RegionRangeError extends RangeError {
  override readonly name = 'RegionRangeError';
  readonly code = 'ERR_REGION_RANGE';
}

/** Bitmaps of different region counts were combined, or a region count or memory does not fit. Nothing was changed. */
export class BitmapGeometryError extends RangeError {
  override readonly name = 'BitmapGeometryError';
  readonly code = 'ERR_BITMAP_GEOMETRY';
}

/** Serialised bytes that are cut, damaged, of another format or of another geometry. Nothing was changed. */
export class BitmapFormatError extends Error {
  override readonly name = 'BitmapFormatError';
  readonly code = 'ERR_BITMAP_FORMAT';
}

/** A search whose summary was left out with `searchZeros: false` or `searchOnes: false`. */
export class BitmapSearchError extends Error {
  override readonly name = 'BitmapSearchError';
  readonly code = 'ERR_BITMAP_SEARCH';
}

/** The error for one index outside `0..count-1`. Built out of line, so that the hot callers stay small. */
export function regionRange(what: 'region' | 'block', index: number, count: number): RegionRangeError {
  const valid = count === 0 ? 'there are none' : `valid are whole numbers 0..${count - 1}`;
  return new RegionRangeError(`${what} ${index} is out of range: ${valid}`);
}

/** The error for a half-open range that is not `0 <= from <= to <= count`. */
export function spanRange(from: number, to: number, count: number): RegionRangeError {
  return new RegionRangeError(
    `regions ${from}..${to} (end excluded) are out of range: need whole numbers 0 <= from <= to <= ${count}`,
  );
}
