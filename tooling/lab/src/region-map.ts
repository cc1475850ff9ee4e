import { BITMAP_OFFSET, readHeader } from '@dmlog/log';
import type { Disk } from './disk.js';

/** What a log image on a disk says, read from the host. */
export interface ImageState {
  readonly version: number;
  readonly regionCount: number;
  /** One entry per region: true is clean. */
  readonly clean: readonly boolean[];
}

/** Reads the image of a log device; the machine may be running, writes of its log reach the file as they are made. */
export function readImageState(log: Disk): ImageState {
  const header = readHeader(log.read(0, 512));
  const bytes = log.read(BITMAP_OFFSET, Math.ceil(header.regionCount / 8));
  const clean = Array.from(
    { length: header.regionCount },
    (_, r) => (((bytes[r >> 3] ?? 0) >> (r & 7)) & 1) === 1,
  );
  return { version: header.version, regionCount: header.regionCount, clean };
}

/** Regions of the image that are dirty. */
export function dirtyRegions({ clean }: ImageState): number[] {
  return clean.flatMap((isClean, region) => (isClean ? [] : [region]));
}

/** Lines of `width` characters, one per region: `█` clean, `░` dirty, `×` where `marked` says so. */
export function regionMap(
  clean: readonly boolean[],
  marked: ReadonlySet<number> = new Set(),
  width = 64,
): string {
  const cells = clean.map((isClean, region) => (marked.has(region) ? '×' : isClean ? '█' : '░'));
  const lines: string[] = [];
  for (let at = 0; at < cells.length; at += width) lines.push(`  ${cells.slice(at, at + width).join('')}`);
  return lines.join('\n');
}
