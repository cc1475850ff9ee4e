/**
 * `npx vitest bench --run`. Each measured call does OPERATIONS operations, so divide: 1000 calls a second are 1.024 million
 * operations a second. Regions are visited with a stride that is odd, so all of them in turn, and far apart, as marks are.
 *
 * Sources run module by module here, and a call into another module costs a look-up that the built package does not have:
 * searches and changes of the summaries look several times slower than they are.
 */
import { bench, describe } from 'vitest';
import { RegionBitmap } from '../src/index.js';

const OPERATIONS = 1024;
const STRIDE = 40_503; // odd: coprime to the power-of-two region counts

// Loops keep their state in locals: a variable that outlives the call costs more than what is measured.

function getMany(bitmap: RegionBitmap): number {
  const mask = bitmap.regionCount - 1;
  let set = 0;
  for (let i = 0, region = 0; i < OPERATIONS; i++, region = (region + STRIDE) & mask)
    if (bitmap.get(region)) set++;
  return set;
}

function setAndClear(bitmap: RegionBitmap): void {
  const mask = bitmap.regionCount - 1;
  for (let i = 0, region = 0; i < OPERATIONS / 2; i++, region = (region + STRIDE) & mask) {
    bitmap.set(region);
    bitmap.clear(region);
  }
}

function clearAndSet(bitmap: RegionBitmap): void {
  const mask = bitmap.regionCount - 1;
  for (let i = 0, region = 0; i < OPERATIONS / 2; i++, region = (region + STRIDE) & mask) {
    bitmap.clear(region);
    bitmap.set(region);
  }
}

function nextZeroMany(bitmap: RegionBitmap): number {
  let found = 0;
  for (let i = 0; i < OPERATIONS; i++) found = bitmap.nextZero(0);
  return found;
}

for (const power of [16, 27]) {
  const count = 2 ** power;
  describe(`2^${power} regions, ${OPERATIONS} operations a call`, () => {
    const mixed = new RegionBitmap(count); // no word empty or full: marks and clears as they mostly are
    for (let r = 0; r < count; r += 32) mixed.set(r + 31);
    const empty = new RegionBitmap(count);
    const full = new RegionBitmap(count);
    full.fill(true);
    const lastClear = new RegionBitmap(count);
    lastClear.fill(true);
    lastClear.clear(count - 1);

    bench('get', () => void getMany(full));
    bench('set, then clear', () => setAndClear(mixed));
    bench('set, then clear, all summary levels change', () => setAndClear(empty));
    bench('clear, then set, all summary levels change', () => clearAndSet(full));
    bench('nextZero(0), only the last region clear', () => {
      if (nextZeroMany(lastClear) !== count - 1) throw new Error('found the wrong region');
    });
  });
}

describe('2^27 regions at random, one operation a call', () => {
  const bitmap = new RegionBitmap(2 ** 27);
  let state = 1;
  for (let at = 0; at < bitmap.bytes.length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    bitmap.bytes[at] = state >>> 24;
  }
  bitmap.rebuild();
  const other = new RegionBitmap(2 ** 27);
  const saved = bitmap.serialize();

  bench('serialize', () => void bitmap.serialize(), { iterations: 3, time: 0 });
  bench('deserialize', () => void RegionBitmap.deserialize(saved), { iterations: 3, time: 0 });
  bench('rebuild', () => bitmap.rebuild(), { iterations: 3, time: 0 });
  bench('load', () => other.load(bitmap.bytes), { iterations: 3, time: 0 });
  bench('or', () => other.or(bitmap), { iterations: 3, time: 0 });
});
