import { createHash } from 'node:crypto';
import type { ReplicatedState } from '@dmlog/cluster';

/** Everything that members must agree on, as a short text: a few digits for each part, so that a difference tells where it is. Costs a look at each region. */
export function digestOf(state: ReplicatedState): string {
  const { inSync, stale, givenUp, work, clean, leased } = state;
  const nodes = [...state.nodes.values()].sort((a, b) => a.nodeId - b.nodeId);
  const parts = Object.entries({ inSync, stale, givenUp, work, clean, leased }).map(
    ([name, bitmap]) => `${name} ${short(bitmap.serialize())}`,
  );
  for (const { nodeId, bootId, presence, returning, stranger, marks, leases } of nodes) {
    const flags = `${presence}${Number(returning)}${Number(stranger)}`;
    parts.push(`node ${nodeId} ${short(bootId)} ${flags} marks ${short(marks.serialize())} leases ${leases}`);
  }
  const reloads = [...state.needReload].sort((a, b) => a - b);
  return [...parts, `reloads ${reloads}`, `from ${state.searchFrom}`, `writer ${state.writer}`].join(', ');
}

const short = (bytes: Uint8Array | string): string =>
  createHash('sha1').update(bytes).digest('hex').slice(0, 6);
