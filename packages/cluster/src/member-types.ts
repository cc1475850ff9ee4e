import type { Entry } from './entries.js';
import type { GroupMember } from './group/contract.js';
import type { Geometry } from './messages.js';
import type { ReplicatedState } from './state.js';
import type { History } from './state-copy.js';

/** Where a member stands. */
export type MemberPhase =
  /** The ring's members introduce themselves. */
  | 'introducing'
  /** It makes the first state. */
  | 'founding'
  /** It waits for a state, or for its place in the order. */
  | 'joining'
  /** It has the state and takes part. */
  | 'active'
  /** It was refused, or gave up. Nothing more will happen. */
  | 'out';

/** What a member tells its log; called while an event is handled. */
export interface MemberListener {
  /** Nobody has a state: make one and call `found`, soon or later. */
  found(): void;
  /**
   * What the log's mirror is to the group, told in the very message that makes this member take part: RESUMED, RECONNECTED, or nothing for a suspended one; and
   * MARK for what its kernel may be writing and `state` does not know.
   */
  presence(state: ReplicatedState): Entry[];
  /** The state can be used. */
  activated(how: Activation): void;
  /** An ordered change was applied; `ownNumber` is that of one's own message, else 0. */
  applied(ownNumber: number): void;
  /** What this member brings along when its history ends: the regions that its kernel may be writing, and those it may be recovering. */
  bringAlong(state: ReplicatedState): Entry[];
  /** The group does not let this member take part, or it must not: why. */
  refused(reason: string): void;
}

/** How a member came to its state. */
export interface Activation {
  /** The state is another object than before. */
  readonly replaced: boolean;
  /** It was made from what this member gave to `found`. */
  readonly founded: boolean;
  /** It is what this member had in an earlier life, or what became of that: all that was said then was heard, up to the moment when it left. */
  readonly resumed: boolean;
}

export interface MemberInit {
  readonly self: GroupMember;
  readonly nonce: number;
  readonly bootId: string;
  readonly geometry: Geometry;
  readonly listener: MemberListener;
  /** What an earlier member of this node, in this boot, had when it was out of the group; the member's from now on. */
  readonly former?: History | null;
}

/** Plain counters, never reset. */
export interface MemberCounters {
  sent: number;
  /** Messages that no member can make sense of. */
  unreadable: number;
  /** Messages of another ring: their sender sends them again. */
  otherRing: number;
  /** Messages with an entry that no log can have. */
  malformed: number;
  /** Messages of nodes that say they take part, and do not: repeated by a foreign program, or of another history in the same ring. */
  splits: number;
  snapshotsSent: number;
  snapshotsTaken: number;
  contributions: number;
}

export function newMemberCounters(): MemberCounters {
  return {
    sent: 0,
    unreadable: 0,
    otherRing: 0,
    malformed: 0,
    splits: 0,
    snapshotsSent: 0,
    snapshotsTaken: 0,
    contributions: 0,
  };
}
