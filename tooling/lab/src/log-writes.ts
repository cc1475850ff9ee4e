import { LabError } from './errors.js';

/**
 * What dm-log-writes has recorded of one device (drivers/md/dm-log-writes.c; `Documentation/admin-guide/device-mapper/log-writes.rst`).
 *
 * The recording disk, little endian, in units of the device's logical block ("sector" below; 512 bytes in the lab):
 *
 * | at            | size | field      | note                                                      |
 * | ------------- | ---- | ---------- | --------------------------------------------------------- |
 * | 0             |    8 | magic      | 0x6a736677736872                                          |
 * | 8             |    8 | version    | 1                                                         |
 * | 16            |    8 | nr_entries |                                                           |
 * | 24            |    4 | sectorsize |                                                           |
 * | 1 sector on   |      | entries    | each one sector, then its data (not of discards)          |
 *
 * An entry: u64 sector, u64 nr_sectors, u64 flags, u64 data_len; a mark's text follows in the same sector.
 *
 * The order is that of *durability*: a write stands before the flush that has covered it, not where it was sent; a FUA write stands where it has
 * completed. So a prefix is a state of the media on which everything volatile was lost. Orders of two recordings have nothing to do
 * with each other but through marks.
 */
export interface LogWritesEntry {
  /** First sector on the recorded device, in units of 512 bytes. */
  readonly sector: number;
  readonly sectors: number;
  readonly flush: boolean;
  readonly fua: boolean;
  readonly discard: boolean;
  /** Text of a `dmsetup message <device> 0 mark <text>`, else null. */
  readonly mark: string | null;
  /** What was written; empty for flushes, discards and marks. Borrowed from the recording. */
  readonly data: Uint8Array;
}

export const LOG_WRITES_MAGIC = 0x6a736677736872n;
const LOG_WRITES_VERSION = 1n;
const FLUSH = 1;
const FUA = 2;
const DISCARD = 4;
const MARK = 8;
const ENTRY_BYTES = 32;
const SECTOR_BYTES = 512;

/** Reads a recording disk whole. @throws LabError ERR_LAB_USAGE for anything but a complete recording of version 1. */
export function parseLogWrites(recording: Uint8Array): LogWritesEntry[] {
  const bytes = Buffer.from(recording.buffer, recording.byteOffset, recording.byteLength);
  if (bytes.length < SECTOR_BYTES || bytes.readBigUInt64LE(0) !== LOG_WRITES_MAGIC)
    throw new LabError('ERR_LAB_USAGE', 'this disk holds no recording of dm-log-writes: bad magic');
  const version = bytes.readBigUInt64LE(8);
  if (version !== LOG_WRITES_VERSION)
    throw new LabError('ERR_LAB_USAGE', `a recording of version ${version}; only version 1 is known`);
  const unit = bytes.readUInt32LE(24);
  if (unit < SECTOR_BYTES || unit % SECTOR_BYTES !== 0)
    throw new LabError('ERR_LAB_USAGE', `a recording with sectors of ${unit} bytes`);
  const count = Number(bytes.readBigUInt64LE(16));
  const entries: LogWritesEntry[] = [];
  for (let at = unit; entries.length < count; ) {
    if (at + unit > bytes.length) throw cutShort(entries.length, count);
    const entry = entryAt(bytes, at, unit);
    const dataBytes = carriesData(entry) ? entry.sectors * SECTOR_BYTES : 0;
    if (entry.data.length < dataBytes) throw cutShort(entries.length, count);
    entries.push(entry);
    at += unit + dataBytes;
  }
  return entries;
}

/** Applies the first `count` entries to `image`, which begins as the device began. Returns `image`. */
export function replay(entries: readonly LogWritesEntry[], count: number, image: Uint8Array): Uint8Array {
  for (const entry of entries.slice(0, count)) {
    if (carriesData(entry)) image.set(entry.data, entry.sector * SECTOR_BYTES);
  }
  return image;
}

/** How many entries come before this mark. @throws LabError ERR_LAB_USAGE where there is none. */
export function entriesBeforeMark(entries: readonly LogWritesEntry[], mark: string): number {
  const index = entries.findIndex((entry) => entry.mark === mark);
  if (index < 0) throw new LabError('ERR_LAB_USAGE', `the recording has no mark "${mark}"`);
  return index;
}

function entryAt(bytes: Buffer, at: number, unit: number): LogWritesEntry {
  const unitSectors = unit / SECTOR_BYTES;
  const sectors = Number(bytes.readBigUInt64LE(at + 8)) * unitSectors;
  const flags = Number(bytes.readBigUInt64LE(at + 16));
  const textBytes = Number(bytes.readBigUInt64LE(at + 24));
  const discard = (flags & DISCARD) !== 0;
  const dataBytes = discard ? 0 : sectors * SECTOR_BYTES;
  return {
    sector: Number(bytes.readBigUInt64LE(at)) * unitSectors,
    sectors,
    flush: (flags & FLUSH) !== 0,
    fua: (flags & FUA) !== 0,
    discard,
    mark:
      (flags & MARK) !== 0 ? bytes.toString('latin1', at + ENTRY_BYTES, at + ENTRY_BYTES + textBytes) : null,
    data: bytes.subarray(at + unit, at + unit + dataBytes),
  };
}

function carriesData(entry: LogWritesEntry): boolean {
  return entry.sectors > 0 && !entry.discard;
}

function cutShort(found: number, count: number): LabError {
  return new LabError(
    'ERR_LAB_USAGE',
    `the recording ends after ${found} of ${count} entries: take a larger recording disk`,
  );
}

/** Every sector written, with the first `bytesMax` bytes of all that was ever written to it, hex, sorted: order is another question. */
export function recordedSectors(
  entries: readonly LogWritesEntry[],
  bytesMax = SECTOR_BYTES,
): Map<number, string[]> {
  const found = new Map<number, string[]>();
  for (const entry of entries) {
    for (let at = 0; at < entry.data.length; at += SECTOR_BYTES) {
      const sector = entry.sector + at / SECTOR_BYTES;
      const contents = Buffer.from(entry.data.subarray(at, at + bytesMax)).toString('hex');
      found.set(sector, [...(found.get(sector) ?? []), contents].sort());
    }
  }
  return found;
}
