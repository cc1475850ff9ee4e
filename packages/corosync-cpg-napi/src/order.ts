import type { EventSink } from './batch.js';
import type { CpgConfchg, CpgHandlers, CpgMember, CpgRing, CpgRingId } from './types.js';

/** Rings whose quorum is remembered. A ring's quorum is needed once; more than a few are never under way. */
const QUORUMS_MAX = 16;

export interface OrderHooks {
  /** Our own confchg is being handled. */
  joined(): void;
  /** A ring is being handled. */
  ringKnown(): void;
  /** We have seen ourselves leave: nothing may follow. */
  left(): void;
}

const NO_RING: CpgRingId = { nodeId: 0, seq: 0 };
const sameRing = (a: CpgRingId, b: CpgRingId): boolean => a.nodeId === b.nodeId && a.seq === b.seq;

/**
 * Brings two unordered sources, the group's events and quorum, into the one order that {@link CpgHandlers} promises. Pure.
 *
 * A ring is held back until its quorum is known. That takes no time worth naming, since corosync announces it before the ring's first message,
 * and the addon drains quorum after it took events. So whatever comes while a ring is still held proves that its quorum will not come any more (the ring
 * was overtaken by the next): then it passes as not quorate.
 *
 * Rings that come before our own confchg (corosync sends them to handles that have not joined) are kept, not told.
 */
export class EventOrder implements EventSink {
  readonly #handlers: CpgHandlers;
  readonly #hooks: OrderHooks;
  readonly #self: () => CpgMember;
  #quorumTracked: boolean;
  #joined = false;
  #ring: CpgRing | undefined;
  #held: CpgRing | undefined;
  #quorums: CpgRing[] = [];

  constructor(handlers: CpgHandlers, hooks: OrderHooks, self: () => CpgMember, quorumTracked: boolean) {
    this.#handlers = handlers;
    this.#hooks = hooks;
    this.#self = self;
    this.#quorumTracked = quorumTracked;
  }

  /** The last ring told. */
  get currentRing(): CpgRing | undefined {
    return this.#ring;
  }

  get joined(): boolean {
    return this.#joined;
  }

  /** Corosync has no quorum provider: rings need not wait. */
  untrackQuorum(): void {
    this.#quorumTracked = false;
  }

  quorum(quorum: CpgRing): void {
    this.#quorums = this.#quorums.filter((known) => !sameRing(known, quorum)).slice(1 - QUORUMS_MAX);
    this.#quorums.push(quorum);
    const ring = this.#ring;
    if (ring === undefined || !sameRing(ring, quorum) || ring.quorate === quorum.quorate) return;
    this.#ring = { ...ring, quorate: quorum.quorate };
    // A ring that is held has overtaken this change.
    if (this.#held === undefined) this.#handlers.quorum?.(this.#ring);
  }

  message(nodeId: number, pid: number, bytes: Buffer): void {
    this.#handlers.deliver(nodeId, pid, bytes);
  }

  confchg(change: CpgConfchg): void {
    const self = this.#self();
    const isSelf = (member: CpgMember): boolean => member.nodeId === self.nodeId && member.pid === self.pid;
    if (!this.#joined) {
      if (!change.joined.some(isSelf)) return;
      this.#joined = true;
      this.#hooks.joined();
    }
    try {
      this.#handlers.confchg?.(change);
    } finally {
      if (change.left.some(isSelf)) this.#hooks.left();
    }
  }

  ring(ring: CpgRing): void {
    const held = this.#held;
    // Told to a handle that has not joined, and again at its join.
    if (sameRing(held ?? this.#ring ?? NO_RING, ring)) return;
    this.#held = ring;
    if (held !== undefined && this.#joined) this.#tell(held);
  }

  settle(eventFollows: boolean): void {
    const held = this.#held;
    if (held === undefined || !this.#joined || !(eventFollows || this.#isQuorumKnown(held))) return;
    this.#held = undefined;
    this.#tell(held);
  }

  batchEnd(): void {
    if (this.#joined) this.#handlers.batchEnd?.();
  }

  #isQuorumKnown(ring: CpgRing): boolean {
    return (
      !this.#quorumTracked || this.#quorums.some((known) => sameRing(known, ring) || known.seq > ring.seq)
    );
  }

  #tell(ring: CpgRing): void {
    const quorum = this.#quorums.find((known) => sameRing(known, ring));
    this.#ring = { ...ring, quorate: this.#quorumTracked ? (quorum?.quorate ?? false) : undefined };
    this.#hooks.ringKnown();
    this.#handlers.ring?.(this.#ring);
  }
}
