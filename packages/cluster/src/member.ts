import type { RegionBitmap } from '@dmlog/bitmap';
import { applyEntries } from './apply.js';
import { ChainHash } from './chain-hash.js';
import {
  decide,
  enterRing,
  geometryProblem,
  type Introduced,
  isComplete,
  leaveState,
  someoneIsImpatient,
} from './decide.js';
import {
  bootIdWords,
  decodeEntries,
  type Entry,
  EntryType,
  encodeEntries,
  entry,
  packEntries,
} from './entries.js';
import { Evidence } from './evidence.js';
import {
  type GroupMember,
  type JoinedMember,
  LeaveReason,
  type LeftMember,
  type RingId,
} from './group/contract.js';
import type { Activation, MemberInit, MemberListener, MemberPhase } from './member-types.js';
import { newMemberCounters } from './member-types.js';
import {
  decodeHello,
  decodeMessage,
  decodePositions,
  encodeHello,
  encodePositions,
  type Hello,
  type Message,
  MessageKind,
  NO_POSITIONS,
  type Positions,
  type StateIdentity,
  sameRing,
  Unreadable,
} from './messages.js';
import { Outgoing } from './outgoing.js';
import { Presence, ReplicatedState } from './state.js';
import type { History } from './state-copy.js';
import { type Arrived, Transfers } from './transfers.js';

const NO_RING: RingId = { nodeId: 0, seq: 0 };

/**
 * One member of a replicated log as a pure state machine: events of the group in, messages out. Keeps all members' states equal over every change of the
 * group: rounds of hellos, snapshots for joiners, histories that meet again (docs/cluster-protocol.md).
 *
 * Whoever drives it passes the events of `GroupHandlers` on, then sends what {@link takeOutbox} returns, in order.
 */
export class Member {
  readonly counters = newMemberCounters();
  readonly self: GroupMember;
  readonly #init: MemberInit;
  readonly #listener: MemberListener;
  readonly #transfers: Transfers;
  #phase: MemberPhase = 'introducing';
  #state: ReplicatedState | null = null;
  #agreedRing: RingId = NO_RING;
  #ring: RingId = NO_RING;
  #ringNodes: readonly number[] = [];
  #quorate = false;
  #members: readonly GroupMember[] = [];
  readonly #hellos = new Map<number, Introduced>();
  readonly #gone = new Map<number, number>();
  /** Messages of this ring that came before the decision. */
  #early: { nodeId: number; message: Message }[] = [];
  readonly #outgoing: Outgoing;
  readonly #evidence = new Evidence();
  /** What `found` was given, while the members have not agreed that it is wanted. */
  #foundation: { readonly inSync: RegionBitmap | null } | null = null;
  #owesPosition = false;
  /** What an earlier member had, until it is known what became of it. */
  #former: History | null;
  /** It is part of the history that has arrived. */
  #resumes = false;
  /** Nodes of rings with quorum in which this member was since the state was agreed on, and in which it had not come to a decision when they ended. */
  readonly #undecidedWith = new Set<number>();
  /** This ring was announced with quorum, now or at any time. */
  #ringHadQuorum = false;
  /** The state would go on, if those came who may have gone on with it. */
  #waits = false;
  #impatient = false;
  /** This member was there when the ring began, so that it has heard of everybody who takes part in it. */
  #sawRingBegin = false;
  #othersTakePart = false;
  /** What this member brings along from the history that it gave up, and the ring in which it said so. */
  #bringing: { readonly entries: readonly Entry[]; ring: RingId } | null = null;

  constructor(init: MemberInit) {
    this.self = init.self;
    this.#init = init;
    this.#former = init.former ?? null;
    this.#recall();
    this.#listener = init.listener;
    this.#outgoing = new Outgoing(init.nonce, this.counters);
    this.#transfers = new Transfers(init.self.nodeId, init.nonce, (kind, payload) =>
      this.#emit(kind, payload),
    );
  }

  get phase(): MemberPhase {
    return this.#phase;
  }

  get ring(): RingId {
    return this.#ring;
  }

  get quorate(): boolean {
    return this.#quorate;
  }

  /** Takes part in a ring with quorum: changes of the state can be asked for and answered. */
  get operational(): boolean {
    return this.#phase === 'active' && this.#quorate;
  }

  /** Null before there is one. While the phase is not `active` it may lag behind. */
  get state(): ReplicatedState | null {
    return this.#state;
  }

  get agreedRing(): RingId {
    return this.#agreedRing;
  }

  /** The state that this member last took part with; null if it has had none. */
  get history(): History | null {
    const agreedRing = this.#agreedRing;
    const own = this.#phase === 'active' || this.#phase === 'introducing';
    return own && this.#state !== null ? { state: this.#state, agreedRing } : this.#former;
  }

  /**
   * It waits for others: for a hello of a member that says nothing, or for those who may have gone on with its state while it was out of touch. See {@link stopWaiting}.
   */
  get waits(): boolean {
    return this.#waits;
  }

  /**
   * Goes on without them, as soon as all have heard of that. A member that said nothing will have to join again. Where those are missed who may have gone on, nothing is believed
   * any more, and every table has to be reloaded.
   */
  stopWaiting(): void {
    if (!this.#waits || this.#impatient || this.#othersTakePart) return;
    this.#impatient = true;
    this.#sayHello();
  }

  /** The participant that keeps the disk image; 0 while there is none. */
  get writer(): number {
    return this.#state?.writer ?? 0;
  }

  /** The member whose snapshot is on its way to this one; 0 while there is none. */
  get donor(): number {
    return this.#transfers.donor;
  }

  /** What the image has for certain. */
  get disk(): Positions {
    return this.#evidence.disk;
  }

  /**
   * Changes that were ordered up to here survive this member's end (design rule 14): another one has applied them, if there is one in the group (a joiner will,
   * soon), and a disk log's image has their marks.
   */
  get committed(): number {
    return this.#evidence.committed(this.#members.length <= 1, this.#init.geometry.kind === 'disk');
  }

  /** Puts changes in order; returns the number of the last one. They are kept until they were applied, over any change of the ring. */
  submit(entries: readonly Entry[]): number {
    const messages = this.#outgoing.number(entries);
    if (this.#phase === 'active') for (const bytes of messages) this.#send(bytes);
    return this.#outgoing.lastNumber;
  }

  /** Messages that go out, oldest first; they are the caller's. */
  takeOutbox(): Uint8Array[] {
    // Alone there is nobody to tell; who joins later is told when it is ready.
    if (this.#owesPosition && this.#phase === 'active' && this.#members.length > 1) this.#statePosition();
    this.#owesPosition = false;
    return this.#outgoing.take();
  }

  /** The writer's image has what was ordered up to these positions: tells the others. */
  wroteDisk(positions: Positions): void {
    this.#evidence.ownDisk = positions;
    this.#evidence.disk = positions;
    this.#owesPosition = true;
  }

  /** Answers `found`: the first state of the log; null: nothing is in sync. Taken as soon as the members agree that it is wanted. */
  found(inSync: RegionBitmap | null): void {
    if (this.#phase !== 'founding') return;
    this.#foundation = { inSync };
    this.#decide();
  }

  /** Applied by the founder alone: joiners get it with their snapshot. */
  #begin(inSync: RegionBitmap | null): void {
    const state = new ReplicatedState(this.#init.geometry.regionCount);
    if (inSync !== null) state.begin(inSync);
    state.begins([this.#init.nonce]);
    state.position = 1;
    this.#state = state;
    this.#foundation = null;
    this.#agreedRing = this.#ring;
    this.#phase = 'active';
    this.#expect(new Set([this.self.nodeId]));
    state.ready(state.meet(this.self.nodeId, this.#init.bootId));
    this.#activated({ replaced: true, founded: true, resumed: false });
    const presence = this.#listener.presence(state);
    if (presence.length > 0) this.submit(presence);
    this.#offerSnapshots();
  }

  // Events of the group

  confchg(
    members: readonly GroupMember[],
    left: readonly LeftMember[],
    joined: readonly JoinedMember[],
  ): void {
    this.#members = members;
    for (const { nodeId, reason } of left) {
      // The ring has changed, and whether the new one has quorum comes with its announcement: until then nothing counts as committed.
      if (reason === LeaveReason.NODEDOWN) this.#quorate = false;
      this.#hellos.delete(nodeId);
      this.#evidence.drop(nodeId);
      this.#transfers.left(nodeId);
      const joins = this.#phase === 'joining';
      // A process that left is a change like any other, in its place in the order; a node that is out of reach changes the ring.
      if (reason !== LeaveReason.NODEDOWN && this.#takesChanges) this.#applyLeave(nodeId, reason);
      else if (reason !== LeaveReason.NODEDOWN && joins) this.#transfers.keepLeave(nodeId, reason);
      else if (this.#gone.get(nodeId) !== LeaveReason.NODEDOWN) this.#gone.set(nodeId, reason);
    }
    if (this.#phase === 'active') {
      if (left.length > 0) this.#offerSnapshots();
      return;
    }
    if (this.#phase === 'out' || this.#ring === NO_RING || this.#takesChanges) return;
    // Those who have no state introduce themselves again at every change, and begin to count there: so all of them, the newest too, know the same hellos in the
    // same order. Only who waits for a snapshot need not know of joiners: somebody has a state.
    const { isExpecting } = this.#transfers;
    if (left.length === 0 && (joined.length === 0 || isExpecting)) return;
    if (!isExpecting && this.#former !== null) {
      this.#phase = 'introducing';
      this.#recall();
    }
    this.#introduce();
  }

  ringChanged(ring: RingId, nodes: readonly number[], quorate: boolean): void {
    const ringNodesBefore = this.#ringNodes;
    this.#quorate = quorate;
    this.#ringNodes = nodes;
    if (this.#phase === 'out') return;
    if (sameRing(ring, this.#ring)) {
      this.#ringHadQuorum ||= quorate;
      if (this.#phase === 'introducing') this.#decide();
      return;
    }
    if (this.#ringHadQuorum && !sameRing(this.#ring, this.#agreedRing))
      for (const nodeId of ringNodesBefore) this.#undecidedWith.add(nodeId);
    this.#ringHadQuorum = quorate;
    this.#sawRingBegin = !sameRing(this.#ring, NO_RING);
    this.#othersTakePart = false;
    this.#ring = ring;
    this.#evidence.dropAll();
    this.#early = [];
    if (this.#phase !== 'active' && this.#phase !== 'introducing') this.#state = null;
    this.#phase = 'introducing';
    this.#recall();
    this.#foundation = null;
    this.#transfers.reset();
    this.#introduce();
  }

  deliver(sender: GroupMember, bytes: Uint8Array): void {
    if (this.#phase === 'out') return;
    const message = decodeMessage(bytes);
    if (typeof message === 'string') return this.#unreadable(sender, message);
    if (!sameRing(message.ring, this.#ring)) {
      this.counters.otherRing++;
      return;
    }
    if (message.position > 0 && sender.nodeId !== this.self.nodeId) this.#othersTakePart = true;
    if (this.#phase === 'active' && message.position > 0 && sender.nodeId !== this.self.nodeId) {
      // Who takes part has said READY before, or decided with the others: others' positions would vouch for marks that nobody has.
      const presence = this.#state?.nodes.get(sender.nodeId)?.presence ?? Presence.ABSENT;
      if (presence === Presence.ABSENT) this.counters.splits++;
      else this.#evidence.state(sender.nodeId, message.position);
    }
    this.#dispatch(sender.nodeId, message);
  }

  #dispatch(nodeId: number, message: Message): void {
    switch (message.kind) {
      case MessageKind.HELLO:
        return this.#hello(nodeId, message);
      case MessageKind.ENTRIES:
        return this.#entries(nodeId, message);
      case MessageKind.POSITIONS:
        return this.#positions(nodeId, message);
      case MessageKind.SNAPSHOT_BEGIN:
        return this.#snapshotBegins(nodeId, message);
      case MessageKind.SNAPSHOT:
        return this.#snapshotArrives(nodeId, message);
      case MessageKind.REFUSAL: {
        const reason = this.#transfers.refusal(message.payload);
        if (reason !== null) this.#refuse(reason);
      }
    }
  }

  #unreadable(sender: GroupMember, why: Unreadable): void {
    this.counters.unreadable++;
    if (why !== Unreadable.NEWER || this.#state?.nodes.get(sender.nodeId) === undefined) return;
    this.#refuse(`node ${sender.nodeId} speaks a newer version of the protocol: upgrade this daemon`);
  }

  // Hellos

  #introduce(): void {
    this.#hellos.clear();
    // What others have said since is of a history that they began without this member.
    this.#early = [];
    this.#waits = false;
    this.#impatient = false;
    this.#sayHello();
  }

  #sayHello(): void {
    const state = this.#phase === 'introducing' ? this.#state : null;
    const identity: StateIdentity | null =
      state === null
        ? null
        : {
            agreedRing: this.#agreedRing,
            position: state.position,
            hashHigh: state.hash.high,
            hashLow: state.hash.low,
          };
    const { bootId, geometry } = this.#init;
    const others = state === null ? [] : this.#others();
    const suspects = others.filter((nodeId) => this.#undecidedWith.has(nodeId));
    const hello: Hello = {
      bootId,
      geometry,
      audience: audienceOf(this.#members),
      state: identity,
      gone: state === null ? new Map<number, number>() : this.#gone,
      needs: [...suspects, ...others.filter((nodeId) => !suspects.includes(nodeId))],
      suspects,
      impatient: this.#impatient,
      wasOut: state !== null && this.#former !== null,
    };
    this.#emit(MessageKind.HELLO, encodeHello(hello));
  }

  #hello(nodeId: number, message: Message): void {
    const hello = decodeHello(message.payload);
    if (hello === null) {
      this.counters.malformed++;
      return;
    }
    if (hello.audience === audienceOf(this.#members))
      this.#hellos.set(nodeId, { hello, nonce: message.nonce });
    if (nodeId !== this.self.nodeId) this.#noteWaiting(nodeId, message.nonce, hello);
    this.#decide();
  }

  /** Somebody has come for a state. Those who join note that, too: they may be the donor when it is their turn. */
  #noteWaiting(nodeId: number, nonce: number, hello: Hello): void {
    if (this.#phase !== 'active' && this.#phase !== 'joining') return;
    const problem = geometryProblem(hello.geometry, this.#init.geometry);
    if (problem !== null) {
      if (this.#isDonor()) this.#transfers.refuse(nodeId, nonce, problem);
      return;
    }
    const waiting = { nodeId, nonce, bootId: hello.bootId };
    this.#transfers.waiting.set(nodeId, waiting);
    if (this.#isDonor()) this.#transfers.begin(waiting);
  }

  #decide(): void {
    if (!this.#isUndecided || !this.#quorate) return;
    if (!isComplete(this.#members, this.#ringNodes, this.#hellos)) {
      // Nobody takes part in this ring yet, or he would have said so: all who are heard may decide alike.
      this.#waits =
        this.#phase === 'introducing' && this.#state !== null && this.#sawRingBegin && !this.#othersTakePart;
      if (!someoneIsImpatient(this.#hellos)) return;
    }
    const decision = decide(this.#hellos, this.#ring, this.#ringNodes);
    this.#waits = decision === null && this.#phase === 'introducing' && this.#state !== null;
    if (decision === null) return;
    const problem = geometryProblem(this.#init.geometry, decision.geometry);
    if (problem !== null) return this.#refuse(problem);
    if (decision.kind === 'found') {
      if (decision.founder !== this.self.nodeId) {
        this.#phase = 'joining';
        this.#foundation = null;
      } else if (this.#foundation !== null) {
        this.#begin(this.#foundation.inSync);
      } else if (this.#phase !== 'founding') {
        this.#phase = 'founding';
        this.#listener.found();
      }
      return;
    }
    if (this.#phase !== 'introducing') return;
    if (decision.chosen.has(this.self.nodeId)) this.#continue(decision.chosen, decision.doubtful);
    else this.#giveUpHistory();
  }

  /** Nobody is known to have a state that this member takes part with, or will. */
  get #isUndecided(): boolean {
    if (this.#phase === 'introducing' || this.#phase === 'founding') return true;
    return this.#phase === 'joining' && this.#state === null && !this.#transfers.isExpecting;
  }

  /** This member's state is the group's: it goes on. */
  #continue(chosen: ReadonlySet<number>, doubtful: boolean): void {
    const state = this.#state as ReplicatedState;
    for (const nodeId of chosen)
      if (nodeId !== this.self.nodeId) this.#evidence.state(nodeId, state.position);
    enterRing(state, this.#ring, this.#ringNodes, this.#hellos, chosen);
    if (doubtful) state.doubtAll();
    const resumed = this.#former !== null || doubtful;
    this.#agreedRing = this.#ring;
    this.#gone.clear();
    this.#phase = 'active';
    this.#expect(chosen);
    this.#activated({ replaced: false, founded: false, resumed });
    const early = this.#early;
    this.#early = [];
    for (const { nodeId, message } of early) this.#apply(nodeId, message);
    this.#offerSnapshots();
  }

  /** Others go on with another history: this one's marks and doubts go to them, then it takes theirs over. */
  #giveUpHistory(): void {
    this.#phase = 'joining';
    if (this.#state === null) return;
    // What became of a former one shows when the others' arrives.
    if (this.#former === null)
      this.#bringing = { entries: this.#listener.bringAlong(this.#state), ring: NO_RING };
    this.#state = null;
    this.#evidence.newHistory();
    if (this.#bringing === null) return;
    this.counters.contributions++;
    this.#bringing.ring = this.#ring;
    for (const pack of packEntries(this.#bringing.entries))
      this.#emit(MessageKind.ENTRIES, encodeEntries(pack));
  }

  /** A state from an earlier life is this member's, as long as nobody has another one for it. */
  #recall(): void {
    if (this.#former === null) return;
    this.#state = this.#former.state;
    this.#agreedRing = this.#former.agreedRing;
  }

  /**
   * What has to be said before READY, now that the state of the others has arrived: what was given up in a ring that is no more, and what of a former state is not part of
   * theirs. `state` is as it was sent.
   */
  #broughtLate(state: ReplicatedState): readonly Entry[] {
    const former = this.#former;
    this.#resumes =
      former !== null &&
      state.continues(former.state) &&
      state.nodes.get(this.self.nodeId)?.bootId === this.#init.bootId;
    if (former !== null && !this.#resumes)
      this.#bringing ??= { entries: this.#listener.bringAlong(former.state), ring: NO_RING };
    if (this.#bringing === null || sameRing(this.#bringing.ring, this.#ring)) return [];
    this.#bringing.ring = this.#ring;
    this.counters.contributions++;
    return this.#bringing.entries;
  }

  /** Everyone who introduced itself and does not go on waits for a state. */
  #expect(chosen: ReadonlySet<number>): void {
    this.#transfers.waiting.clear();
    for (const [nodeId, { hello, nonce }] of this.#hellos) {
      if (chosen.has(nodeId) || geometryProblem(hello.geometry, this.#init.geometry) !== null) continue;
      this.#transfers.waiting.set(nodeId, { nodeId, nonce, bootId: hello.bootId });
    }
  }

  #activated(how: Activation): void {
    this.#former = null;
    this.#bringing = null;
    this.#undecidedWith.clear();
    this.#waits = false;
    this.#impatient = false;
    this.#listener.activated(how);
    this.#outgoing.sendUnsettled(this.#ring, this.#position);
    this.#owesPosition = true;
  }

  #refuse(reason: string): void {
    this.#phase = 'out';
    this.#state = null;
    this.#outgoing.take();
    this.#listener.refused(reason);
  }

  // Changes of the state

  #entries(nodeId: number, message: Message): void {
    if (this.#phase === 'active') return this.#apply(nodeId, message);
    if (this.#phase === 'introducing') {
      // Views end with the event; what is kept is copied.
      if (this.#state !== null) this.#early.push({ nodeId, message: copyOf(message) });
      return;
    }
    if (this.#takesChanges) this.#apply(nodeId, message);
    else if (this.#phase === 'joining') this.#transfers.keep(nodeId, message);
  }

  /** Its state is the group's: it takes part, or only waits for the place where it does. */
  get #takesChanges(): boolean {
    return this.#phase === 'active' || (this.#phase === 'joining' && this.#state !== null);
  }

  #apply(nodeId: number, message: Message): void {
    const state = this.#state as ReplicatedState;
    const entries = decodeEntries(message.payload, state.regionCount);
    const own = nodeId === this.self.nodeId && message.nonce === this.#init.nonce;
    if (entries === null) {
      this.counters.malformed++;
    } else {
      applyEntries(state, nodeId, entries, message.payload);
      this.#noteEntries(nodeId, entries, own);
    }
    const settled = own && this.#outgoing.settle(message.number);
    if (this.#phase === 'active') this.#listener.applied(settled ? message.number : 0);
  }

  #noteEntries(nodeId: number, entries: readonly Entry[], own: boolean): void {
    for (const { type } of entries) {
      if (type === EntryType.READY) {
        this.#transfers.waiting.delete(nodeId);
        this.#owesPosition = true;
        if (own && this.#phase === 'joining') {
          this.#phase = 'active';
          this.#agreedRing = this.#ring;
          this.#activated({ replaced: true, founded: false, resumed: this.#resumes });
          this.#offerSnapshots();
        }
      } else if (type === EntryType.MARK && !own && this.#vouchesFor(nodeId)) {
        this.#owesPosition = true;
      } else if (type === EntryType.HANDOVER || (type === EntryType.VOUCH && !own)) {
        // A hand-over: for marks just before, another one would have vouched than now.
        this.#owesPosition = true;
      }
    }
  }

  /** Whether it falls to this member to say that it has the sender's marks: to the lowest of the others. A disk log's writer says so when they are on the image. */
  #vouchesFor(nodeId: number): boolean {
    const writer = this.writer;
    if (this.#init.geometry.kind === 'disk' && nodeId !== writer) return false;
    let lowest = 0;
    for (const other of this.#others(nodeId)) if (lowest === 0 || other < lowest) lowest = other;
    return lowest === this.self.nodeId;
  }

  /** Participants besides `nodeId`. */
  #others(nodeId: number = this.self.nodeId): number[] {
    const others: number[] = [];
    for (const node of this.#state?.nodes.values() ?? []) {
      if (node.nodeId !== nodeId && node.presence !== Presence.ABSENT) others.push(node.nodeId);
    }
    return others;
  }

  #applyLeave(nodeId: number, reason: number): void {
    const state = this.#state as ReplicatedState;
    if (!state.nodes.has(nodeId)) return;
    state.position++;
    state.hash.mix(nodeId);
    state.hash.mix(reason);
    leaveState(state, nodeId, reason);
    this.#owesPosition = true;
    this.#listener.applied(0);
  }

  #positions(nodeId: number, message: Message): void {
    const positions = decodePositions(message.payload);
    if (positions === null) {
      this.counters.malformed++;
      return;
    }
    if (this.#phase !== 'active' || nodeId === this.self.nodeId) return;
    if (nodeId === this.writer) this.#evidence.writerSays(positions);
    this.#listener.applied(0);
  }

  #statePosition(): void {
    const positions = this.writer === this.self.nodeId ? this.#evidence.ownDisk : NO_POSITIONS;
    this.#emit(MessageKind.POSITIONS, encodePositions(positions));
  }

  // Snapshots

  /** The writer brings joiners the state. */
  #isDonor(): boolean {
    return this.#phase === 'active' && this.writer === this.self.nodeId;
  }

  #offerSnapshots(): void {
    if (!this.#isDonor()) return;
    for (const waiting of this.#transfers.waiting.values()) this.#transfers.begin(waiting);
  }

  #snapshotBegins(nodeId: number, message: Message): void {
    if (nodeId === this.self.nodeId) {
      if (this.#phase !== 'active') return;
      const snapshot = {
        state: this.#state as ReplicatedState,
        agreedRing: this.#agreedRing,
        waiting: [...this.#transfers.waiting.values()],
      };
      if (this.#transfers.take(message.payload, snapshot)) this.counters.snapshotsSent++;
      return;
    }
    // With a state that it waits to take part with, a joiner needs no other: its READY is on its way, and who has it delivers no more snapshots.
    if (this.#takesChanges) return;
    if (this.#transfers.expect(nodeId, message.payload)) {
      this.#phase = 'joining';
      this.#state = null;
    }
  }

  #snapshotArrives(nodeId: number, message: Message): void {
    if (this.#phase !== 'joining' || this.#state !== null) return;
    const arrived: Arrived | string | null = this.#transfers.piece(
      nodeId,
      message.payload,
      this.#init.geometry.regionCount,
    );
    if (arrived === null) return;
    if (typeof arrived === 'string') {
      this.counters.malformed++;
      return this.#introduce();
    }
    this.counters.snapshotsTaken++;
    const brought = this.#broughtLate(arrived.state);
    this.#state = arrived.state;
    for (const kept of arrived.kept) {
      if ('message' in kept) this.#apply(kept.nodeId, kept.message);
      else this.#applyLeave(kept.nodeId, kept.leftBecause);
    }
    const ready = entry(EntryType.READY, bootIdWords(this.#init.bootId));
    const packs = packEntries([...brought, ready, ...this.#listener.presence(arrived.state)]);
    for (const pack of packs) this.#emit(MessageKind.ENTRIES, encodeEntries(pack));
  }

  // Messages

  #emit(kind: MessageKind, payload: Uint8Array): void {
    this.#send(this.#outgoing.message(kind, payload));
  }

  #send(bytes: Uint8Array): void {
    this.#outgoing.send(bytes, this.#ring, this.#position);
  }

  /** What this member may state as applied. */
  get #position(): number {
    return this.#phase === 'active' ? (this.#state?.position ?? 0) : 0;
  }
}

function audienceOf(members: readonly GroupMember[]): number {
  const digest = new ChainHash();
  for (const { nodeId, pid } of members) {
    digest.mix(nodeId);
    digest.mix(pid);
  }
  return digest.low;
}

function copyOf(message: Message): Message {
  return { ...message, payload: message.payload.slice() };
}
