import { RegionBitmap } from '@dmlog/bitmap';
import { type LazyClearOptions, LazyClears, type LogParameters } from '@dmlog/log';
import { bringAlong } from './bring-along.js';
import type { ClusterEffects } from './cluster-effects.js';
import { Commits } from './commits.js';
import { type Entry, EntryType, entry, regionEntries } from './entries.js';
import type { GroupMember, JoinedMember, LeftMember, RingId } from './group/contract.js';
import { ImageWriter } from './image-writer.js';
import { Member } from './member.js';
import type { MemberListener } from './member-types.js';
import type { Geometry } from './messages.js';
import { Recovery } from './recovery.js';
import { Presence, type ReplicatedState } from './state.js';

/** `-EIO`, asm-generic/errno.h. */
const EIO = 5;
/** `-EINVAL`. */
const EINVAL = 22;

/** POSTSUSPEND waits this long for the legs' flush, then goes on with the regions dirty: below the kernel's 15 s (DM_ULOG_RETRY). */
const SUSPEND_FLUSH_MS_MAX = 5000;

/** A kernel that is being suspended waits this long for other nodes to recover what it wants to write. */
const PATIENCE_MS = 3000;

/** Leases of a kernel that has not asked for work for so long are given back. */
const LEASE_IDLE_MS = 5000;

/** After a failed flush of the legs, the next attempt comes this much later. */
const RETRY_MS = 1000;

/** Requests that wait for quorum at most; past it they are dropped and the kernel repeats them. */
const STALLED_MAX = 4096;

/** How the mirror of this node stands. */
export type MirrorState = 'suspended' | 'resuming' | 'live' | 'suspending';

export interface ReplicaInit {
  readonly parameters: LogParameters;
  /** 32 hexadecimal digits. */
  readonly bootId: string;
  readonly lazyClear: LazyClearOptions;
  /** Unit of writes to the log device, in bytes; not used by core logs. */
  readonly blockBytes: number;
  /** `major:minor` of the log device, for STATUS_INFO; null for core logs. */
  readonly deviceNumber: string | null;
}

/**
 * One node's share in a replicated log: what its kernel has marked, recovers and waits for, on top of the {@link Member} that keeps the common state. Pure: every method
 * changes the replica, fills `effects`, and leaves messages in {@link takeOutbox}.
 *
 * Lives as long as this node has any table of the log: the logs of two tables take turns in being served by it (`ClusteredLog`).
 */
export class Replica {
  readonly parameters: LogParameters;
  readonly geometry: Geometry;
  readonly recovery = new Recovery();
  readonly image: ImageWriter | null;
  /** Regions that this node's kernel may be writing, or wrote a moment ago: what the group knows or will know as this node's marks. */
  readonly held: RegionBitmap;
  readonly #init: ReplicaInit;
  readonly #commits = new Commits();
  readonly #lazy: LazyClears;
  #member: Member | null = null;
  #mirror: MirrorState = 'suspended';
  /** The kernel went on with this log while nobody served it. */
  #reconnected = false;
  /** Effects of the event that is being handled: the member's calls come while it is. */
  #effects: ClusterEffects | null = null;
  #owner: object | null = null;
  #adoptsMarks = false;
  /** The group was told of the mirror's RESUME, or will be by what is on its way. */
  #announced = false;
  /** The kernel has stopped recovery, to be suspended. */
  #stopped = false;
  /** Since when a write waits and the kernel has not asked for work; −1 otherwise. */
  #idleSinceMs = -1;
  /** The kernel last had to do with recovery. */
  #lastWorkMs = 0;
  /** Leases are from an earlier life of this daemon: the kernel may be recovering any one of them. It is not if it asks for work. */
  #leasesInherited = false;
  /** Regions that were given up since then, and when. */
  readonly #givenUp = new Map<number, number>();
  #refusal: string | null = null;
  #joining = false;
  #nowMs = 0;
  #sweepAtMs = -1;
  #retryAtMs = 0;
  #flushing = false;
  #suspendUntilMs = -1;
  #suspendNumber = 0;
  /** Requests that wait for quorum and nothing else. */
  readonly #stalled: { seq: number; port: number }[] = [];
  /** The member is another one than the one that submitted what is pending. */
  #isNewMember = false;
  readonly #suspended: { seq: number; port: number }[] = [];
  readonly #resumed: { seq: number; port: number }[] = [];

  constructor(init: ReplicaInit) {
    const { parameters } = init;
    const { regionCount } = parameters;
    this.#init = init;
    this.parameters = parameters;
    this.geometry = {
      kind: parameters.kind,
      regionCount,
      regionSizeSectors: parameters.regionSizeSectors,
      targetSectors: parameters.targetSectors,
    };
    this.held = new RegionBitmap(regionCount);
    this.#lazy = new LazyClears(
      new RegionBitmap(regionCount, { searchZeros: false }),
      new RegionBitmap(regionCount, { searchZeros: false }),
    );
    this.image =
      parameters.kind === 'disk'
        ? new ImageWriter({ regionCount, syncMode: parameters.syncMode, blockBytes: init.blockBytes })
        : null;
  }

  get deviceNumber(): string | null {
    return this.#init.deviceNumber;
  }

  get member(): Member | null {
    return this.#member;
  }

  get mirror(): MirrorState {
    return this.#mirror;
  }

  /** The common state, while this node takes part. */
  get state(): ReplicatedState | null {
    return this.#member?.phase === 'active' ? this.#member.state : null;
  }

  /** Changes can be put in order and answered. */
  get operational(): boolean {
    return this.#member?.operational === true;
  }

  get lazyCount(): number {
    return this.#lazy.count;
  }

  /** Why the group does not let this node take part, or null. */
  get refusal(): string | null {
    return this.#refusal;
  }

  get needsTick(): boolean {
    return (
      this.#lazy.count > 0 ||
      this.#mirror === 'suspending' ||
      (this.#idleSinceMs >= 0 && this.#mirror === 'live') ||
      this.#leases.length > 0 ||
      this.recovery.hasNews ||
      (this.#member === null && this.#mirror !== 'suspended') ||
      this.image?.needsTick === true
    );
  }

  takeOutbox(): Uint8Array[] {
    return this.#member?.takeOutbox() ?? [];
  }

  // The kernel's requests; ranges were checked

  /** The kernel is going to write these regions. FLUSH says when it may. */
  mark(regions: readonly number[]): void {
    const fresh: number[] = [];
    for (const region of regions) {
      this.#lazy.remove(region);
      if (this.held.set(region)) fresh.push(region);
    }
    if (fresh.length > 0) this.#commits.add(this.#submit(regionEntries(EntryType.MARK, fresh)), fresh);
  }

  clear(regions: readonly number[], effects: ClusterEffects): void {
    // In sync or not: a region can fall out of sync between the kernel's question and its MARK.
    for (const region of regions) if (this.held.get(region)) this.#lazy.add(region);
    const { milliseconds, regionsMax } = this.#init.lazyClear;
    if (milliseconds === 0 || this.#lazy.count > regionsMax) this.#release(effects);
  }

  /** FLUSH, and MARK without quorum: answered when all marks so far are safe. */
  flush(seq: number, port: number, effects: ClusterEffects): void {
    if (this.image?.refused === true) return effects.fail(EIO);
    this.#settle(effects);
    if (!this.#commits.isEmpty) {
      if (this.#commits.wait(seq, port)) effects.later();
    } else if (this.operational) effects.ack();
    else if (this.#stalled.length < STALLED_MAX) {
      this.#stalled.push({ seq, port });
      effects.later();
    }
  }

  /** Whether the kernel is to be told that the region is in sync. */
  isInSync(region: number): boolean {
    return this.state?.inSync.get(region) === true || this.recovery.recovered.has(region);
  }

  get inSyncCount(): number {
    const { state } = this;
    return state === null ? 0 : state.inSyncCount + this.recovery.recovered.size;
  }

  askForWork(seq: number, port: number, effects: ClusterEffects): void {
    const { state } = this;
    if (state === null || !this.operational || this.#mirror !== 'live') return;
    this.#idleSinceMs = -1;
    this.#leasesInherited = false;
    this.#lastWorkMs = this.#nowMs;
    if (this.#givenUp.size > 0) this.#givenUp.clear();
    this.recovery.ask(state, this.#nodeId, seq, port, effects, (entries) => this.#submit(entries));
  }

  setRegionSync(region: number, inSync: boolean, effects: ClusterEffects): void {
    const { state } = this;
    if (state === null) return;
    if (!inSync) {
      this.recovery.failed(region);
      this.held.set(region);
      this.#lazy.remove(region);
      this.#submit([entry(EntryType.MARK, [region]), entry(EntryType.FAILED, [region])]);
      return effects.ack();
    }
    this.#lastWorkMs = this.#nowMs;
    if (this.recovery.done(state, this.#nodeId, region)) this.held.set(region);
    this.#announce(false);
    effects.ack();
  }

  /** See {@link ReplicatedState.syncHint}. */
  get syncHint(): number {
    return this.state?.syncHint(this.#nodeId) ?? 0;
  }

  /**
   * Whether a write to the region has to wait because somebody recovers it, or will. A kernel that is being suspended asks for no more work and waits for all its
   * writes: if nobody else gets to the region soon, it is given up, and the write let through.
   */
  mustWait(region: number): boolean {
    const { state } = this;
    if (state === null || this.isInSync(region) || region === this.recovery.handedOut) return false;
    // A kernel that must be reloaded before anybody recovers the region may write it on one leg; one that was reloaded may not begin to.
    if (state.givenUp.get(region) && state.needReload.has(this.#nodeId)) return false;
    this.recovery.wishFor(region);
    if (this.recovery.handedOut >= 0 || state.leased.get(region)) return true;
    if (this.#idleSinceMs < 0) this.#idleSinceMs = this.#nowMs;
    const others = [...state.nodes.values()].some(
      ({ nodeId, presence }) => presence === Presence.LIVE && nodeId !== this.#nodeId,
    );
    const patient = others || !this.#stopped;
    if (patient && this.#nowMs < this.#idleSinceMs + PATIENCE_MS) return true;
    const last = this.#givenUp.get(region);
    // Again, if it has become work again meanwhile.
    if (last === undefined || this.#nowMs >= last + PATIENCE_MS) {
      this.#givenUp.set(region, this.#nowMs);
      this.#submit([entry(EntryType.FAILED, [region])]);
    }
    return true;
  }

  stopRecovery(effects: ClusterEffects): void {
    this.#stopped = true;
    if (!this.recovery.stop(this.state, this.#nodeId, effects)) return;
    this.#announce(true);
    this.#submit([entry(EntryType.RELEASE)]);
  }

  /** RESUME of one table's log, `owner`: the mirror is its from now on. `reconnected`: the kernel was using the log before this daemon knew it. */
  resume(owner: object, seq: number, port: number, reconnected: boolean, effects: ClusterEffects): void {
    // Refused before: whatever was wrong may be right by now.
    this.#refusal = null;
    this.#resumed.push({ seq, port });
    effects.later();
    if (this.#owner === owner && this.#mirror === 'resuming') return;
    if (this.#owner !== owner) this.#holdAll();
    this.#owner = owner;
    this.#mirror = 'resuming';
    this.#stopped = false;
    this.#idleSinceMs = -1;
    this.#reconnected = reconnected;
    if (this.#member === null) {
      if (!this.#joining) effects.join = true;
      this.#joining = true;
    }
    this.#announced = false;
    if (this.state !== null) this.#announcePresence(this.state);
  }

  /** Whether the mirror is this table's. A table that was exchanged may say more; it has no effect. */
  isOwner(owner: object): boolean {
    return this.#owner === owner;
  }

  /** POSTSUSPEND: what was marked is cleared and everybody told, then it is answered. */
  suspend(seq: number, port: number, effects: ClusterEffects): void {
    if (this.#mirror === 'suspended' || this.#mirror === 'resuming') return effects.ack();
    this.#suspended.push({ seq, port });
    effects.later();
    if (this.#mirror === 'suspending') return;
    this.#mirror = 'suspending';
    this.#suspendUntilMs = -1;
    this.#suspendNumber = 0;
    if (this.held.count === 0) this.#sayGoodbye(true);
    else this.#flushLegs(effects);
  }

  /** No table of this log is left on this node. */
  abandon(effects: ClusterEffects): void {
    this.#answerAll(this.#suspended, EIO, effects);
    this.#answerAll(this.#resumed, EIO, effects);
    this.#answerAll(this.#stalled, EIO, effects);
    this.#commits.drop((seq, port) => effects.late.push(seq, port, EIO));
    this.#mirror = 'suspended';
    this.#leave(effects);
  }

  // Events of the group

  /** The group was joined as `self`; `nonce` is drawn anew for each join. Events follow. */
  joined(self: GroupMember, nonce: number): void {
    this.#joining = false;
    this.#isNewMember = true;
    this.#refusal = null;
    const { bootId } = this.#init;
    const listener: MemberListener = {
      found: () => this.#found(),
      presence: (state) => this.#presence(state),
      activated: (replaced, founded) => this.#activated(replaced, founded),
      applied: (number) => this.#applied(number),
      bringAlong: (state) =>
        bringAlong(state, { nodeId: self.nodeId, bootId }, this.held, this.recovery.forget(this.#effects)),
      refused: (reason) => this.#refused(reason),
    };
    this.#member = new Member({ self, nonce, bootId, geometry: this.geometry, listener });
  }

  /** The group could not be joined, or its engine is gone: tried again at the next tick. Without it, this is answered as without quorum. */
  lostGroup(effects: ClusterEffects, reason: string): void {
    this.#member = null;
    this.#joining = false;
    this.image?.forget();
    this.recovery.forget(effects);
    effects.warning = reason;
    this.#retryAtMs = this.#nowMs + RETRY_MS;
  }

  confchg(
    members: readonly GroupMember[],
    left: readonly LeftMember[],
    joined: readonly JoinedMember[],
    effects: ClusterEffects,
  ): void {
    this.#during(effects, (member) => member.confchg(members, left, joined));
  }

  ringChanged(ring: RingId, nodes: readonly number[], quorate: boolean, effects: ClusterEffects): void {
    this.#during(effects, (member) => member.ringChanged(ring, nodes, quorate));
  }

  deliver(sender: GroupMember, bytes: Uint8Array, effects: ClusterEffects): void {
    this.#during(effects, (member) => member.deliver(sender, bytes));
  }

  // Ends of I/O

  /** `image` has {@link ImageWriter.imageBytes}; on success it holds what the device holds. */
  imageRead(image: Uint8Array, errno: number, effects: ClusterEffects): void {
    const writer = this.image as ImageWriter;
    if (this.#member === null) writer.readInVain();
    this.#during(effects, (member) => {
      const { found, entries, problem } = writer.imageRead(image, errno, member);
      effects.warning = problem ?? null;
      if (found !== undefined) {
        // The group may have gone on while the image was read.
        if (member.phase !== 'founding') writer.forget();
        member.found(found);
      } else if (entries !== undefined) {
        writer.adoptAfter(this.#submit(entries));
      }
    });
  }

  written(errno: number, effects: ClusterEffects): void {
    if (this.#member === null) this.image?.writtenInVain();
    this.#during(effects, (member) => (this.image as ImageWriter).written(errno, member, effects));
  }

  legsFlushed(flushed: boolean, effects: ClusterEffects): void {
    this.#flushing = false;
    this.#lazy.releasing = false;
    this.#during(effects, () => {
      if (this.#mirror === 'suspending') {
        if (this.#suspendNumber === 0) this.#sayGoodbye(flushed);
      } else if (flushed) this.#unmarkOld(effects);
      else this.#retryAtMs = this.#nowMs + RETRY_MS;
    });
  }

  tick(nowMs: number, effects: ClusterEffects): void {
    this.#nowMs = nowMs;
    if (this.#mirror !== 'suspended' && this.#member === null && !this.#joining && nowMs >= this.#retryAtMs) {
      this.#joining = true;
      effects.join = true;
    }
    this.#during(effects, (member) => {
      this.#announce(true);
      this.image?.tick(nowMs, member, effects);
      this.#dropIdleLeases();
      if (this.#mirror === 'suspending') this.#tickSuspend();
      else this.#sweep(effects);
    });
  }

  checkInvariants(): void {
    this.state?.checkInvariants();
    for (let r = this.held.nextOne(0); r >= 0; r = this.held.nextOne(r + 1)) {
      if (this.state?.clean.get(r) === true && this.#commits.isEmpty) {
        throw new Error(`region ${r} is marked by this node's kernel and clean for the group`);
      }
    }
    this.#lazy.check();
  }

  /** Another table took over: no write of the old one is under way, whoever missed its POSTSUSPEND. */
  #holdAll(): void {
    for (let r = this.held.nextOne(0); r >= 0; r = this.held.nextOne(r + 1)) this.#lazy.add(r);
  }

  get #nodeId(): number {
    return this.#member?.self.nodeId ?? 0;
  }

  /** Runs one step with the member, then answers whatever it has made answerable. */
  #during(effects: ClusterEffects, step: (member: Member) => void): void {
    const member = this.#member;
    if (member === null) return;
    this.#effects = effects;
    step(member);
    this.#effects = null;
    if (this.#member !== member) return;
    this.image?.step(member, effects);
    this.#settle(effects);
  }

  /** Puts entries in order; what was recovered goes along, before them. */
  #submit(entries: readonly Entry[]): number {
    const member = this.#member;
    if (member === null) return 0;
    const { state } = this;
    const news = state === null ? [] : this.recovery.announcement(state, this.#nodeId, true);
    return member.submit([...news, ...entries]);
  }

  #announce(now: boolean): void {
    const { state } = this;
    if (state === null || !this.recovery.hasNews) return;
    const news = this.recovery.announcement(state, this.#nodeId, now);
    if (news.length > 0) this.#submit(news);
  }

  #settle(effects: ClusterEffects): void {
    const member = this.#member;
    const { state } = this;
    if (member === null || state === null || !member.operational) return;
    const { failed } = member.disk;
    if (failed > 0) this.#commits.fail(failed, (seq, port) => effects.late.push(seq, port, EIO));
    this.#commits.settle(state, this.#nodeId, member.committed, (seq, port) =>
      effects.late.push(seq, port, 0),
    );
    if (this.#commits.isEmpty) this.#answerAll(this.#stalled, 0, effects);
    this.#announcePresence(state);
    this.#endResume(state, member, effects);
    this.#endSuspend(effects);
  }

  /** RESUME came after this member had told how its mirror stands. */
  #announcePresence(state: ReplicatedState): void {
    if (this.#mirror !== 'resuming' || this.#announced) return;
    this.#submit(this.#presence(state));
  }

  /** RESUME is answered when the group knows of it, and the founder's image is whole. */
  #endResume(state: ReplicatedState, member: Member, effects: ClusterEffects): void {
    const here = state.nodes.get(this.#nodeId);
    if (this.#mirror !== 'resuming' || here?.presence !== Presence.LIVE || !this.#commits.isEmpty) return;
    const errno = this.image?.deviceStatus === 'D' ? EIO : 0;
    if (errno === 0 && this.image !== null && member.writer === this.#nodeId && member.disk.marks === 0)
      return;
    this.#mirror = 'live';
    this.#answerAll(this.#resumed, errno, effects);
  }

  // Listener of the member

  #found(): void {
    const effects = this.#effects as ClusterEffects;
    if (this.image !== null) return this.image.found(effects);
    const inSync = new RegionBitmap(this.parameters.regionCount, { searchOnes: false });
    // A kernel that goes on with a log nobody knows: what it believes in sync may have been written since.
    inSync.fill(this.parameters.syncMode === 'nosync' && !this.#reconnected);
    this.#member?.found(inSync);
  }

  /** Told when this node begins to take part; also of marks that the state does not show. */
  #presence(state: ReplicatedState): Entry[] {
    if (this.#mirror === 'suspended') return [];
    const known = state.nodes.get(this.#nodeId)?.marks;
    const unknown: number[] = [];
    for (let r = this.held.nextOne(0); r >= 0; r = this.held.nextOne(r + 1)) {
      if (known?.get(r) !== true) unknown.push(r);
    }
    if (known !== undefined && this.#mirror === 'resuming' && !this.#reconnected) {
      // Marks of an earlier life of this daemon; no write of that time is under way.
      for (let r = known.nextOne(0); r >= 0; r = known.nextOne(r + 1))
        if (this.held.set(r)) this.#lazy.add(r);
    }
    return [...this.#presenceEntries(), ...regionEntries(EntryType.MARK, unknown)];
  }

  #presenceEntries(): Entry[] {
    this.#announced = true;
    if (this.#mirror === 'resuming' && !this.#reconnected) return [entry(EntryType.RESUMED)];
    const marksUnknown = this.#mirror === 'resuming';
    this.#adoptsMarks = marksUnknown;
    return [entry(EntryType.RECONNECTED, [marksUnknown ? 1 : 0])];
  }

  #activated(replaced: boolean, founded: boolean): void {
    const { state } = this;
    const effects = this.#effects as ClusterEffects;
    if (state === null) return;
    state.watcher = this.image ?? state.watcher;
    if (!replaced) return;
    this.image?.forget(founded);
    this.recovery.forget(effects);
    this.#leasesInherited = true;
    this.#lastWorkMs = this.#nowMs;
    this.#adoptMarks(state);
    this.#commits.replaced(state.position, this.#isNewMember);
    this.#isNewMember = false;
  }

  #applied(number: number): void {
    const effects = this.#effects as ClusterEffects;
    const { state } = this;
    if (state === null) return;
    this.#commits.applied(number, state.position);
    this.#adoptMarks(state);
    this.recovery.applied(state, this.#nodeId, number, effects);
    this.image?.applied(number);
    if (number !== 0 && number === this.#suspendNumber) this.#suspendNumber = -1;
  }

  /** After RECONNECTED: what counts as marked by this node is held by it, until its kernel clears it or is suspended. */
  #adoptMarks(state: ReplicatedState): void {
    const here = state.nodes.get(this.#nodeId);
    if (!this.#adoptsMarks || here?.presence !== Presence.LIVE) return;
    this.#adoptsMarks = false;
    for (let r = here.marks.nextOne(0); r >= 0; r = here.marks.nextOne(r + 1)) this.held.set(r);
  }

  #refused(reason: string): void {
    const effects = this.#effects as ClusterEffects;
    this.#refusal = reason;
    effects.warning = `this node cannot take part in the log: ${reason}`;
    this.#answerAll(this.#resumed, EINVAL, effects);
    this.#mirror = 'suspended';
    this.#leave(effects);
  }

  /** A kernel that does not recover must not keep others from it. What it may still be recovering is not to be touched by anybody before a reload. */
  #dropIdleLeases(): void {
    const { state } = this;
    const leases = this.#leases;
    if (
      state === null ||
      leases.length === 0 ||
      this.recovery.handedOut >= 0 ||
      this.recovery.recovered.size > 0
    )
      return;
    if (this.#nowMs < this.#lastWorkMs + LEASE_IDLE_MS) return;
    this.#lastWorkMs = this.#nowMs;
    this.#submit(
      this.#leasesInherited ? regionEntries(EntryType.FAILED, leases) : [entry(EntryType.RELEASE)],
    );
  }

  get #leases(): readonly number[] {
    return this.state?.nodes.get(this.#nodeId)?.leases ?? [];
  }

  // Lazy clears

  #sweep(effects: ClusterEffects): void {
    if (this.#nowMs < this.#retryAtMs) return;
    if (this.#lazy.count === 0) {
      this.#sweepAtMs = -1;
    } else if (this.#sweepAtMs < 0) {
      this.#sweepAtMs = this.#nowMs + this.#init.lazyClear.milliseconds;
    } else if (this.#nowMs >= this.#sweepAtMs && !this.#lazy.releasing) {
      if (this.#lazy.oldCount > 0) this.#release(effects);
      else this.#lazy.age();
      this.#sweepAtMs = this.#nowMs + this.#init.lazyClear.milliseconds;
    }
  }

  #release(effects: ClusterEffects): void {
    if (this.#flushing || this.#lazy.count === 0 || this.#nowMs < this.#retryAtMs || this.state === null)
      return;
    if (this.#lazy.oldCount === 0) this.#lazy.age();
    this.#lazy.releasing = true;
    this.#flushLegs(effects);
  }

  #flushLegs(effects: ClusterEffects): void {
    if (this.#flushing) return;
    this.#flushing = true;
    effects.flushLegs = true;
  }

  #unmarkOld(effects: ClusterEffects): void {
    const regions: number[] = [];
    for (let r = this.#lazy.nextOld(0); r >= 0; r = this.#lazy.nextOld(r + 1)) {
      this.#lazy.release(r);
      this.held.clear(r);
      regions.push(r);
    }
    if (regions.length > 0) this.#submit(regionEntries(EntryType.UNMARK, regions));
    if (this.#init.lazyClear.milliseconds === 0) this.#release(effects);
  }

  // Suspend

  #tickSuspend(): void {
    if (this.#suspendNumber !== 0) return;
    if (this.#suspendUntilMs < 0) this.#suspendUntilMs = this.#nowMs + SUSPEND_FLUSH_MS_MAX;
    else if (this.#nowMs >= this.#suspendUntilMs) this.#sayGoodbye(false);
  }

  /** No write is under way. If the legs were flushed, nothing is marked any more; else what was marked stays dirty for all. */
  #sayGoodbye(flushed: boolean): void {
    const regions: number[] = [];
    for (let r = this.held.nextOne(0); r >= 0; r = this.held.nextOne(r + 1)) regions.push(r);
    for (const region of regions) {
      this.held.clear(region);
      this.#lazy.remove(region);
    }
    const unmarks = flushed ? regionEntries(EntryType.UNMARK, regions) : [];
    this.#suspendNumber = this.#submit([...unmarks, entry(EntryType.SUSPENDED)]);
    if (this.#member === null) this.#suspendNumber = -1;
  }

  #endSuspend(effects: ClusterEffects): void {
    const member = this.#member;
    if (this.#mirror !== 'suspending' || this.#suspendNumber !== -1 || member === null) return;
    if (this.image !== null && !this.image.isComplete(member)) return;
    this.#suspendNumber = 0;
    this.#mirror = 'suspended';
    this.#answerAll(this.#suspended, 0, effects);
  }

  #answerAll(waiters: { seq: number; port: number }[], errno: number, effects: ClusterEffects): void {
    for (const { seq, port } of waiters.splice(0)) effects.late.push(seq, port, errno);
  }

  #leave(effects: ClusterEffects): void {
    if (this.#member !== null || this.#joining) effects.leave = true;
    this.#member = null;
    this.#joining = false;
    this.image?.forget();
    this.recovery.forget(effects);
  }
}
