import { RegionBitmap } from '@dmlog/bitmap';
import { bootIdWords, type Entry, EntryType, runEntries } from './entries.js';
import type { ReplicatedState } from './state.js';

/**
 * What a member brings along when its own history ends and another goes on (design rule 22): the marks of its own kernel, `held` among them; every region that this
 * history doubts, and every one that its kernel may take for in sync; those that its kernel may be recovering (`recovering`) or writing on one leg; and the marks of all other nodes that it knows of.
 */
export function bringAlong(
  state: ReplicatedState,
  self: { readonly nodeId: number; readonly bootId: string },
  held: RegionBitmap,
  recovering: readonly number[],
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
  givenUp.copyFrom(state.givenUp);
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
