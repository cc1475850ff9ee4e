import type { GroupMember, RingId } from './contract.js';

/** A process as the engines know it: a member of one group. Compared by value, as corosync does: pids recur. */
export interface Process extends GroupMember {
  readonly group: string;
}

export const EntryKind = {
  MESSAGE: 1,
  JOIN: 2,
  LEAVE: 3,
  PROCDOWN: 4,
  /** The place in a ring's order at which its nodes end their synchronisation and announce it: confchg (left), confchg (joined), ring. */
  ACTIVATE: 5,
} as const;
export type EntryKind = (typeof EntryKind)[keyof typeof EntryKind];

/** One place in the order of a ring. */
export interface Entry {
  readonly kind: EntryKind;
  /** Whose it is. For ACTIVATE: nobody's (node 0). */
  readonly process: Process;
  /** Of a MESSAGE. */
  readonly bytes: Uint8Array;
  /** The ring that the sender's node last announced when the message was accepted. */
  readonly acceptedIn: Ring | null;
  /** A message cut by a merge: only these nodes can put it together again. Null: all can. */
  onlyNodes: ReadonlySet<number> | null;
}

/** Entries that every node of a ring has behind it are thrown away in portions of this many. */
const TRIM_ENTRIES = 1024;

/**
 * Nodes that can hear each other, and the one order of what they send.
 *
 * Invariants: for every node, `delivered <= got <= length`; a node that sends has `got = length`; entries never change their place.
 */
export class Ring {
  readonly id: RingId;
  /** Ascending. */
  readonly nodes: readonly number[];
  /** For each node those that came with it from the same ring, itself included: totem's transitional configuration. */
  readonly companions: ReadonlyMap<number, ReadonlySet<number>>;
  /** What the nodes told each other while they synchronised: the processes of each, in no particular order of nodes. */
  readonly processes: readonly Process[];
  /**
   * Undefined: the ring is whole, the token goes round. Else it is broken, and the node that held the token at that moment may still send once;
   * null when it did, or when the token was lost on its way.
   */
  lastSender: number | null | undefined = undefined;

  /** Its token was lost though all can hear each other: it forms anew. */
  tokenLost = false;

  #entries: Entry[] = [];
  /** Place of the first entry that is still kept. */
  #base = 0;
  readonly #got = new Map<number, number>();
  readonly #delivered = new Map<number, number>();

  constructor(
    id: RingId,
    nodes: readonly number[],
    companions: ReadonlyMap<number, ReadonlySet<number>>,
    processes: readonly Process[],
  ) {
    this.id = id;
    this.nodes = nodes;
    this.companions = companions;
    this.processes = processes;
  }

  /** Places given so far. */
  get length(): number {
    return this.#base + this.#entries.length;
  }

  /** The node has received every entry below this place. */
  got(nodeId: number): number {
    return this.#got.get(nodeId) ?? 0;
  }

  /** The node has delivered every entry below this place. */
  delivered(nodeId: number): number {
    return this.#delivered.get(nodeId) ?? 0;
  }

  entry(place: number): Entry {
    return this.#entries[place - this.#base]!;
  }

  /** Gives `entry` its place. Its node holds the token, which it passes on only with everything that was sent before. */
  append(nodeId: number, entry: Entry): void {
    this.#entries.push(entry);
    this.#got.set(nodeId, this.length);
  }

  /** The node takes the next entry, to deliver it. */
  take(nodeId: number): Entry {
    const place = this.delivered(nodeId);
    this.#delivered.set(nodeId, place + 1);
    if (this.got(nodeId) < place + 1) this.#got.set(nodeId, place + 1);
    return this.entry(place);
  }

  /** What one node has received reaches another, which need not deliver it at once. */
  giveAll(nodeId: number): void {
    this.#got.set(nodeId, this.length);
  }

  /** Forgets what all of `nodeIds`, the nodes that are still in this ring, have delivered. */
  trim(nodeIds: readonly number[]): void {
    if (this.#entries.length < TRIM_ENTRIES) return;
    let least = this.length;
    for (const nodeId of nodeIds) least = Math.min(least, this.delivered(nodeId));
    if (least - this.#base < TRIM_ENTRIES) return;
    this.#entries = this.#entries.slice(least - this.#base);
    this.#base = least;
  }
}

export function sameProcess(a: Process, b: Process): boolean {
  return a.pid === b.pid && a.nodeId === b.nodeId && a.group === b.group;
}

/** Order of member lists: by node id, then pid. */
export function compareMembers(a: GroupMember, b: GroupMember): number {
  return a.nodeId - b.nodeId || a.pid - b.pid;
}
