import { createHash } from 'node:crypto';
import type { ReplicatedState } from '@dmlog/cluster';

/** Everything that members must agree on, as a short text. Costs a look at each region. */
export function digestOf(state: ReplicatedState): string {
  const hash = createHash('sha1');
  const { inSync, stale, givenUp, work, clean, leased } = state;
  for (const bitmap of [inSync, stale, givenUp, work, clean, leased]) hash.update(bitmap.serialize());
  const nodes = [...state.nodes.values()].sort((a, b) => a.nodeId - b.nodeId);
  for (const { nodeId, bootId, presence, returning, stranger, marks, leases } of nodes) {
    hash.update(JSON.stringify([nodeId, bootId, presence, returning, stranger, leases]));
    hash.update(marks.serialize());
  }
  const rest = [[...state.needReload].sort((a, b) => a - b), state.searchFrom, state.writer];
  return hash.update(JSON.stringify(rest)).digest('hex').slice(0, 12);
}
