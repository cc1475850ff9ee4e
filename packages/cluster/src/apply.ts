import { BOOT_ID_WORDS, bootIdText, type Entry, EntryType, forRuns } from './entries.js';
import { type NodeState, Presence, type ReplicatedState } from './state.js';

/**
 * Applies the entries of one message from node `nodeId` and moves the position on by one. `body` is the message's payload, for the digest. What
 * a node says that is not (or no longer) among the nodes has no effect: all members see it alike.
 */
export function applyEntries(
  state: ReplicatedState,
  nodeId: number,
  entries: readonly Entry[],
  body: Uint8Array,
): void {
  state.position++;
  state.hash.mix(nodeId);
  state.hash.mixBytes(body);
  for (const { type, words } of entries) applyEntry(state, nodeId, type, words);
}

function applyEntry(state: ReplicatedState, nodeId: number, type: EntryType, words: Uint32Array): void {
  switch (type) {
    case EntryType.READY: {
      const bootId = bootIdText(words);
      const stranger = state.nodes.get(nodeId)?.bootId !== bootId;
      return state.ready(state.meet(nodeId, bootId), stranger);
    }
    case EntryType.BROUGHT_MARKS: {
      const node = state.meet(nodeId, bootIdText(words), true);
      forRuns(words.subarray(BOOT_ID_WORDS), (region) => state.bringMark(node, region));
      return state.broughtAll();
    }
    case EntryType.BROUGHT_DOUBTS:
      state.meet(nodeId, bootIdText(words), true);
      forRuns(words.subarray(BOOT_ID_WORDS), (region) => state.bringDoubt(region));
      return state.broughtAll();
    case EntryType.BROUGHT_GIVEN_UP:
      state.meet(nodeId, bootIdText(words), true);
      forRuns(words.subarray(BOOT_ID_WORDS), (region) => state.bringGivenUp(region));
      return state.broughtAll();
    case EntryType.BROUGHT_BELIEFS:
      state.meet(nodeId, bootIdText(words), true);
      forRuns(words.subarray(BOOT_ID_WORDS), (region) => state.bringBelief(region));
      return state.broughtAll();
    case EntryType.BROUGHT_OTHERS: {
      // A participant knows its own marks better than any history does.
      const known = state.nodes.get(words[0] as number);
      const speaksForItself =
        known !== undefined &&
        known.presence !== Presence.ABSENT &&
        known.bootId === bootIdText(words.subarray(1));
      if (!speaksForItself) {
        forRuns(words.subarray(1 + BOOT_ID_WORDS), (region) => state.bringDoubt(region));
      }
      return state.broughtAll();
    }
    case EntryType.WROTE_LATE:
      return state.watcher.wroteLate();
    case EntryType.FOUND_DIRTY:
      forRuns(words, (region) => state.foundDirty(region));
      return state.broughtAll();
    default: {
      const node = state.nodes.get(nodeId);
      if (node !== undefined) applyOfMember(state, node, type, words);
    }
  }
}

function applyOfMember(state: ReplicatedState, node: NodeState, type: EntryType, words: Uint32Array): void {
  switch (type) {
    case EntryType.MARK:
      return state.mark(node, words);
    case EntryType.UNMARK:
      return state.unmark(node, words);
    case EntryType.SYNCED:
      return state.synced(node, words);
    case EntryType.FAILED:
      return state.failed(node, words);
    case EntryType.LEASE:
      return state.lease(node, words[0] as number, (words[1] as number) - 1);
    case EntryType.RELEASE:
      return state.release(node);
    case EntryType.RESUMED:
      return state.resumed(node);
    case EntryType.SUSPENDED:
      return state.suspended(node, words[0] === 1);
    case EntryType.HANDOVER:
      return state.handOver(node);
    case EntryType.RECONNECTED:
      if (words[0] === 1) state.markAll(node);
      return state.reconnected(node);
  }
}
