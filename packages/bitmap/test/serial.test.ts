import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RegionBitmap } from '../src/index.js';
import { bitmapOf, bitPatterns, expectSame, modelOf, patternPairs } from './model.js';

describe('serialize', () => {
  it('gives back the same bitmap, at most 21 + 4 bytes per 32 regions long', () => {
    const noise = patternPairs.map(([, b]) => b);
    fc.assert(
      fc.property(fc.oneof(bitPatterns, noise), fc.nat(3), (bits, shift) => {
        const model = modelOf(bits);
        const bytes = bitmapOf(model).serialize();
        expect(bytes.byteLength).toBeLessThanOrEqual(21 + 4 * Math.ceil(bits.length / 32));
        const shifted = new Uint8Array(bytes.length + shift).subarray(shift);
        shifted.set(bytes);
        expectSame(RegionBitmap.deserialize(shifted, { regionCount: bits.length }), model);
      }),
    );
  });

  it('writes the documented bytes', () => {
    const bitmap = new RegionBitmap(200);
    bitmap.setRange(64, 128); // words 2 and 3
    bitmap.set(130);
    bitmap.setRange(192, 200); // the last word, all its regions
    const bytes = bitmap.serialize();
    expect([...bytes.subarray(0, 12)]).toEqual([0x52, 0x42, 0x4d, 0x31, 200, 0, 0, 0, 73, 0, 0, 0]);
    expect([...bytes.subarray(16)]).toEqual([2 * 4, 2 * 4 + 1, 1 * 4 + 2, 4, 0, 0, 0, 1 * 4, 1 * 4 + 1]);
    bitmap.fill(true);
    expect([...bitmap.serialize().subarray(16)]).toEqual([7 * 4 + 1]); // one run, the part of a word included
  });

  it('gives what the example of the package says', () => {
    const inSync = new RegionBitmap(1000);
    inSync.fill(true);
    inSync.clear(42);
    expect([inSync.count, inSync.nextZero(0), inSync.serialize().byteLength]).toEqual([999, 42, 23]);
  });

  it.each([2 ** 27, 2 ** 27 - 3])('needs under 1 KiB for %i regions that are alike', (count) => {
    for (const value of [false, true]) {
      const bitmap = new RegionBitmap(count);
      bitmap.fill(value);
      const bytes = bitmap.serialize();
      expect(bytes.byteLength).toBeLessThan(1024);
      const again = RegionBitmap.deserialize(bytes, { regionCount: count });
      expect([again.count, again.equals(bitmap)]).toEqual([value ? count : 0, true]);
      expect([again.nextZero(0), again.nextOne(0)]).toEqual(value ? [-1, 0] : [0, -1]);
    }
  });

  it('overwrites the memory it is given, and only the bitmap in it', () => {
    fc.assert(
      fc.property(bitPatterns, (bits) => {
        const model = modelOf(bits);
        const image = new Uint8Array(4096).fill(0xa5);
        RegionBitmap.deserialize(bitmapOf(model).serialize(), { memory: image.subarray(512) });
        const bytes = model.bytes();
        expect(image.subarray(512, 512 + bytes.length)).toEqual(bytes);
        expect(
          [...image.subarray(0, 512), ...image.subarray(512 + bytes.length)].every((b) => b === 0xa5),
        ).toBe(true);
      }),
    );
  });
});
