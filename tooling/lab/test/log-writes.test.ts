import { describe, expect, it } from 'vitest';
import {
  entriesBeforeMark,
  LOG_WRITES_MAGIC,
  parseLogWrites,
  recordedSectors,
  replay,
} from '../src/log-writes.js';

interface Written {
  readonly sector?: number;
  readonly flags?: number;
  /** One byte value per sector. */
  readonly fill?: readonly number[];
  /** For entries that name sectors and carry no data. */
  readonly sectors?: number;
  readonly text?: string;
}

const FLUSH = 1;
const FUA = 2;
const DISCARD = 4;
const MARK = 8;

/** A recording as the kernel lays it out, with sectors of `unit` bytes. */
function recording(entries: readonly Written[], unit = 512): Buffer {
  const header = Buffer.alloc(unit);
  header.writeBigUInt64LE(LOG_WRITES_MAGIC, 0);
  header.writeBigUInt64LE(1n, 8);
  header.writeBigUInt64LE(BigInt(entries.length), 16);
  header.writeUInt32LE(unit, 24);
  const parts = entries.flatMap(({ sector = 0, flags = 0, fill = [], sectors = fill.length, text = '' }) => {
    const entry = Buffer.alloc(unit);
    for (const [index, value] of [sector, sectors, flags, text.length].entries())
      entry.writeBigUInt64LE(BigInt(value), index * 8);
    entry.write(text, 32, 'latin1');
    return [entry, ...fill.map((value) => Buffer.alloc(unit, value))];
  });
  return Buffer.concat([header, ...parts]);
}

const STORY: readonly Written[] = [
  { sector: 2, fill: [0xa1, 0xa2] },
  { flags: FLUSH },
  { sector: 3, flags: FUA, fill: [0xb1] },
  { flags: MARK, text: 'here' },
  { sector: 0, flags: DISCARD, sectors: 8 },
  { sector: 2, fill: [0xc1] },
];

describe('a recording of dm-log-writes', () => {
  it('is read entry by entry: writes, flushes, FUA, marks, discards', () => {
    const entries = parseLogWrites(Buffer.concat([recording(STORY), Buffer.alloc(4096, 0xff)]));
    expect(entries.map(({ data, ...rest }) => ({ ...rest, first: data[0] ?? null }))).toEqual([
      { sector: 2, sectors: 2, flush: false, fua: false, discard: false, mark: null, first: 0xa1 },
      { sector: 0, sectors: 0, flush: true, fua: false, discard: false, mark: null, first: null },
      { sector: 3, sectors: 1, flush: false, fua: true, discard: false, mark: null, first: 0xb1 },
      { sector: 0, sectors: 0, flush: false, fua: false, discard: false, mark: 'here', first: null },
      { sector: 0, sectors: 8, flush: false, fua: false, discard: true, mark: null, first: null },
      { sector: 2, sectors: 1, flush: false, fua: false, discard: false, mark: null, first: 0xc1 },
    ]);
  });

  it('is replayed up to a mark', () => {
    const entries = parseLogWrites(recording(STORY));
    const firstBytes = (count: number) => {
      const image = replay(entries, count, new Uint8Array(8 * 512));
      return [0, 1, 2, 3].map((sector) => image[sector * 512]);
    };
    expect(firstBytes(entriesBeforeMark(entries, 'here'))).toEqual([0, 0, 0xa1, 0xb1]);
    expect(firstBytes(entries.length)).toEqual([0, 0, 0xc1, 0xb1]);
  });

  it('counts sectors of 512 bytes whatever the device’s are', () => {
    const [entry] = parseLogWrites(recording([{ sector: 3, fill: [7] }], 4096));
    expect(entry).toMatchObject({ sector: 24, sectors: 8 });
    expect(entry!.data.length).toBe(4096);
  });

  it('lists what every sector has held', () => {
    const sectors = recordedSectors(parseLogWrites(recording(STORY)), 2);
    expect([...sectors]).toEqual([
      [2, ['a1a1', 'c1c1']],
      [3, ['a2a2', 'b1b1']],
    ]);
  });
});

describe('what is no recording', () => {
  const whole = recording(STORY);
  const broken = (at: number, value: number) => {
    const bytes = Buffer.from(whole);
    bytes[at] = value;
    return bytes;
  };
  it.each([
    { id: 'an empty disk', bytes: Buffer.alloc(0), message: /bad magic/ },
    { id: 'zeroes', bytes: Buffer.alloc(4096), message: /bad magic/ },
    { id: 'another version', bytes: broken(8, 2), message: /version 2/ },
    { id: 'sectors of 3 bytes', bytes: broken(25, 0).fill(3, 24, 25), message: /sectors of 3 bytes/ },
    { id: 'a recording that lacks an entry', bytes: broken(16, 7), message: /ends after 6 of 7/ },
    { id: 'a recording that lacks data', bytes: whole.subarray(0, -1), message: /ends after 5 of 6/ },
  ])('is refused: $id', ({ bytes, message }) => {
    expect(() => parseLogWrites(bytes)).toThrow(expect.objectContaining({ code: 'ERR_LAB_USAGE' }));
    expect(() => parseLogWrites(bytes)).toThrow(message);
  });

  it('is refused: a mark that is not there', () => {
    expect(() => entriesBeforeMark(parseLogWrites(whole), 'elsewhere')).toThrow(/no mark "elsewhere"/);
  });
});
