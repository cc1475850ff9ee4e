import { RegionBitmap } from '@dmlog/bitmap';
import { bootIdWords, type Entry, EntryType, runEntries } from './entries.js';
import type { ReplicatedState } from './state.js';

/**
 * What a member brings along when its own history ends and another goes on (design rule 22): the marks of its own kernel, `held` among them; every region that this
 * history doubts, and every one that its kernel may take for in sync; those that its kernel may be recovering (`recovering`) or writing on one leg (`oneLeg`, of those that were given
 * up; null: all); and the marks of all other nodes that it knows of. What was given up and no kernel writes on one leg is in doubt, no more: called "not in sync", it would be written
 * on one leg by those who ask, and read from both by those who have asked before.
 */
export function bringAlong(
  state: ReplicatedState,
  self: { readonly nodeId: number; readonly bootId: string },
  held: RegionBitmap,
  recovering: readonly number[],
  oneLeg: ReadonlySet<number> | null,
): Entry[] {
  const marks = new RegionBitmap(state.regionCount);
  marks.copyFrom(held);
  const mine = state.nodes.get(self.nodeId);
  if (mine !== undefined) marks.or(mine.marks);
  const doubts = new RegionBitmap(state.regionCount);
  doubts.fill(true);
  doubts.andNot(state.inSync);
  doubts.or(state.stale);
  const beliefs = new RegionBitmap(state.regionCount);
  beliefs.copyFrom(state.inSync);
  const givenUp = new RegionBitmap(state.regionCount);
  if (oneLeg === null) givenUp.copyFrom(state.givenUp);
  else for (const region of oneLeg) if (state.givenUp.get(region)) givenUp.set(region);
  for (const region of recovering) givenUp.set(region);
  const head = bootIdWords(self.bootId);
  const entries = [
    ...runEntries(EntryType.BROUGHT_MARKS, marks, head),
    ...runEntries(EntryType.BROUGHT_DOUBTS, doubts, head),
    ...runEntries(EntryType.BROUGHT_BELIEFS, beliefs, head),
    ...runEntries(EntryType.BROUGHT_GIVEN_UP, givenUp, head),
  ];
  for (const node of state.nodes.values()) {
    if (node.nodeId === self.nodeId) continue;
    const others = new RegionBitmap(state.regionCount);
    others.copyFrom(node.marks);
    entries.push(...runEntries(EntryType.BROUGHT_OTHERS, others, [node.nodeId, ...bootIdWords(node.bootId)]));
  }
  return entries;
}
