/**
 * What a replicated log needs of a group of processes: one agreed order of messages and membership changes, virtual synchrony, and quorum.
 * Neither safe delivery nor merging is promised: those are the replicated log's own work (docs/cluster-protocol.md).
 *
 * Modelled on corosync's CPG (cpg_overview(8)); `corosyncGroup` and `SimulatedNetwork` implement it and run the same compliance suite.
 */

/** One process in the group. Not an incarnation: a later process may bear the same numbers. */
export interface GroupMember {
  /** Node id, 1..2^32-1. */
  readonly nodeId: number;
  readonly pid: number;
}

/** Why a member left. */
export const LeaveReason = {
  /** It left by itself. */
  LEAVE: 1,
  /** Its node is out of reach: crashed or cut off, nobody can tell which. */
  NODEDOWN: 2,
  /** Its process ended, or its group engine did; the node's kernel may still be at work. */
  PROCDOWN: 3,
} as const;
export type LeaveReason = (typeof LeaveReason)[keyof typeof LeaveReason];

/** Why a member joined. */
export const JoinReason = {
  /** It joined by itself. */
  JOIN: 1,
  /** Its node came into reach. Its state is unknown, and this process may be the one that was away. */
  NODEUP: 2,
} as const;
export type JoinReason = (typeof JoinReason)[keyof typeof JoinReason];

export interface LeftMember extends GroupMember {
  readonly reason: LeaveReason;
}

export interface JoinedMember extends GroupMember {
  readonly reason: JoinReason;
}

/** By so much a ring's seq exceeds the highest that one of its nodes has been in, as in corosync (totemsrp): where it is exactly that, none of them was in another one meanwhile. */
export const RING_SEQ_STEP = 4;

/** Identity of a ring: the nodes that can hear each other between two changes. Two sides of a partition have different ones. */
export interface RingId {
  /** Its representative. */
  readonly nodeId: number;
  /** Grows with every ring that a node takes part in; below 2^53. */
  readonly seq: number;
}

/**
 * Events of one group, delivered one after the other in the agreed order, never from inside a call of the group's own methods.
 *
 * At a join: a {@link confchg} with this process in `joined` comes first, then {@link ring}, then messages. At a change of the ring: `confchg` with those who
 * left (if any; seldom several of them, with different reasons), `confchg` with those who joined (if any), `ring`; no message in between. The same
 * (node, pid) may be in both: it, or this process, was away. A ring is announced with its quorum, before its first message. A new ring may have the
 * same nodes and members as the one before. A process' own departure is not shown to it.
 * An exception in a handler is a bug of the application and ends the process' group membership: it is reported by `died`.
 */
export interface GroupHandlers {
  /** A message, one's own ones too. `bytes` is valid until the handler returns. */
  deliver(sender: GroupMember, bytes: Uint8Array): void;
  /** `members` as of now, sorted by node id, then pid. Either `left` or `joined` is empty. */
  confchg(
    members: readonly GroupMember[],
    left: readonly LeftMember[],
    joined: readonly JoinedMember[],
  ): void;
  /** A new ring, or the same one whose quorum changed. `nodes`: every node of the ring, in the group or not, ascending. */
  ring(ring: RingId, nodes: readonly number[], quorate: boolean): void;
  /** {@link OrderedGroup.send} takes messages again after it returned false. */
  drain(): void;
  /** The group engine is gone, or this process was thrown out. Nothing follows. Join anew with another group object, as another member. */
  died(error: Error): void;
}

/** One membership of one group. One life: after `leave`, `close` or `died` it cannot be used again. */
export interface OrderedGroup {
  readonly self: GroupMember;
  /** Largest message, in bytes. */
  readonly maxMessageBytes: number;
  /**
   * Gives one message to the order; `bytes` is copied. False: the bounded queue of messages on their way is full, nothing was taken; wait for
   * `drain`. Messages of one sender keep their order. A message accepted while the ring changes may be delivered in a later ring, to all or to some
   * of its members, or (this process being cut off) to this side only; to this process in any case, while it lives and has not left.
   * Throws a RangeError for a message that is too large, and an error after `leave`, `close` or `died`.
   */
  send(bytes: Uint8Array): boolean;
  /** Resolves after the group was left, with its place in the order after all that was sent before, or when the engine is gone: no event follows it. */
  leave(): Promise<void>;
  /**
   * Ends without leaving, as a dying process does: others see PROCDOWN. No event follows. Safe at any time, twice too. Resolves when the engine knows, so that whoever
   * joins then comes after it in the order; or when it does not answer for a second. Never rejects.
   */
  close(): Promise<void>;
}

/**
 * Joins the group `name` (1 to 127 printable ASCII characters). No event comes before the promise is fulfilled. Rejects with an error that says what
 * to do when it cannot.
 */
export type JoinGroup = (name: string, handlers: GroupHandlers) => Promise<OrderedGroup>;
