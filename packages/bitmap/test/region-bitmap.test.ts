import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bitmapBytes, RegionBitmap } from '../src/index.js';
import { bitmapOf, bitPatterns, expectSame, Model, modelOf, patternPairs, regionCounts } from './model.js';

const steps = fc.array(
  fc.record({
    kind: fc.constantFrom('set', 'set', 'clear', 'clear', 'setRange', 'clearRange', 'fill'),
    a: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
    b: fc.double({ min: 0, max: 1, noNaN: true }),
  }),
  { maxLength: 60 },
);

describe('RegionBitmap against the model', () => {
  it('shows the same bits, counts and search results after any steps', () => {
    fc.assert(
      fc.property(bitPatterns, steps, (bits, todo) => {
        const model = modelOf([...bits]);
        const bitmap = bitmapOf(model);
        const count = bits.length;
        expectSame(bitmap, model);
        for (const { kind, a, b } of todo) {
          const region = Math.floor(a * count);
          const [from, to] = [region, Math.floor(b * count)].sort((x, y) => x - y) as [number, number];
          if (kind === 'fill') {
            bitmap.fill(b < 0.5);
            model.range(0, count, b < 0.5);
          } else if (kind === 'setRange' || kind === 'clearRange') {
            bitmap[kind](from, to);
            model.range(from, to, kind === 'setRange');
          } else if (count > 0) {
            expect(bitmap[kind as 'set' | 'clear'](region)).toBe(model.bits[region] !== (kind === 'set'));
            model.bits[region] = kind === 'set';
            expect(bitmap.get(region)).toBe(kind === 'set');
          }
          expect(bitmap.nextZero(from)).toBe(model.next(from, false));
          expect(bitmap.nextOne(from)).toBe(model.next(from, true));
          expect(bitmap.countRange(from, to)).toBe(model.bits.slice(from, to).filter(Boolean).length);
          expectSame(bitmap, model);
        }
      }),
    );
  });

  it('searches from every region as the model does', () => {
    fc.assert(
      fc.property(bitPatterns, (bits) => {
        const model = modelOf(bits);
        const bitmap = bitmapOf(model);
        for (let from = 0; from <= bits.length; from++) {
          if (bitmap.nextZero(from) !== model.next(from, false)) expect.fail(`nextZero(${from})`);
          if (bitmap.nextOne(from) !== model.next(from, true)) expect.fail(`nextOne(${from})`);
        }
      }),
    );
  });

  it('searches across summary levels: a single zero, a single one, anywhere in 2^21 + 5 regions', () => {
    const count = 2 ** 21 + 5;
    const ones = new RegionBitmap(count);
    const zeros = new RegionBitmap(count);
    zeros.fill(true);
    fc.assert(
      fc.property(fc.nat(count - 1), fc.nat(count), (region, from) => {
        expect([ones.set(region), zeros.clear(region)]).toEqual([true, true]);
        const expected = from <= region ? region : -1;
        expect([ones.nextOne(from), zeros.nextZero(from)]).toEqual([expected, expected]);
        expect([ones.clear(region), zeros.set(region)]).toEqual([true, true]);
        expect([ones.nextOne(0), zeros.nextZero(0)]).toEqual([-1, -1]);
      }),
      { numRuns: 300 },
    );
    ones.assertValid();
    zeros.assertValid();
  });

  it.each([
    ['and', (a: boolean, b: boolean) => a && b],
    ['or', (a: boolean, b: boolean) => a || b],
    ['andNot', (a: boolean, b: boolean) => a && !b],
    ['copyFrom', (_: boolean, b: boolean) => b],
  ] as const)('merges with %s bit by bit, and leaves the other alone', (name, rule) => {
    fc.assert(
      fc.property(patternPairs, fc.boolean(), ([a, b], swap) => {
        const [mine, theirs] = swap ? [b, a] : [a, b];
        const bitmap = bitmapOf(modelOf(mine));
        const other = bitmapOf(modelOf(theirs));
        bitmap[name](other);
        expectSame(bitmap, modelOf(mine.map((bit, r) => rule(bit, theirs[r]!))));
        expectSame(other, modelOf(theirs));
      }),
    );
  });

  it('equals a bitmap of the same bits only', () => {
    fc.assert(
      fc.property(patternPairs, ([a, b]) => {
        const bitmap = bitmapOf(modelOf(a));
        expect(bitmap.equals(bitmapOf(modelOf([...a])))).toBe(true);
        expect(bitmap.equals(bitmapOf(modelOf(b)))).toBe(a.every((bit, r) => bit === b[r]));
        expect(bitmap.equals(new RegionBitmap(a.length + 1))).toBe(false);
      }),
    );
  });
});

describe('memory', () => {
  it('loads bytes of any length and alignment: short reads as zeros, the rest and bits past the end are ignored', () => {
    fc.assert(
      fc.property(bitPatterns, fc.uint8Array({ maxLength: 700 }), fc.nat(3), (bits, bytes, shift) => {
        const bitmap = bitmapOf(modelOf(bits));
        const source = new Uint8Array(bytes.length + shift).subarray(shift);
        source.set(bytes);
        bitmap.load(source);
        expectSame(bitmap, modelOf(bits.map((_, r) => (((bytes[r >> 3] ?? 0) >> (r & 7)) & 1) === 1)));
      }),
    );
  });

  it('loads more than one chunk, and its own memory', () => {
    const model = modelOf(Array.from({ length: 100_003 }, (_, r) => r % 7 === 0 || r > 70_000));
    const bitmap = new RegionBitmap(100_003);
    bitmap.load(model.bytes());
    expectSame(bitmap, model);
    bitmap.load(bitmap.bytes);
    expectSame(bitmap, model);
    bitmap.load(model.bytes().subarray(0, 5000)); // the second chunk is short
    model.range(40_000, 100_003, false);
    expectSame(bitmap, model);
  });

  it('adopts the content of the memory it is given, uses it in place and nothing around it', () => {
    fc.assert(
      fc.property(regionCounts, fc.uint8Array({ minLength: 530, maxLength: 530 }), (count, noise) => {
        const image = new Uint8Array(8 + 520 + 16).fill(0xa5);
        image.set(noise, 8);
        const before = image.slice();
        const bitmap = new RegionBitmap(count, { memory: image.subarray(8, 8 + 520) });
        expect(bitmap.bytes.byteLength).toBe(bitmapBytes(count));
        const model = modelOf(
          Array.from({ length: count }, (_, r) => (((before[8 + (r >> 3)] as number) >> (r & 7)) & 1) === 1),
        );
        expectSame(bitmap, model);
        if (count > 0) {
          bitmap.set(count - 1);
          model.bits[count - 1] = true;
        }
        const end = 8 + bitmapBytes(count);
        expect(image.subarray(8, end)).toEqual(model.bytes());
        expect(image.subarray(0, 8)).toEqual(before.subarray(0, 8));
        expect(image.subarray(end)).toEqual(before.subarray(end));
      }),
    );
  });

  it('counts and searches anew after rebuild, and clears bits past the last region', () => {
    const bitmap = new RegionBitmap(70);
    bitmap.bytes.fill(0xff);
    bitmap.bytes[2] = 0xef; // region 20
    bitmap.rebuild();
    expect([bitmap.count, bitmap.nextZero(0), bitmap.nextZero(21), bitmap.nextOne(69)]).toEqual([
      69, 20, -1, 69,
    ]);
    expect([...bitmap.bytes.subarray(8)]).toEqual([0x3f, 0, 0, 0, 0, 0, 0, 0]);
    bitmap.assertValid();
  });

  it('has the bytes the kernel writes: region r is bit r & 7 of byte r >> 3', () => {
    const bitmap = new RegionBitmap(72);
    for (const region of [0, 9, 31, 32, 71]) bitmap.set(region);
    expect([...bitmap.bytes]).toEqual([1, 2, 0, 0x80, 1, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]);
  });

  it.each([
    [0, 0],
    [1, 8],
    [64, 8],
    [65, 16],
    [2 ** 27, 2 ** 24],
    [2 ** 32 - 1, 2 ** 29],
  ])('rounds the bitmap of %i regions up to %i bytes', (count, bytes) => {
    expect(bitmapBytes(count)).toBe(bytes);
  });

  it.each([2 ** 16, 2 ** 20 + 1, 2 ** 27])(
    'costs at most 1/15 bit more per region for %i regions',
    (count) => {
      const both = new RegionBitmap(count);
      const one = new RegionBitmap(count, { searchOnes: false });
      const none = new RegionBitmap(count, { searchOnes: false, searchZeros: false });
      expect(both.byteLength - both.bytes.byteLength).toBeLessThanOrEqual(count / 8 / 15);
      expect(one.byteLength - one.bytes.byteLength).toBeLessThanOrEqual(count / 8 / 30);
      expect(none.byteLength).toBe(bitmapBytes(count));
    },
  );
});

describe('extremes', () => {
  it('works with no regions at all', () => {
    const empty = new RegionBitmap(0);
    empty.fill(true);
    empty.setRange(0, 0);
    empty.load(Uint8Array.of(0xff));
    empty.or(new RegionBitmap(0));
    expectSame(empty, new Model(0));
    expect([empty.nextZero(0), empty.nextOne(0), empty.countRange(0, 0), empty.byteLength]).toEqual([
      -1, -1, 0, 0,
    ]);
    expect(RegionBitmap.deserialize(empty.serialize()).equals(empty)).toBe(true);
  });

  it('works past 2^31, up to region 2^32 - 2, without touching the memory of regions that stay zero', () => {
    const before = process.memoryUsage.rss();
    const count = 2 ** 32 - 1;
    const bitmap = new RegionBitmap(count);
    const far = count - 1;
    expect([bitmap.set(far), bitmap.get(far), bitmap.set(far)]).toEqual([true, true, false]);
    expect([bitmap.nextOne(0), bitmap.nextOne(far), bitmap.nextZero(far), bitmap.zeros]).toEqual([
      far,
      far,
      -1,
      far,
    ]);
    bitmap.setRange(2 ** 31 - 5, 2 ** 31 + 70);
    expect([bitmap.count, bitmap.countRange(2 ** 31, 2 ** 31 + 100)]).toEqual([76, 70]);
    expect(bitmap.nextOne(0)).toBe(2 ** 31 - 5);
    expect(bitmap.nextZero(2 ** 31)).toBe(2 ** 31 + 70);
    expect(bitmap.nextOne(2 ** 31 + 70)).toBe(far);
    bitmap.clearRange(2 ** 31, 2 ** 31 + 70);
    expect([bitmap.clear(far), bitmap.clear(far), bitmap.count]).toEqual([true, false, 5]);
    bitmap.fill(false);
    expect([bitmap.count, bitmap.nextOne(0), bitmap.nextZero(2 ** 31)]).toEqual([0, -1, 2 ** 31]);
    expect(bitmap.bytes.byteLength).toBe(2 ** 29);
    expect(process.memoryUsage.rss() - before).toBeLessThan(2 ** 26);
  });
});

declare const process: { memoryUsage: { rss(): number } };
