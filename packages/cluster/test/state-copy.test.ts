import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { applyEntries } from '../src/apply.js';
import { type Entry, EntryType, entry, regionEntries } from '../src/entries.js';
import { encodeSnapshot } from '../src/snapshot.js';
import { Presence, ReplicatedState } from '../src/state.js';
import { copyNodes, StateCopy } from '../src/state-copy.js';

const REGIONS = 200;
const BOOT = 'ab'.repeat(16);
const RING = { nodeId: 3, seq: 2 ** 33 + 5 };

const memoryOf = () => new Uint8Array(StateCopy.bytes(REGIONS));
/** As bytes, the nodes in the order of their ids. */
function bytesOf(state: ReplicatedState): Uint8Array {
  const nodes = [...state.nodes].sort(([a], [b]) => a - b);
  state.nodes.clear();
  for (const [nodeId, node] of nodes) state.nodes.set(nodeId, node);
  return encodeSnapshot({ state, agreedRing: RING, waiting: [] });
}

const isSame = (a: ReplicatedState, b: ReplicatedState) => Buffer.from(bytesOf(a)).equals(bytesOf(b));

function stateOf(...nodes: number[]): ReplicatedState {
  const state = new ReplicatedState(REGIONS);
  state.position = 1;
  for (const nodeId of nodes) {
    state.ready(state.meet(nodeId, BOOT));
    state.resumed(state.meet(nodeId, BOOT));
  }
  return state;
}

const apply = (state: ReplicatedState, nodeId: number, entries: Entry[]) =>
  applyEntries(state, nodeId, entries, Uint8Array.of(nodeId, entries.length));

const regions = fc.array(fc.nat(REGIONS - 1), { minLength: 1, maxLength: 20 });
const step = fc.record({
  nodeId: fc.integer({ min: 1, max: 3 }),
  what: fc.constantFrom(
    'mark',
    'unmark',
    'lease',
    'synced',
    'failed',
    'suspended',
    'resumed',
    'down',
    'back',
    'doubt',
  ),
  regions,
});

interface Step {
  readonly nodeId: number;
  readonly what: string;
  readonly regions: readonly number[];
}

function play(state: ReplicatedState, { nodeId, what, regions: list }: Step): void {
  switch (what) {
    case 'mark':
      return apply(state, nodeId, regionEntries(EntryType.MARK, list));
    case 'unmark':
      return apply(state, nodeId, regionEntries(EntryType.UNMARK, list));
    case 'lease':
      return apply(state, nodeId, [entry(EntryType.LEASE, [list.length, list[0] as number])]);
    case 'synced':
      return apply(
        state,
        nodeId,
        regionEntries(EntryType.SYNCED, [...(state.nodes.get(nodeId)?.leases ?? [])]),
      );
    case 'failed':
      return apply(state, nodeId, regionEntries(EntryType.FAILED, list));
    case 'suspended':
      return apply(state, nodeId, [entry(EntryType.SUSPENDED, [0])]);
    case 'resumed':
      return apply(state, nodeId, [entry(EntryType.RESUMED)]);
    case 'doubt':
      state.begins(list);
      state.position++;
      return state.doubtAll();
    case 'back':
      state.position++;
      return state.ready(state.meet(nodeId, BOOT));
    case 'down':
      state.position++;
      return state.nodeDown(nodeId);
  }
}

class Death extends Error {}

/** Dies before a store. */
class MortalCopy extends StateCopy {
  storesLeft = Number.POSITIVE_INFINITY;

  protected override store(words: Uint32Array, index: number, value: number): void {
    if (this.storesLeft-- <= 0) throw new Death();
    super.store(words, index, value);
  }
}

describe('a copy of the state', () => {
  it('is, at every position, what was copied', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const memory = memoryOf();
        let copy = new StateCopy(memory, REGIONS);
        let state = stateOf(1, 2, 3);
        copy.save(state, RING);
        for (const [i, one] of steps.entries()) {
          play(state, one);
          copy.save(state, RING);
          const found = new StateCopy(memory.slice(), REGIONS).load();
          expect(found !== null && isSame(found.state, state)).toBe(true);
          expect(found?.agreedRing).toEqual(RING);
          if (i % 7 !== 6) continue;
          // The next process goes on with it.
          copy = new StateCopy(memory, REGIONS);
          state = copy.load()?.state as ReplicatedState;
        }
      }),
      { numRuns: 60 },
    );
  });

  it('is the one before or the one after, wherever the process dies', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 12 }), fc.nat(400), (steps, stores) => {
        const memory = memoryOf();
        const copy = new MortalCopy(memory, REGIONS);
        const state = stateOf(1, 2, 3);
        copy.save(state, RING);
        for (const one of steps.slice(0, -1)) play(state, one);
        copy.save(state, RING);
        const before = new StateCopy(memory.slice(), REGIONS).load()?.state as ReplicatedState;
        play(state, steps.at(-1) as (typeof steps)[0]);
        copy.storesLeft = stores;
        try {
          copy.save(state, RING);
        } catch (error) {
          if (!(error instanceof Death)) throw error;
        }
        const found = new StateCopy(memory, REGIONS).load()?.state;
        expect(found !== undefined && (isSame(found, before) || isSame(found, state))).toBe(true);
      }),
      { numRuns: 150 },
    );
  });

  it('is none while it is written anew, and none where a bit has flipped that matters', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(20_000), (at, stores) => {
        const memory = memoryOf();
        const copy = new MortalCopy(memory, REGIONS);
        const state = stateOf(1, 2);
        apply(state, 1, regionEntries(EntryType.MARK, [1, 5, 77]));
        copy.storesLeft = stores;
        let died = false;
        try {
          copy.save(state, RING);
        } catch {
          died = true;
        }
        const found = new StateCopy(memory.slice(), REGIONS).load();
        expect(found === null || isSame(found.state, state)).toBe(true);
        if (died) {
          expect(found).toBeNull();
          return;
        }
        memory[at % memory.byteLength] = (memory[at % memory.byteLength] as number) ^ 0x10;
        const damaged = new StateCopy(memory, REGIONS).load();
        // The journal that is not under way, and room that nobody uses, are no part of it.
        expect(damaged === null || isSame(damaged.state, state)).toBe(true);
      }),
      { numRuns: 150 },
    );
  });

  it('is given up with more nodes than it has room for, and taken up again', () => {
    const copy = new StateCopy(memoryOf(), REGIONS);
    const nodes = Array.from({ length: copyNodes(REGIONS) + 1 }, (_, i) => i + 1);
    const state = stateOf(...nodes);
    copy.save(state, RING);
    expect(copy.load()).toBeNull();
    state.position++;
    state.nodeLeft(4);
    copy.save(state, RING);
    const found = copy.load()?.state as ReplicatedState;
    expect(isSame(found, state)).toBe(true);
    expect([...found.nodes.values()].every(({ presence }) => presence === Presence.LIVE)).toBe(true);
  });
});
