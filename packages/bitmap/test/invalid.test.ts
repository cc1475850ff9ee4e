import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockSet, bitmapBytes, RegionBitmap } from '../src/index.js';
import { bitmapOf, bitPatterns, expectSame, modelOf } from './model.js';

const code = (name: string) => expect.objectContaining({ code: name });
const FORMAT = code('ERR_BITMAP_FORMAT');
const RANGE = code('ERR_REGION_RANGE');
const GEOMETRY = code('ERR_BITMAP_GEOMETRY');

/** The obvious CRC-32, bit by bit. */
function slowCrc(bytes: number[]): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

const u32 = (value: number) => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff);

/** Serialised bytes with a right checksum over whatever the rest is. */
function sealed(regionCount: number, setBits: number, runs: number[]): Uint8Array {
  const start = [0x52, 0x42, 0x4d, 0x31, ...u32(regionCount), ...u32(setBits)];
  return Uint8Array.from([...start, ...u32(slowCrc([...start, ...runs])), ...runs]);
}

describe('deserialize rejects', () => {
  it('nothing of a good one (the cases below differ from it in one thing)', () => {
    expect(RegionBitmap.deserialize(sealed(70, 33, [4 + 1, 4 + 2, 1, 0, 0, 0, 4])).count).toBe(33);
  });

  it.each([
    { id: 'another magic', bytes: sealed(70, 0, [12]).fill(0x32, 3, 4) },
    { id: 'a run head that is cut off', bytes: sealed(70, 0, [0x8c]) },
    { id: 'no runs', bytes: sealed(70, 0, []) },
    { id: 'runs that end early', bytes: sealed(70, 0, [8]) },
    { id: 'a run past the end', bytes: sealed(70, 0, [16]) },
    { id: 'an empty run', bytes: sealed(70, 0, [0, 12]) },
    { id: 'an unknown kind', bytes: sealed(70, 0, [12 + 3]) },
    { id: 'a raw run that is cut off', bytes: sealed(70, 1, [8, 4 + 2, 1, 0, 0]) },
    { id: 'bits past the last region', bytes: sealed(70, 1, [8, 4 + 2, 0x40, 0, 0, 0]) },
    { id: 'a wrong count', bytes: sealed(70, 1, [12]) },
    { id: 'bytes left over', bytes: sealed(70, 0, [12, 12]) },
    { id: 'a head of more than 32 bits', bytes: sealed(70, 0, [0x8c, 0x80, 0x80, 0x80, 0x10]) },
    { id: 'a head without an end', bytes: sealed(70, 0, [0x8c, 0x80, 0x80, 0x80, 0x80, 0x80, 0]) },
  ])('$id', ({ bytes }) => {
    expect(() => RegionBitmap.deserialize(bytes)).toThrow(FORMAT);
  });

  it('another region count than expected, before memory for it is allocated', () => {
    const huge = sealed(2 ** 32 - 1, 0, [0x80, 0x80, 0x80, 0x80, 0x02]); // 2^27 words of zeros
    expect(() => RegionBitmap.deserialize(huge, { regionCount: 70 })).toThrow(FORMAT);
  });

  it('every cut and every flipped bit, with the memory untouched', () => {
    fc.assert(
      fc.property(bitPatterns, fc.nat(), fc.boolean(), (bits, at, cut) => {
        const bytes = bitmapOf(modelOf(bits)).serialize();
        const bit = at % (bytes.length * 8);
        const bad = cut ? bytes.subarray(0, bit >> 3) : bytes.slice();
        if (!cut) bad[bit >> 3]! ^= 1 << (bit & 7);
        const memory = new Uint8Array(bitmapBytes(bits.length)).fill(0x5a);
        expect(() => RegionBitmap.deserialize(bad, { memory })).toThrow(FORMAT);
        expect(memory.every((byte) => byte === 0x5a)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  it('runs made at random with a right checksum, or else gives a valid bitmap', () => {
    let good = 0;
    const runs = fc.array(fc.oneof(fc.constantFrom(4, 5, 6, 8), fc.nat(20), fc.nat(255)), { maxLength: 12 });
    fc.assert(
      fc.property(fc.nat(130), fc.constantFrom(0, 0, 1, 2, 32), runs, (count, setBits, body) => {
        const memory = new Uint8Array(24).fill(0x5a);
        let bitmap: RegionBitmap;
        try {
          bitmap = RegionBitmap.deserialize(sealed(count, setBits, body), { memory });
        } catch (error) {
          expect(error).toEqual(FORMAT);
          expect(memory.every((byte) => byte === 0x5a)).toBe(true);
          return;
        }
        good++;
        bitmap.assertValid();
        expect([bitmap.regionCount, bitmap.count]).toEqual([count, setBits]);
      }),
      { numRuns: 3000 },
    );
    expect(good).toBeGreaterThan(0);
  });

  it('memory that does not fit', () => {
    const bytes = sealed(70, 0, [12]);
    expect(() => RegionBitmap.deserialize(bytes, { memory: new Uint8Array(15) })).toThrow(GEOMETRY);
    expect(() => RegionBitmap.deserialize(bytes, { memory: new Uint8Array(24).subarray(2) })).toThrow(
      GEOMETRY,
    );
  });
});

describe('out of range', () => {
  const bad = [
    70,
    -1,
    1.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    2 ** 32,
    2 ** 32 + 3,
    -(2 ** 32) + 3,
    2 ** 53,
  ];

  it.each(bad)('region %d is refused by every method, and nothing changes', (region) => {
    const bits = Array.from({ length: 70 }, (_, r) => r % 3 === 0);
    const bitmap = bitmapOf(modelOf(bits));
    expect(() => bitmap.get(region)).toThrow(RANGE);
    expect(() => bitmap.set(region)).toThrow(RANGE);
    expect(() => bitmap.clear(region)).toThrow(RANGE);
    const beyond = region === 70 ? 71 : region;
    expect(() => bitmap.nextZero(beyond)).toThrow(RANGE);
    expect(() => bitmap.nextOne(beyond)).toThrow(RANGE);
    for (const method of ['setRange', 'clearRange', 'countRange'] as const) {
      expect(() => bitmap[method](0, beyond)).toThrow(RANGE);
      expect(() => bitmap[method](beyond, 70)).toThrow(RANGE);
      expect(() => bitmap[method](9, 8)).toThrow(RANGE);
    }
    expectSame(bitmap, modelOf(bits));
    const blocks = new BlockSet(70);
    for (const method of ['add', 'remove', 'has'] as const)
      expect(() => blocks[method](region)).toThrow(RANGE);
    expect(() => blocks.next(beyond)).toThrow(RANGE);
  });

  it('no region is in range of an empty bitmap', () => {
    expect(() => new RegionBitmap(0).get(0)).toThrow(RANGE);
    expect(() => new RegionBitmap(0).set(0)).toThrow(RANGE);
  });
});

describe('geometry', () => {
  it.each([-1, 1.5, Number.NaN, 2 ** 32, 2 ** 40])('region count %d is refused', (count) => {
    expect(() => new RegionBitmap(count)).toThrow(GEOMETRY);
    expect(() => bitmapBytes(count)).toThrow(GEOMETRY);
    expect(() => new BlockSet(count)).toThrow(GEOMETRY);
  });

  it('memory that is short or not aligned is refused', () => {
    expect(() => new RegionBitmap(65, { memory: new Uint8Array(15) })).toThrow(GEOMETRY);
    expect(() => new RegionBitmap(65, { memory: new Uint8Array(32).subarray(1) })).toThrow(GEOMETRY);
  });

  it.each(['and', 'or', 'andNot', 'copyFrom'] as const)(
    '%s refuses a bitmap of another region count',
    (method) => {
      const bitmap = new RegionBitmap(64);
      bitmap.set(3);
      expect(() => bitmap[method](new RegionBitmap(63))).toThrow(GEOMETRY);
      expect([bitmap.count, bitmap.get(3)]).toEqual([1, true]);
    },
  );

  it('a search whose summary was left out is refused, the other one works', () => {
    const zeros = new RegionBitmap(64, { searchOnes: false });
    const ones = new RegionBitmap(64, { searchZeros: false });
    expect(() => zeros.nextOne(0)).toThrow(code('ERR_BITMAP_SEARCH'));
    expect(() => ones.nextZero(0)).toThrow(code('ERR_BITMAP_SEARCH'));
    zeros.fill(true);
    zeros.clear(40);
    ones.set(50);
    expect([zeros.nextZero(0), ones.nextOne(0)]).toEqual([40, 50]);
  });
});
