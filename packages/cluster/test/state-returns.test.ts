import { RegionBitmap } from '@dmlog/bitmap';
import { expect, it } from 'vitest';
import { bringAlong } from '../src/bring-along.js';
import { EntryType, forRuns } from '../src/entries.js';
import { Presence, ReplicatedState } from '../src/state.js';

const REGIONS = 8;
const BOOTS = ['1', '2', '3'].map((id) => id.padStart(32, '0')) as [string, string, string];

/** A state with everything in sync under two live nodes; the third is coming back. */
function stateOfTwo() {
  const state = new ReplicatedState(REGIONS);
  const all = new ReplicatedState(REGIONS).work;
  state.begin(all);
  const nodes = [1, 2].map((id) => {
    const node = state.meet(id, BOOTS[id - 1] as string);
    state.ready(node);
    state.resumed(node);
    return node;
  });
  return { state, nodes, third: state.meet(3, BOOTS[2], true) };
}

/** Region 5 was given up; the first node was reloaded since, the second, whose kernel writes it on one leg, is suspended. */
function oneLegSuspended() {
  const { state, nodes } = stateOfTwo();
  const [one, two] = nodes as [(typeof nodes)[0], (typeof nodes)[0]];
  state.nodeDown(3);
  state.bringGivenUp(5);
  state.broughtAll();
  state.suspended(one, false);
  state.resumed(one);
  state.suspended(two, true);
  return { state, two };
}

it('a region that the kernel of a returning node writes on one leg is read from no other, and recovered after all were reloaded', () => {
  const { state, nodes, third } = stateOfTwo();
  const dirtied: number[] = [];
  state.watcher = {
    dirtied: (region) => dirtied.push(region),
    cleaned: () => {},
    returned: () => {},
    wroteLate: () => {},
  };
  state.bringGivenUp(5);
  state.broughtAll();
  state.checkInvariants();
  expect([state.inSync, state.clean, state.work, state.stale].map((one) => one.get(5))).toEqual([
    false,
    false,
    false,
    false,
  ]);
  expect(state.givenUp.get(5)).toBe(true);
  expect(dirtied).toEqual([5]);
  state.ready(third);
  state.reconnected(third);
  expect(third.presence).toBe(Presence.LIVE);
  for (const node of [...nodes, third]) {
    expect(state.work.get(5)).toBe(false);
    state.suspended(node, false);
    state.resumed(node);
    state.checkInvariants();
  }
  expect(state.work.get(5)).toBe(true);
});

it('a region that such a kernel may be recovering is neither work nor leased any more', () => {
  const { state, nodes, third } = stateOfTwo();
  const [one] = nodes as [(typeof nodes)[0]];
  state.bringDoubt(4);
  state.broughtAll();
  for (const node of [...nodes, third]) {
    state.suspended(node, false);
    state.resumed(node);
  }
  state.lease(one, 1, 4);
  expect(state.leased.get(4)).toBe(true);
  state.bringGivenUp(4);
  state.broughtAll();
  state.checkInvariants();
  expect([state.leased.get(4), state.work.get(4), state.givenUp.get(4)]).toEqual([false, false, true]);
});

it('nothing is read from another leg, or recovered, while a kernel takes part of which nobody knows what it writes on one', () => {
  const { state, nodes, third: stranger } = stateOfTwo();
  state.ready(stranger, true);
  state.reconnected(stranger);
  state.checkInvariants();
  expect([state.inSync.count, state.stale.count, state.givenUp.count]).toEqual([0, 0, REGIONS]);
  for (const node of [...nodes, stranger]) {
    expect(state.work.count).toBe(0);
    state.suspended(node, false);
    state.resumed(node);
  }
  expect(state.work.count).toBe(REGIONS);
});

it('a kernel that resumes the table it had writes on one leg what it wrote on one leg before: that is no reload', () => {
  const { state, two } = oneLegSuspended();
  expect([state.work.get(5), [...state.needReload]]).toEqual([false, [2]]);
  state.reconnected(two);
  expect([state.work.get(5), [...state.needReload]]).toEqual([false, [2]]);
  state.suspended(two, true);
  state.resumed(two);
  expect([state.work.get(5), [...state.needReload]]).toEqual([true, []]);
  state.checkInvariants();
});

it("a suspended kernel that has to be reloaded is waited for after its daemon's death, until its machine dies", () => {
  const { state, two } = oneLegSuspended();
  state.daemonDown(2);
  expect([state.work.get(5), two.presence]).toEqual([false, Presence.ABSENT]);
  state.nodeDown(2);
  expect(state.work.get(5)).toBe(true);
});

it('of what was given up, a node brings along as such what its kernel may write on one leg, and the rest as doubts', () => {
  const { state } = stateOfTwo();
  for (const region of [3, 5]) state.bringGivenUp(region);
  const brought = (oneLeg: ReadonlySet<number> | null) => {
    const self = { nodeId: 1, bootId: BOOTS[0] };
    const entries = bringAlong(state, self, new RegionBitmap(REGIONS), [6], oneLeg);
    const regionsOf = (type: EntryType) => {
      const regions: number[] = [];
      for (const { type: its, words } of entries)
        if (its === type) forRuns(words.subarray(4), (region) => regions.push(region));
      return regions;
    };
    return [regionsOf(EntryType.BROUGHT_GIVEN_UP), regionsOf(EntryType.BROUGHT_DOUBTS)];
  };
  expect(brought(new Set([2, 5]))).toEqual([
    [5, 6],
    [3, 5],
  ]);
  expect(brought(new Set())).toEqual([[6], [3, 5]]);
  expect(brought(null)).toEqual([
    [3, 5, 6],
    [3, 5],
  ]);
});
