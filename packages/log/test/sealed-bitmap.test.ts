import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isWhole, SealedBitmap } from '../src/index.js';

const REGIONS = 200;
const SEAL_BYTES = 16;

interface Kept {
  readonly bytes: Uint8Array;
  readonly seal: Int32Array;
}

const fresh = (): Kept => ({ bytes: new Uint8Array(32), seal: new Int32Array(SEAL_BYTES / 4) });
const copy = ({ bytes, seal }: Kept): Kept => ({ bytes: bytes.slice(), seal: seal.slice() });
const whole = ({ bytes, seal }: Kept) => isWhole(new Int32Array(bytes.buffer), seal);
const open = ({ bytes, seal }: Kept) => new SealedBitmap(REGIONS, bytes, seal);

type Change = { set: boolean; region: number };
const change: fc.Arbitrary<Change> = fc.record({
  set: fc.boolean(),
  region: fc.integer({ min: 0, max: REGIONS - 1 }),
});

function apply(bitmap: SealedBitmap, { set, region }: Change): void {
  if (set) bitmap.set(region);
  else bitmap.clear(region);
}

function bitmapAfter(changes: readonly Change[]): Kept {
  const kept = fresh();
  const bitmap = open(kept);
  for (const one of changes) apply(bitmap, one);
  return kept;
}

describe('a sealed bitmap', () => {
  it('is whole when fresh, and after any changes, one by one or many at once', () => {
    expect(whole(fresh())).toBe(true);
    const kept = fresh();
    const bitmap = open(kept);
    bitmap.fill(true);
    bitmap.clearRange(3, 90);
    bitmap.setRange(80, 85);
    const other = open(fresh());
    other.set(7);
    expect(whole(kept)).toBe(true);
    bitmap.copyFrom(other);
    bitmap.load(other.bytes);
    expect(whole(kept)).toBe(true);
    expect([...kept.bytes].filter((byte) => byte !== 0)).toEqual([1 << 7]);
    bitmap.assertValid();
  });

  it('is whole wherever the process died within a change', () => {
    fc.assert(
      fc.property(fc.array(change, { maxLength: 40 }), change, (changes, last) => {
        const before = bitmapAfter(changes);
        const after = copy(before);
        apply(open(after), last);
        // The steps of a change: intent, word, digest, end of the intent.
        const announced = copy(before);
        announced.seal[1] = last.region + 1;
        const changed = { bytes: after.bytes.slice(), seal: announced.seal.slice() };
        const counted = { bytes: after.bytes.slice(), seal: after.seal.slice() };
        counted.seal[1] = last.region + 1;
        for (const state of [before, announced, changed, counted, after]) expect(whole(state)).toBe(true);
        // Whoever adopts it seals it as it is.
        open(changed);
        expect(changed.seal).toEqual(after.seal);
      }),
    );
  });

  it('is damaged by any change of any byte that was not announced', () => {
    fc.assert(
      fc.property(
        fc.array(change, { minLength: 1, maxLength: 40 }),
        fc.integer({ min: 1, max: 255 }),
        (changes, flip) => {
          const kept = bitmapAfter(changes);
          for (let at = 0; at < REGIONS / 8; at++) {
            const torn = copy(kept);
            torn.bytes[at] = (torn.bytes[at] as number) ^ flip;
            expect([at, whole(torn)]).toEqual([at, false]);
            // While one bit is being changed, no other may be.
            torn.seal[1] = ((8 * at + 9) % REGIONS) + 1;
            expect([at, whole(torn)]).toEqual([at, false]);
          }
        },
      ),
    );
  });

  it('is damaged by any change of its digest, and while many words are being changed', () => {
    const kept = bitmapAfter([{ set: true, region: 70 }]);
    for (let bit = 0; bit < 32; bit++) {
      const torn = copy(kept);
      torn.seal[0] = (torn.seal[0] as number) ^ (1 << bit);
      expect(whole(torn)).toBe(false);
    }
    const opened = copy(kept);
    opened.seal[2] = 1;
    expect(whole(opened)).toBe(false);
  });

  it('refuses regions out of range and stays whole', () => {
    const kept = bitmapAfter([{ set: true, region: 70 }]);
    const bitmap = open(kept);
    expect(() => bitmap.set(REGIONS)).toThrow(/out of range/);
    expect(() => bitmap.clear(-1)).toThrow(/out of range/);
    expect(whole(kept)).toBe(true);
  });
});
