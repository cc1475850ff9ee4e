import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockSet } from '../src/index.js';

function members(set: BlockSet): number[] {
  const found: number[] = [];
  for (let b = set.next(0); b >= 0; b = set.next(b + 1)) found.push(b);
  return found;
}

const ascending = (set: Set<number>) => [...set].sort((a, b) => a - b);

describe('BlockSet', () => {
  it('behaves as a Set that is walked in order', () => {
    const steps = fc.array(fc.tuple(fc.constantFrom('add', 'add', 'add', 'remove', 'clear'), fc.nat(99)));
    fc.assert(
      fc.property(steps, (todo) => {
        const blocks = new BlockSet(100);
        const model = new Set<number>();
        for (const [kind, block] of todo) {
          if (kind === 'add') {
            expect(blocks.add(block)).toBe(!model.has(block));
            model.add(block);
          } else if (kind === 'remove') expect(blocks.remove(block)).toBe(model.delete(block));
          else {
            blocks.clear();
            model.clear();
          }
          expect(blocks.has(block)).toBe(model.has(block));
          expect(blocks.size).toBe(model.size);
        }
        expect(members(blocks)).toEqual(ascending(model));
      }),
    );
  });

  it('moves its blocks into another set, and takes them back', () => {
    const list = fc.array(fc.nat(99));
    fc.assert(
      fc.property(list, list, (a, b) => {
        const gathering = new BlockSet(100);
        const flushing = new BlockSet(100);
        for (const block of a) gathering.add(block);
        for (const block of b) flushing.add(block);
        gathering.takeInto(flushing);
        expect([gathering.size, members(gathering)]).toEqual([0, []]);
        expect(members(flushing)).toEqual(ascending(new Set([...a, ...b])));
        flushing.takeInto(gathering);
        expect([flushing.size, gathering.size]).toEqual([0, new Set([...a, ...b]).size]);
      }),
    );
  });

  it('keeps its blocks when it is its own target, and when the other has another size', () => {
    const blocks = new BlockSet(40);
    blocks.addAll();
    blocks.takeInto(blocks);
    expect(() => blocks.takeInto(new BlockSet(41))).toThrow(
      expect.objectContaining({ code: 'ERR_BITMAP_GEOMETRY' }),
    );
    expect(blocks.size).toBe(40);
  });

  it('adds ranges', () => {
    const blocks = new BlockSet(40);
    blocks.addRange(30, 40);
    blocks.addRange(0, 2);
    expect(members(blocks)).toEqual([0, 1, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39]);
  });
});
