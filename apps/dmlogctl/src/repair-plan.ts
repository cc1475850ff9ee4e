import { bitmapBytes, RegionBitmap } from '@dmlog/bitmap';
import {
  BITMAP_OFFSET,
  IMAGE_VERSION,
  type ImageHeader,
  imageBytes,
  judgeHeader,
  readHeader,
  writeHeader,
} from '@dmlog/log';
import { CommandFailure, ExitCode } from './exit-codes.js';
import { noLog, strayBits } from './image-file.js';

/** Regions from the first to the last one, both included. */
export type RegionRun = readonly [from: number, to: number];

export interface RepairWishes {
  /** How many regions the mirror has; undefined: as the header says. */
  readonly regions: number | undefined;
  /** To be made dirty besides. */
  readonly dirty: readonly RegionRun[];
  readonly allDirty: boolean;
}

/** How much of an image can be believed. */
export interface Judgement {
  /** What is wrong with the header, if anything is. */
  readonly findings: readonly string[];
  /** Regions that the repaired image has. */
  readonly regionCount: number;
  /** Regions whose bits are believed: 0 to this. All others become dirty. */
  readonly believed: number;
}

/**
 * Judges the header of an image on a device with these sizes. `head` is null where it cannot be read.
 *
 * @throws CommandFailure where there is nothing to repair, or where it must be said how many regions the mirror has.
 */
export function judge(
  path: string,
  head: Uint8Array | null,
  { sizeBytes, blockBytes }: { sizeBytes: number; blockBytes: number },
  { regions }: RepairWishes,
): Judgement {
  const header = head === null ? null : readHeader(head);
  const { trusted, findings } = header === null ? UNREADABLE : trust(path, header, sizeBytes, blockBytes);
  const regionCount = regions ?? trusted;
  if (regionCount === 0) {
    throw new CommandFailure(
      ExitCode.DATA,
      `${path}: ${findings.join('; ')}: say how many regions the mirror has (--regions: its length by the region size, see dmsetup table)`,
    );
  }
  const needed = imageBytes(regionCount, blockBytes);
  if (needed > sizeBytes) {
    throw new CommandFailure(
      ExitCode.DATA,
      `${path}: a log of ${regionCount} regions needs ${needed} bytes, and there are ${sizeBytes}`,
    );
  }
  const others =
    trusted === 0 || trusted === regionCount
      ? []
      : [`the header names ${trusted} regions, and the mirror has ${regionCount}`];
  return { findings: [...findings, ...others], regionCount, believed: Math.min(trusted, regionCount) };
}

const UNREADABLE = { trusted: 0, findings: ['the header cannot be read'] } as const;

/** How many regions' bits the header vouches for; 0 where it is damaged. */
function trust(
  path: string,
  header: ImageHeader,
  sizeBytes: number,
  blockBytes: number,
): { trusted: number; findings: string[] } {
  const verdict = judgeHeader(header);
  if (verdict.kind === 'blank') {
    const { message, exitCode } = noLog(path, header);
    throw new CommandFailure(
      exitCode,
      `${message} If it is, there is nothing to repair: the next resume makes a new log there, and everything is copied`,
    );
  }
  if (verdict.kind === 'refused') {
    const findings = [`format version ${header.version} is not known, and the daemon refuses it`];
    return { trusted: 0, findings };
  }
  const { regionCount } = verdict;
  if (regionCount === 0 || imageBytes(regionCount, blockBytes) > sizeBytes) {
    const findings = [`the header names ${header.regionCount} regions, which cannot be`];
    return { trusted: 0, findings };
  }
  const findings = header.version === IMAGE_VERSION ? [] : [`format version ${header.version}, of long ago`];
  return { trusted: regionCount, findings };
}

export interface Repair {
  readonly findings: readonly string[];
  readonly regionCount: number;
  /** The image as it has to be. */
  readonly bytes: Uint8Array;
  /** Clean regions, as a daemon would take the image before and after. After is never more. */
  readonly cleanBefore: RegionBitmap;
  readonly cleanAfter: RegionBitmap;
  /** What has to be written: parts of `bytes` in whole blocks, none larger than {@link WRITE_BYTES_MAX}, in the order of the device. */
  readonly changes: readonly { readonly offset: number; readonly length: number }[];
}

/** Of one write. */
export const WRITE_BYTES_MAX = 1 << 20;

/**
 * What `image` (whole blocks; zeros where a block cannot be read) has to become. Bits are only ever taken away: what was dirty stays so.
 *
 * @param unreadable blocks that cannot be read, by their first bytes: they are written again.
 */
export function planRepair(
  image: Uint8Array,
  blockBytes: number,
  { findings, regionCount, believed }: Judgement,
  unreadable: ReadonlySet<number>,
  { dirty, allDirty }: RepairWishes,
): Repair {
  const bitmap = (of: Uint8Array): Uint8Array =>
    of.subarray(BITMAP_OFFSET, BITMAP_OFFSET + bitmapBytes(regionCount));
  const cleanBefore = new RegionBitmap(regionCount);
  cleanBefore.load(bitmap(image));
  cleanBefore.clearRange(believed, regionCount);
  const cleanAfter = new RegionBitmap(regionCount);
  cleanAfter.copyFrom(cleanBefore);
  if (allDirty) cleanAfter.clearRange(0, regionCount);
  for (const [from, to] of dirty) cleanAfter.clearRange(from, to + 1);
  assertOnlyDirtier(cleanBefore, cleanAfter);
  const bytes = image.slice();
  writeHeader(bytes, regionCount);
  bitmap(bytes).set(cleanAfter.bytes.subarray(0, bitmapBytes(regionCount)));
  const stray = believed === regionCount ? strayBits(bitmap(image), regionCount) : 0;
  return {
    findings: [
      ...findings,
      ...(unreadable.size === 0 ? [] : [`${unreadable.size} blocks of ${blockBytes} bytes cannot be read`]),
      ...(stray === 0 ? [] : [`${stray} bits are set behind the last region`]),
    ],
    regionCount,
    bytes,
    cleanBefore,
    cleanAfter,
    changes: changesOf(image, bytes, blockBytes, unreadable),
  };
}

/** Bits are the only thing between a wrong repair and legs that differ silently: never taken on trust. */
function assertOnlyDirtier(before: RegionBitmap, after: RegionBitmap): void {
  const gained = new RegionBitmap(after.regionCount);
  gained.copyFrom(after);
  gained.andNot(before);
  if (gained.count > 0)
    throw new Error('the repair would make regions clean: this is a bug, nothing was written');
}

function changesOf(
  before: Uint8Array,
  after: Uint8Array,
  blockBytes: number,
  unreadable: ReadonlySet<number>,
): { offset: number; length: number }[] {
  const changes: { offset: number; length: number }[] = [];
  for (let offset = 0; offset < after.byteLength; offset += blockBytes) {
    const end = offset + blockBytes;
    const isSame = Buffer.compare(before.subarray(offset, end), after.subarray(offset, end)) === 0;
    if (isSame && !unreadable.has(offset)) continue;
    const last = changes.at(-1);
    if (last !== undefined && last.offset + last.length === offset && last.length < WRITE_BYTES_MAX) {
      last.length += blockBytes;
    } else {
      changes.push({ offset, length: blockBytes });
    }
  }
  return changes;
}

/** `7` or `3-9`. */
export function parseRun(text: string): RegionRun {
  const [, first, last] = /^([0-9]{1,10})(?:-([0-9]{1,10}))?$/.exec(text) ?? [];
  const [from, to] = [Number(first), Number(last ?? first)];
  if (from <= to) return [from, to];
  throw new CommandFailure(ExitCode.USAGE, `--dirty ${JSON.stringify(text)}: give regions, as 7 or 3-9`);
}
