/** One process in the group. Not an incarnation: pids recur, and a restarted node may repeat them. */
export interface CpgMember {
  /** 1..2^32-1 */
  readonly nodeId: number;
  readonly pid: number;
}

/** Why a member is in `left` or `joined` (`cpg_reason_t`). */
export const CpgReason = {
  /** It joined by itself. */
  JOIN: 1,
  /** It left by itself. */
  LEAVE: 2,
  /** Its node is out of reach: crashed or cut off, nobody can tell which. */
  NODEDOWN: 3,
  /** Its node came into reach. Its state is unknown, and this process may be the one that was away. */
  NODEUP: 4,
  /** Its process ended or closed the group without leaving, or its corosync was stopped. */
  PROCDOWN: 5,
} as const;
export type CpgReason = (typeof CpgReason)[keyof typeof CpgReason];

export interface CpgChange extends CpgMember {
  readonly reason: CpgReason;
}

/** A change of the membership, at one place in the order of messages. */
export interface CpgConfchg {
  /** As of now, sorted by node id, then pid. */
  readonly members: readonly CpgMember[];
  /** Either this or `joined` is empty. */
  readonly left: readonly CpgChange[];
  /** At one's own join: oneself. Not sorted. */
  readonly joined: readonly CpgChange[];
}

/** Identity of a ring. Two sides of a partition have different ones. */
export interface CpgRingId {
  /** Its representative. */
  readonly nodeId: number;
  /** Grows with every ring that a node takes part in; below 2^53. */
  readonly seq: number;
}

/** The nodes that hear each other between two changes, whether they have members of the group or not. */
export interface CpgRing extends CpgRingId {
  /** Ascending. */
  readonly nodes: readonly number[];
  /**
   * Whether this ring has quorum. Undefined where that cannot be known: `quorum: false`, or corosync.conf names no quorum provider. False for a ring that
   * ended before its quorum was announced.
   */
  readonly quorate: boolean | undefined;
}

/**
 * Events of one group, one after the other, never from inside a call of a method.
 *
 * The first one is the {@link confchg} with this process in `joined`, the second a {@link ring}. At a change of the ring: `confchg` with those who left (if
 * any), `confchg` with those who joined (if any), `ring`; no message in between. A ring is announced together with its quorum, before its first message.
 *
 * An exception in a handler becomes an `uncaughtException`; a process that survives it goes on with the next event.
 */
export interface CpgHandlers {
  /** A message, one's own ones too. `bytes` is a view into its batch: it stays valid, but while it is kept, so is the batch (up to 2 MiB). */
  deliver(nodeId: number, pid: number, bytes: Buffer): void;
  confchg?(change: CpgConfchg): void;
  /** A new ring. */
  ring?(ring: CpgRing): void;
  /** `quorate` of the current ring has changed; `ring` is its new value. */
  quorum?(ring: CpgRing): void;
  /** After the last event of each batch: the place to send what the batch brought about. */
  batchEnd?(): void;
  /** {@link CpgGroup.send} takes messages again after it returned false. */
  drain?(): void;
  /** Corosync is gone, or threw this process out. Nothing follows. Events that were not delivered are lost; join anew with another group object. */
  died(error: Error): void;
}

export interface CpgStats {
  /** Messages taken by `send` and not yet delivered to ourselves, with those queued. */
  readonly inFlightMessages: number;
  readonly inFlightBytes: number;
  /** Of these: not yet taken by corosync. */
  readonly queuedMessages: number;
  readonly queuedBytes: number;
  /** Taken by corosync. */
  readonly sentMessages: number;
  readonly sentBytes: number;
  readonly deliveredMessages: number;
  readonly deliveredBytes: number;
  /** Calls into JavaScript with events. */
  readonly batches: number;
  /** How often corosync did not take a message at once. */
  readonly tryAgains: number;
}
