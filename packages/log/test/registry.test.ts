import { encodeRequestInto, FrameView, RequestType } from '@dmlog/protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LogName, LogRegistry } from '../src/index.js';

const arena = new Uint8Array(1024);
const view = new FrameView(arena);

function asked(name: LogName): FrameView {
  const end = encodeRequestInto(arena, 0, {
    type: RequestType.RESUME,
    version: 3,
    seq: 1,
    luid: { low: name.luidLow, high: name.luidHigh },
    uuid: name.uuid,
    data: new Uint8Array(0),
  });
  expect(view.decode(0, end)).toBe(0);
  return view;
}

const name = fc.record({
  uuid: fc.constantFrom('a', 'ab', 'LVM-k1s', 'LVM-k1S'),
  luidLow: fc.constantFrom(0, 1, 0x80000000, 0xffffffff, 0x66000000),
  luidHigh: fc.constantFrom(0, 0xffff8880),
});

describe('LogRegistry', () => {
  it('tells the live from the inactive log of one uuid by luid', () => {
    const registry = new LogRegistry<string>();
    registry.add({ uuid: 'u', luidLow: 1, luidHigh: 0 }, 'live');
    registry.add({ uuid: 'u', luidLow: 2, luidHigh: 0 }, 'inactive');
    expect(registry.find(asked({ uuid: 'u', luidLow: 1, luidHigh: 0 }))).toBe('live');
    expect(registry.find(asked({ uuid: 'u', luidLow: 2, luidHigh: 0 }))).toBe('inactive');
    expect(registry.find(asked({ uuid: 'v', luidLow: 1, luidHigh: 0 }))).toBeNull();
    expect(registry.withUuid('u').sort()).toEqual(['inactive', 'live']);
  });

  it('agrees with a map', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('add', 'remove'), name, fc.nat()), { maxLength: 200 }),
        (steps) => {
          const registry = new LogRegistry<number>();
          const model = new Map<string, number>();
          for (const [what, n, value] of steps) {
            const key = JSON.stringify([n.uuid, n.luidLow, n.luidHigh]);
            const expected = model.get(key) ?? null;
            expect(registry.find(asked(n))).toBe(expected);
            if (what === 'add') {
              expect(registry.add(n, value)).toBe(expected);
              model.set(key, value);
            } else {
              expect(registry.remove(n)).toBe(expected);
              model.delete(key);
            }
            expect(registry.find(asked(n))).toBe(model.get(key) ?? null);
            expect(registry.size).toBe(model.size);
          }
          expect([...registry.entries()].length).toBe(model.size);
        },
      ),
    );
  });

  it('finds each of thousands', () => {
    const registry = new LogRegistry<number>();
    for (let i = 0; i < 5000; i++) registry.add({ uuid: 'u', luidLow: i * 512, luidHigh: 7 }, i);
    for (let i = 0; i < 5000; i += 7) {
      expect(registry.find(asked({ uuid: 'u', luidLow: i * 512, luidHigh: 7 }))).toBe(i);
    }
  });
});
