declare const Buffer: { compare(a: Uint8Array, b: Uint8Array): number }; // the one thing of Node that these tests use

import fc from 'fast-check';
import { expect } from 'vitest';
import { RegionBitmap } from '../src/index.js';

/** The slow and obvious bitmap: one boolean per region. */
export class Model {
  bits: boolean[];

  constructor(regionCount: number) {
    this.bits = Array.from({ length: regionCount }, () => false);
  }

  get count(): number {
    return this.bits.filter(Boolean).length;
  }

  next(from: number, value: boolean): number {
    return this.bits.indexOf(value, from);
  }

  range(from: number, to: number, value: boolean): void {
    for (let r = from; r < to; r++) this.bits[r] = value;
  }

  /** Kernel bit order: region r is bit r & 7 of byte r >> 3; bytes in multiples of 8. */
  bytes(): Uint8Array {
    const bytes = new Uint8Array(Math.ceil(this.bits.length / 64) * 8);
    this.bits.forEach((bit, r) => {
      if (bit) bytes[Math.floor(r / 8)]! |= 2 ** (r % 8);
    });
    return bytes;
  }
}

export function modelOf(bits: boolean[]): Model {
  const model = new Model(bits.length);
  model.bits = bits;
  return model;
}

export function bitmapOf(model: Model): RegionBitmap {
  const bitmap = new RegionBitmap(model.bits.length);
  model.bits.forEach((bit, r) => {
    if (bit) bitmap.set(r);
  });
  return bitmap;
}

/** The bitmap shows what the model holds, through every reading method. */
export function expectSame(bitmap: RegionBitmap, model: Model): void {
  bitmap.assertValid();
  expect(Buffer.compare(bitmap.bytes, model.bytes())).toBe(0);
  expect([bitmap.count, bitmap.zeros]).toEqual([model.count, model.bits.length - model.count]);
}

/** Region counts around word, long and summary-level borders (32, 64, 1024, 32768). */
export const regionCounts = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.constantFrom(0, 1, 31, 32, 33, 63, 64, 65, 95, 96, 1023, 1024, 1025, 2048, 4095),
);

/** Bits in runs of very different length, so that words and groups of words are empty, full and mixed. */
export const bitPatterns = regionCounts.chain((count) =>
  fc
    .tuple(
      fc.boolean(),
      fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 1500 })), {
        maxLength: 40,
      }),
    )
    .map(([first, runs]) => {
      const bits: boolean[] = [];
      let value = first;
      for (const run of runs) {
        for (let i = 0; i < run && bits.length < count; i++) bits.push(value);
        value = !value;
      }
      while (bits.length < count) bits.push(value);
      return bits;
    }),
);

/** Two patterns of one region count. */
export const patternPairs = bitPatterns.chain((a) =>
  fc.tuple(
    fc.constant(a),
    fc
      .array(fc.boolean(), { minLength: 32, maxLength: 96 })
      .map((tile) => a.map((_, r) => tile[r % tile.length]!)),
  ),
);
