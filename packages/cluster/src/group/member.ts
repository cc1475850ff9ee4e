import type {
  GroupHandlers,
  GroupMember,
  JoinedMember,
  LeftMember,
  OrderedGroup,
  RingId,
} from './contract.js';
import type { SimulationCounters } from './counters.js';
import type { Process } from './ring.js';

/** What a member's engine has for it, in order. */
export type MemberEvent =
  | { readonly kind: 'message'; readonly sender: GroupMember; readonly bytes: Uint8Array }
  | {
      readonly kind: 'confchg';
      readonly members: readonly GroupMember[];
      readonly left: readonly LeftMember[];
      readonly joined: readonly JoinedMember[];
    }
  | {
      readonly kind: 'ring';
      readonly ring: RingId;
      readonly nodes: readonly number[];
      readonly quorate: boolean;
    }
  | { readonly kind: 'left' }
  | { readonly kind: 'died'; readonly error: Error };

/** `joining` until its own confchg was handed to it; `leaving` from {@link SimulatedMember.leave} until it was left; `ended` after that, or close, or death. */
export type MemberState = 'joining' | 'joined' | 'leaving' | 'ended';

/** What a member needs of its node's engine. */
export interface MemberPort {
  send(member: SimulatedMember, bytes: Uint8Array): void;
  leave(member: SimulatedMember): void;
  /** The process is gone; its engine finds out at once. */
  gone(member: SimulatedMember): void;
}

export interface MemberLimits {
  readonly maxMessageBytes: number;
  /** Own messages that were accepted and not yet delivered here: with this many, `send` refuses; with half of them, `drain` follows. */
  readonly undeliveredMax: number;
}

/** One process' membership in a simulated group. It learns nothing by itself: {@link read} hands it one event. */
export class SimulatedMember implements OrderedGroup {
  readonly process: Process;
  /** It does not read its events; nobody else notices. */
  paused = false;
  /** Its engine announced its own JOIN to it. Until then it sees nothing of the group. */
  admitted = false;

  readonly #handlers: GroupHandlers;
  readonly #port: MemberPort;
  readonly #limits: MemberLimits;
  readonly #counters: SimulationCounters;
  #state: MemberState = 'joining';
  #events: MemberEvent[] = [];
  #next = 0;
  #undelivered = 0;
  #wantsDrain = false;
  #resolveLeft: (() => void) | null = null;
  #left: Promise<void> | null = null;

  constructor(
    process: Process,
    handlers: GroupHandlers,
    port: MemberPort,
    limits: MemberLimits,
    counters: SimulationCounters,
  ) {
    this.process = process;
    this.#handlers = handlers;
    this.#port = port;
    this.#limits = limits;
    this.#counters = counters;
  }

  get self(): GroupMember {
    return { nodeId: this.process.nodeId, pid: this.process.pid };
  }

  get maxMessageBytes(): number {
    return this.#limits.maxMessageBytes;
  }

  get state(): MemberState {
    return this.#state;
  }

  /** Events that its engine has and it has not read. */
  get lag(): number {
    return this.#events.length - this.#next;
  }

  /** Own messages under way. */
  get undelivered(): number {
    return this.#undelivered;
  }

  send(bytes: Uint8Array): boolean {
    if (this.#state === 'ended' || this.#state === 'leaving')
      throw new Error('this group was left or closed');
    if (bytes.length > this.#limits.maxMessageBytes) {
      throw new RangeError(`message of ${bytes.length} bytes: ${this.#limits.maxMessageBytes} at most`);
    }
    if (this.#undelivered >= this.#limits.undeliveredMax) {
      this.#wantsDrain = true;
      this.#counters.refusedSends++;
      return false;
    }
    this.#undelivered++;
    this.#port.send(this, bytes.slice());
    return true;
  }

  leave(): Promise<void> {
    if (this.#left !== null) return this.#left;
    if (this.#state === 'ended') return Promise.resolve();
    this.#left = new Promise((resolve) => {
      this.#resolveLeft = resolve;
    });
    this.#state = 'leaving';
    this.#port.leave(this);
    return this.#left;
  }

  /** Leaves, and sees nothing more from now on; the others see the LEAVE at its place in the order. */
  leaveNow(): void {
    void this.leave();
    this.end();
  }

  async close(): Promise<void> {
    if (this.#state === 'ended') return;
    this.end();
    this.#port.gone(this);
  }

  /** For the engine: one more event. */
  push(event: MemberEvent): void {
    if (this.#state === 'ended') return;
    this.#events.push(event);
    this.#counters.lagMax = Math.max(this.#counters.lagMax, this.lag);
  }

  /** For the engine: it died. What it had for this member is lost. */
  engineDied(error: Error): void {
    if (this.#state === 'leaving') return this.end();
    this.#events.length = this.#next;
    this.push({ kind: 'died', error });
  }

  /** Nothing more happens to it. */
  end(): void {
    this.#state = 'ended';
    this.#events = [];
    this.#next = 0;
    this.#resolveLeft?.();
    this.#resolveLeft = null;
  }

  /** {@link read} has something to hand over. */
  get readable(): boolean {
    return !this.paused && this.#state !== 'ended' && (this.lag > 0 || this.#drainDue);
  }

  get #drainDue(): boolean {
    return (
      this.#wantsDrain && this.#undelivered <= this.#limits.undeliveredMax >> 1 && this.#state === 'joined'
    );
  }

  /** Hands over one event. An exception of the handler ends the membership, as it ends a process. */
  read(): void {
    this.#counters.events++;
    try {
      this.#read();
    } catch (thrown) {
      if (this.#state === 'ended') return;
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      void this.close();
      this.#handlers.died(error);
    }
  }

  #read(): void {
    if (this.#drainDue) {
      this.#wantsDrain = false;
      this.#counters.drains++;
      this.#handlers.drain();
      return;
    }
    const event = this.#events[this.#next++]!;
    if (this.#next > 256 && this.#next * 2 > this.#events.length) {
      this.#events = this.#events.slice(this.#next);
      this.#next = 0;
    }
    switch (event.kind) {
      case 'message':
        return this.#deliver(event.sender, event.bytes);
      case 'confchg':
        if (this.#state === 'joining') this.#state = 'joined';
        return this.#handlers.confchg(event.members, event.left, event.joined);
      case 'ring':
        return this.#handlers.ring(event.ring, event.nodes, event.quorate);
      case 'left':
        return this.end();
      case 'died':
        if (this.#state === 'leaving') return this.end();
        this.end();
        return this.#handlers.died(event.error);
    }
  }

  #deliver(sender: GroupMember, bytes: Uint8Array): void {
    if (sender.nodeId === this.process.nodeId && sender.pid === this.process.pid) this.#undelivered--;
    // The bytes are valid during the call only; whoever keeps them shall notice.
    const borrowed = bytes.slice();
    this.#handlers.deliver(sender, borrowed);
    borrowed.fill(0xee);
  }
}
