import type {
  GroupHandlers,
  GroupMember,
  JoinedMember,
  JoinGroup,
  LeftMember,
  OrderedGroup,
  RingId,
} from '@dmlog/cluster';

/** What a membership tells, one after the other: `joined` first, nothing after `lost` or after it was left or closed. */
export interface MembershipEvents {
  joined(self: GroupMember): void;
  confchg(
    members: readonly GroupMember[],
    left: readonly LeftMember[],
    joined: readonly JoinedMember[],
  ): void;
  ring(ring: RingId, nodes: readonly number[], quorate: boolean): void;
  deliver(sender: GroupMember, bytes: Uint8Array): void;
  /** The group could not be joined, or its engine is gone. */
  lost(error: Error): void;
}

/**
 * One life in a group, from the wish to join to the end. Events that come before the caller knows who it is wait; so do messages while the group's bounded
 * queue is full.
 */
export class Membership {
  /** Fulfilled when this process is certainly not in the group by this membership. */
  readonly over: Promise<void>;
  readonly #events: MembershipEvents;
  #group: OrderedGroup | null = null;
  #early: (() => void)[] | null = [];
  #waiting: Uint8Array[] = [];
  #ended = false;
  #markOver: () => void = () => {};

  /** Joins when `after` is fulfilled: one process is in a group once. */
  constructor(name: string, join: JoinGroup, after: Promise<void>, events: MembershipEvents) {
    this.#events = events;
    this.over = new Promise((resolve) => {
      this.#markOver = resolve;
    });
    after
      .then(() => (this.#ended ? null : join(name, this.#handlers())))
      .then(
        (group) => this.#begin(group),
        (error: unknown) => this.#lost(error instanceof Error ? error : new Error(String(error))),
      );
  }

  /** Messages that the group has not taken yet. */
  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Gives messages to the group, in order. They are the membership's from now on. */
  send(messages: readonly Uint8Array[]): void {
    for (const message of messages) this.#waiting.push(message);
    this.#flush();
  }

  /** No event follows. What still waits is not sent. */
  leave(): void {
    if (this.#ended) return;
    this.#end();
    // Not joined yet: `#begin` leaves.
    this.#group?.leave().then(this.#markOver, this.#markOver);
  }

  /** Ends as a dying process does: others see PROCDOWN. No event follows. Resolves when the group's engine knows: whoever joins then comes after it. */
  async close(): Promise<void> {
    if (this.#ended) return;
    this.#end();
    const group = this.#group;
    // Not joined yet: `#begin` leaves.
    if (group === null) return this.over;
    const known = group.close();
    this.#markOver();
    await known;
  }

  #handlers(): GroupHandlers {
    return {
      deliver: (sender, bytes) => {
        // Views end with the event; what is kept is copied.
        const kept = this.#early === null ? bytes : bytes.slice();
        this.#tell(() => this.#events.deliver(sender, kept));
      },
      confchg: (members, left, joined) => this.#tell(() => this.#events.confchg(members, left, joined)),
      ring: (ring, nodes, quorate) => this.#tell(() => this.#events.ring(ring, nodes, quorate)),
      drain: () => this.#flush(),
      died: (error) => this.#lost(error),
    };
  }

  #begin(group: OrderedGroup | null): void {
    this.#group = group;
    if (group === null) return this.#markOver();
    if (this.#ended) {
      group.leave().then(this.#markOver, this.#markOver);
      return;
    }
    this.#events.joined(group.self);
    const early = this.#early ?? [];
    this.#early = null;
    for (const event of early) this.#tell(event);
    this.#flush();
  }

  #tell(event: () => void): void {
    if (this.#ended) return;
    if (this.#early === null) event();
    else this.#early.push(event);
  }

  #flush(): void {
    const group = this.#group;
    if (group === null || this.#ended) return;
    let sent = 0;
    try {
      while (sent < this.#waiting.length && group.send(this.#waiting[sent] as Uint8Array)) sent++;
    } catch (error) {
      void group.close();
      this.#lost(error as Error);
      return;
    }
    this.#waiting.splice(0, sent);
  }

  #lost(error: Error): void {
    this.#markOver();
    if (this.#ended) return;
    this.#end();
    this.#events.lost(error);
  }

  #end(): void {
    this.#ended = true;
    this.#waiting = [];
    this.#early = [];
  }
}
