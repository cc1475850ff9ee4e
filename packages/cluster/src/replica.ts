import { RegionBitmap } from '@dmlog/bitmap';
import type { LazyClearOptions, LogParameters, LogState } from '@dmlog/log';
import { Errno } from '@dmlog/protocol';
import { bringAlong } from './bring-along.js';
import type { ClusterEffects } from './cluster-effects.js';
import { Commits } from './commits.js';
import { type Entry, EntryType, entry, regionEntries } from './entries.js';
import type { GroupMember, JoinedMember, LeftMember, RingId } from './group/contract.js';
import { HeldMarks } from './held-marks.js';
import { ImageWriter } from './image-writer.js';
import type { KeptReplica } from './kept-replica.js';
import { Member } from './member.js';
import type { Activation, MemberListener } from './member-types.js';
import type { Geometry } from './messages.js';
import { Patience } from './patience.js';
import { Recovery } from './recovery.js';
import { Presence, type ReplicatedState } from './state.js';
import type { History } from './state-copy.js';

/** POSTSUSPEND waits this long for the legs' flush, then goes on with the regions dirty: below the kernel's 15 s (DM_ULOG_RETRY). */
const SUSPEND_FLUSH_MS_MAX = 5000;

/** After the group was lost, it is joined again this much later. */
const RETRY_MS = 1000;

/**
 * A node that was out of the group waits so long for those who may have gone on without it. They come within a second or two, if their daemons are restarted; when they do not, all
 * that is believed of the legs is given up, which costs a full resync.
 */
const REUNION_MS_MAX = 10_000;

/** A FLUSH that has waited so long asks all members for their positions: the one that would vouch may hang. */
const VOUCH_MS = 500;

/** Requests that wait for quorum at most; past it they are dropped and the kernel repeats them. */
const STALLED_MAX = 4096;

/** More regions than this that a kernel may write on one leg count as all. */
const ONE_LEG_MAX = 65_536;

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
  /** Memory that outlives the process, fresh or found. Null: there is none, and a later daemon knows nothing. */
  readonly kept?: KeptReplica | null;
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
  readonly #marks: HeldMarks;
  readonly #patience = new Patience();
  readonly #init: ReplicaInit;
  readonly #commits = new Commits();
  #member: Member | null = null;
  #mirror: MirrorState = 'suspended';
  /** The kernel went on with this log while nobody served it. */
  #reconnected = false;
  /** The table that is being suspended or resumed was live, and its kernel may write one leg only of some region. */
  #writesOneLeg = false;
  /** Which regions. Null: any, as an earlier process was asked for them. */
  #oneLeg: Set<number> | null = new Set();
  /** Effects of the event that is being handled: the member's calls come while it is. */
  #effects: ClusterEffects | null = null;
  #owner: object | null = null;
  #adoptsMarks = false;
  /** The group was told of the mirror's RESUME, or will be by what is on its way. */
  #announced = false;
  #refusal: string | null = null;
  #joining = false;
  #nowMs = 0;
  #retryAtMs = 0;
  #suspendUntilMs = -1;
  #suspendNumber = 0;
  /** Number of the HANDOVER on its way, 0 for none: until it was applied, in whatever ring, nothing is written. */
  #handoverNumber = 0;
  /** Requests that wait for quorum and nothing else. */
  readonly #stalled: { seq: number; port: number }[] = [];
  /** The member is another one than the one that submitted what is pending. */
  #isNewMember = false;
  readonly #suspended: { seq: number; port: number }[] = [];
  readonly #resumed: { seq: number; port: number }[] = [];
  readonly #kept: KeptReplica | null;
  /** What this node had when it was last in the group. */
  #former: History | null;
  #waitsSinceMs = -1;
  #uncommittedSinceMs = -1;
  /** Number of the VOUCH on its way, 0 for none: one at a time, or a slow group would be flooded. */
  #vouchNumber = 0;

  constructor(init: ReplicaInit) {
    const { parameters, kept = null } = init;
    const { regionCount } = parameters;
    this.#init = init;
    this.parameters = parameters;
    this.geometry = {
      kind: parameters.kind,
      regionCount,
      regionSizeSectors: parameters.regionSizeSectors,
      targetSectors: parameters.targetSectors,
    };
    this.#kept = kept;
    this.#former = kept?.history ?? null;
    this.#marks = new HeldMarks(regionCount, init.lazyClear, kept);
    const { syncMode } = parameters;
    this.image =
      parameters.kind === 'disk'
        ? new ImageWriter({ regionCount, syncMode, blockBytes: init.blockBytes, kept })
        : null;
    if (kept !== null && kept.history !== null) this.#oneLeg = null;
    if (kept?.wasLive === true) this.#goOn(kept);
  }

  /** Where an earlier process left off: as if only the group had been lost. */
  #goOn(kept: KeptReplica): void {
    this.#mirror = 'live';
    this.recovery.restore(kept.handedOut, kept.recovered());
    // What was marked may not have been heard by anybody: a FLUSH waits until it was.
    this.#commits.add(0, []);
  }

  /** Writes down for a later process what is not there yet. To be called after each step, before anybody is told of it. */
  keep(): void {
    const { state } = this;
    if (this.#kept !== null) {
      if (state !== null) this.#kept.copy.save(state, (this.#member as Member).agreedRing);
      this.#kept.note(this.#mirror === 'live' || this.#mirror === 'suspending', this.recovery);
    }
    this.image?.kept();
  }

  /** A table is as it was when an earlier process served it. False if its mirror cannot go on. Of several tables the live one has the mirror, else the one that was live last. */
  goOnFor(owner: object, state: LogState): boolean {
    if (this.#kept?.wasLive !== true || (state !== 'live' && state !== 'suspended')) return false;
    if (this.#owner === null || state === 'live') this.#owner = owner;
    return true;
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
    return this.#marks.lazyCount;
  }

  /** Marks that needed no message because lazy clear had kept them. */
  get lazyHits(): number {
    return this.#marks.lazyHits;
  }

  /** Changes lazy clear from now on. */
  setLazyClear(options: LazyClearOptions): void {
    this.#marks.setLazyClear(options);
  }

  /** Why the group does not let this node take part, or null. */
  get refusal(): string | null {
    return this.#refusal;
  }

  get needsTick(): boolean {
    return (
      this.#marks.lazyCount > 0 ||
      this.#mirror === 'suspending' ||
      (this.#patience.isTried && this.#mirror === 'live') ||
      this.#leases.length > 0 ||
      this.recovery.hasNews ||
      (this.#member === null && this.#mirror !== 'suspended') ||
      this.#member?.waits === true ||
      !this.#commits.isEmpty ||
      this.image?.needsTick === true
    );
  }

  takeOutbox(): Uint8Array[] {
    return this.#member?.takeOutbox() ?? [];
  }

  // The kernel's requests; ranges were checked

  /** The kernel is going to write these regions. FLUSH says when it may. */
  mark(regions: readonly number[]): void {
    const fresh = regions.filter((region) => this.#marks.add(region));
    // A mark that is held need not be on an image that cannot be written: what was recovered meanwhile is marked without a MARK.
    const failed = this.#member?.disk.failed ?? 0;
    if (failed > 0 && fresh.length < regions.length && this.#commits.isEmpty)
      this.#commits.awaitPosition(failed);
    if (fresh.length > 0) this.#commits.add(this.#submit(regionEntries(EntryType.MARK, fresh)), fresh);
  }

  clear(regions: readonly number[], effects: ClusterEffects): void {
    // In sync or not: a region can fall out of sync between the kernel's question and its MARK.
    for (const region of regions) this.#marks.clear(region);
    if (this.state !== null) this.#marks.hurry(this.#nowMs, effects);
  }

  /** FLUSH, and MARK without quorum: answered when all marks so far are safe. */
  flush(seq: number, port: number, effects: ClusterEffects): void {
    if (this.image?.refused === true) return effects.fail(Errno.EIO);
    this.#settle(effects);
    // Marks need no message of their own where the state has the region dirty anyway. That the image has it dirty, too, is known once it was written.
    if (this.image !== null && this.#commits.isEmpty && this.operational && this.#imageIsUnknown)
      this.#commits.awaitPosition(1);
    if (!this.#commits.isEmpty) {
      if (this.#commits.wait(seq, port)) effects.later();
    } else if (this.operational) effects.ack();
    else if (this.#stalled.length < STALLED_MAX) {
      this.#stalled.push({ seq, port });
      effects.later();
    }
  }

  /** No writer has said yet that the image is that of this history. */
  get #imageIsUnknown(): boolean {
    return this.#member?.disk.marks === 0;
  }

  /**
   * Whether the kernel is to be told that the region is in sync. One that is in doubt is that only to a kernel that may have been told so before: one that was reloaded since reads the
   * leg from which the region will be recovered.
   */
  isInSync(region: number): boolean {
    if (this.recovery.recovered.has(region)) return true;
    const { state } = this;
    if (state === null || !state.inSync.get(region)) return false;
    return !state.stale.get(region) || state.needReload.has(this.#nodeId);
  }

  /**
   * Whether a kernel may be told of a given-up region that it is not in sync: it writes one leg then, at once and without a FLUSH, and after a cut of the power only the image
   * would know.
   */
  get imageShowsGivenUp(): boolean {
    const { state } = this;
    return this.image === null || state === null || (this.#member as Member).disk.marks >= state.givenUpAt;
  }

  get inSyncCount(): number {
    const { state } = this;
    return state === null ? 0 : state.inSyncCount + this.recovery.recovered.size;
  }

  askForWork(seq: number, port: number, effects: ClusterEffects): void {
    const { state } = this;
    // There is nothing here that this kernel could recover, and one that waits for an answer cannot be rid of its mirror for 15 s.
    if (this.#refusal !== null) return effects.pair(0, 0);
    if (state === null || !this.operational || this.#mirror !== 'live') return;
    this.#patience.asksForWork(this.#nowMs);
    this.recovery.ask(state, this.#nodeId, seq, port, effects, (entries) => this.#submit(entries));
  }

  setRegionSync(region: number, inSync: boolean, effects: ClusterEffects): void {
    const { state } = this;
    if (state === null) return;
    if (!inSync) {
      this.recovery.failed(region);
      this.#marks.add(region);
      this.#submit([entry(EntryType.MARK, [region]), entry(EntryType.FAILED, [region])]);
      return effects.ack();
    }
    this.#patience.recovers(this.#nowMs);
    if (this.recovery.done(state, this.#nodeId, region)) this.#marks.add(region);
    this.#announce(false);
    effects.ack();
  }

  /** See {@link ReplicatedState.syncHint}. */
  get syncHint(): number {
    return this.state?.syncHint(this.#nodeId) ?? 0;
  }

  /**
   * Whether a write to the region has to wait because somebody recovers it, or will. See `Patience.impatience` for the end of the wait.
   */
  mustWait(region: number): boolean {
    const { state } = this;
    if (state === null || region === this.recovery.handedOut) return false;
    const inDoubt = state.stale.get(region) || state.givenUp.get(region);
    if (this.isInSync(region) && !inDoubt) return false;
    // A kernel that must be reloaded before anybody recovers the region goes on as before. One that was reloaded may not begin to write it: its opinion, in sync or
    // on one leg only, would be wrong when the region becomes work.
    if (inDoubt && state.needReload.has(this.#nodeId))
      return state.givenUp.get(region) && !this.imageShowsGivenUp;
    this.recovery.wishFor(region);
    if (this.recovery.handedOut >= 0 || state.leased.get(region)) return true;
    const gives = this.#patience.impatience(state, this.#nodeId, region, this.#nowMs);
    if (gives.length > 0) this.#submit(gives);
    return true;
  }

  stopRecovery(effects: ClusterEffects): void {
    this.#patience.stopsRecovery();
    if (!this.recovery.stop(this.state, this.#nodeId, effects)) return;
    this.#announce(true);
    this.#submit([entry(EntryType.RELEASE)]);
  }

  /**
   * RESUME of one table's log, `owner`: the mirror is its from now on. `reconnected`: the kernel was using the log before this daemon knew it; `writesOneLeg`: its
   * kernel has had this very table live before, and its region hash may still say of a region that it is written on one leg.
   */
  resume(
    owner: object,
    seq: number,
    port: number,
    { reconnected, writesOneLeg }: { reconnected: boolean; writesOneLeg: boolean },
    effects: ClusterEffects,
  ): void {
    // Refused before: whatever was wrong may be right by now.
    this.#refusal = null;
    this.#resumed.push({ seq, port });
    effects.later();
    if (this.#owner === owner && this.#mirror === 'resuming') return;
    // Another table took over: no write of the old one is under way, whoever missed its POSTSUSPEND.
    if (this.#owner !== owner) this.#marks.clearAll();
    this.#owner = owner;
    this.#mirror = 'resuming';
    this.#patience.resumes();
    this.#reconnected = reconnected;
    this.#writesOneLeg = writesOneLeg;
    if (!writesOneLeg) this.#oneLeg = new Set();
    else if (this.#oneLeg?.size === 0) this.#oneLeg = null;
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

  /** The kernel may write this region on one leg only from now on, for as long as its table lives: it was told that it is not in sync, or said so itself. */
  noteOneLeg(region: number): void {
    if (this.#oneLeg === null) return;
    this.#oneLeg.add(region);
    if (this.#oneLeg.size > ONE_LEG_MAX) this.#oneLeg = null;
  }

  /** POSTSUSPEND: what was marked is cleared and everybody told, then it is answered. `writesOneLeg`: the table's kernel may do so again when it is resumed. */
  suspend(seq: number, port: number, writesOneLeg: boolean, effects: ClusterEffects): void {
    if (this.#mirror === 'suspended' || this.#mirror === 'resuming') return effects.ack();
    this.#suspended.push({ seq, port });
    effects.later();
    if (this.#mirror === 'suspending') return;
    this.#mirror = 'suspending';
    this.#writesOneLeg = writesOneLeg;
    this.#suspendUntilMs = -1;
    this.#suspendNumber = 0;
    if (this.#marks.regions.count === 0) this.#sayGoodbye(true);
    else this.#marks.flushForGood(effects);
  }

  /** No table of this log is left on this node. */
  abandon(effects: ClusterEffects): void {
    this.#answerAll(this.#suspended, Errno.EIO, effects);
    this.#answerAll(this.#resumed, Errno.EIO, effects);
    this.#answerAll(this.#stalled, Errno.EIO, effects);
    this.#commits.drop((seq, port) => effects.late.push(seq, port, Errno.EIO));
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
      activated: (how) => this.#activated(how),
      applied: (number) => this.#applied(number),
      bringAlong: (state) =>
        bringAlong(
          state,
          { nodeId: self.nodeId, bootId },
          this.#marks.regions,
          this.recovery.underWay,
          this.#oneLeg,
        ),
      refused: (reason) => this.#refused(reason),
    };
    this.#handoverNumber = 0;
    this.#vouchNumber = 0;
    const { geometry } = this;
    this.#member = new Member({ self, nonce, bootId, geometry, listener, former: this.#former });
  }

  /** The group could not be joined, or its engine is gone: tried again at the next tick. Without it, this is answered as without quorum. */
  lostGroup(effects: ClusterEffects, reason: string): void {
    this.#former = this.#member?.history ?? this.#former;
    this.#member = null;
    this.#joining = false;
    this.image?.letGo();
    this.recovery.interrupt(effects);
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
    this.#during(effects, (member) => {
      const image = this.image as ImageWriter;
      if (!image.written(errno, member, effects) && member.writer !== member.self.nodeId)
        this.#submit([entry(EntryType.WROTE_LATE)]);
    });
  }

  legsFlushed(flushed: boolean, effects: ClusterEffects): void {
    if (this.#member === null) this.#marks.flushedInVain();
    this.#during(effects, () => {
      if (this.#mirror === 'suspending') {
        // The farewell may be said already: the legs did not answer in time.
        if (this.#suspendNumber !== 0) return this.#marks.flushedInVain();
        if (this.#marks.isLastFlush(effects)) this.#sayGoodbye(flushed);
        return;
      }
      const regions = this.#marks.flushed(flushed, this.#nowMs);
      if (regions.length > 0) this.#submit(regionEntries(EntryType.UNMARK, regions));
      if (flushed) this.#marks.hurry(this.#nowMs, effects);
    });
  }

  tick(nowMs: number, effects: ClusterEffects): void {
    this.#nowMs = nowMs;
    if (this.#mirror !== 'suspended' && this.#member === null && !this.#joining && nowMs >= this.#retryAtMs) {
      this.#joining = true;
      effects.join = true;
    }
    this.#during(effects, (member) => {
      this.#tickReunion(member);
      this.#tickVouch(member);
      this.#announce(true);
      this.image?.tick(nowMs, member, effects);
      const dropped = this.#patience.dropIdleLeases(this.#leases, this.recovery, nowMs);
      if (dropped.length > 0) this.#submit(dropped);
      if (this.#mirror === 'suspending') this.#tickSuspend();
      else if (this.state !== null) this.#marks.sweep(nowMs, effects);
    });
  }

  #tickVouch(member: Member): void {
    if (this.#commits.isEmpty || !member.operational) {
      this.#uncommittedSinceMs = -1;
    } else if (this.#uncommittedSinceMs < 0) {
      this.#uncommittedSinceMs = this.#nowMs;
    } else if (this.#vouchNumber === 0 && this.#nowMs >= this.#uncommittedSinceMs + VOUCH_MS) {
      this.#uncommittedSinceMs = this.#nowMs;
      this.#vouchNumber = this.#submit([entry(EntryType.VOUCH)]);
    }
  }

  #tickReunion(member: Member): void {
    if (!member.waits) this.#waitsSinceMs = -1;
    else if (this.#waitsSinceMs < 0) this.#waitsSinceMs = this.#nowMs;
    else if (this.#nowMs >= this.#waitsSinceMs + REUNION_MS_MAX) member.stopWaiting();
  }

  checkInvariants(): void {
    this.state?.checkInvariants();
    const held = this.#marks.regions;
    for (let r = held.nextOne(0); r >= 0; r = held.nextOne(r + 1)) {
      if (this.state?.clean.get(r) === true && this.#commits.isEmpty) {
        throw new Error(`region ${r} is marked by this node's kernel and clean for the group`);
      }
    }
    this.#marks.check();
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
    this.#handOver(member);
    this.image?.step(member, effects);
    this.#settle(effects);
  }

  /** The writer's office goes to the participant with the lowest node id (design rule 17), between two writes. */
  #handOver(member: Member): void {
    const isToGo =
      member.operational && member.writer === member.self.nodeId && (member.state?.heir ?? 0) !== 0;
    if (this.image !== null) this.image.paused = isToGo || this.#handoverNumber !== 0;
    if (!isToGo || this.#handoverNumber !== 0 || this.image?.isQuiet === false) return;
    this.#handoverNumber = this.#submit([entry(EntryType.HANDOVER)]);
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
    if (failed > 0) this.#commits.fail(failed, (seq, port) => effects.late.push(seq, port, Errno.EIO));
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
    const errno = this.image?.deviceStatus === 'D' ? Errno.EIO : 0;
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
    const held = this.#marks.regions;
    for (let r = held.nextOne(0); r >= 0; r = held.nextOne(r + 1)) {
      if (known?.get(r) !== true) unknown.push(r);
    }
    // Marks of an earlier life of this daemon; no write of that time is under way.
    if (this.#mirror === 'resuming' && !this.#reconnected) this.#holdKnown(state);
    return [...this.#presenceEntries(), ...regionEntries(EntryType.MARK, unknown)];
  }

  #presenceEntries(): Entry[] {
    this.#announced = true;
    if (this.#mirror === 'resuming' && !this.#reconnected && !this.#writesOneLeg)
      return [entry(EntryType.RESUMED)];
    const marksUnknown = this.#mirror === 'resuming' && this.#reconnected;
    this.#adoptsMarks = marksUnknown;
    return [entry(EntryType.RECONNECTED, [marksUnknown ? 1 : 0])];
  }

  #activated({ replaced, founded, resumed }: Activation): void {
    const { state } = this;
    const effects = this.#effects as ClusterEffects;
    if (state === null) return;
    this.#former = null;
    state.watcher = this.image ?? state.watcher;
    if (state.givenUp.count > 0) state.givenUpAt = state.position;
    if (replaced) this.image?.forget(founded);
    else if (resumed) this.image?.mistrust();
    if (!replaced && !resumed) return;
    if (resumed) {
      this.recovery.keepLeased(state, this.#nodeId);
      this.#holdKnown(state);
    } else {
      this.recovery.forget(effects);
      this.#patience.inherits(this.#nowMs);
    }
    this.#adoptMarks(state);
    if (replaced) this.#commits.replaced(state.position, this.#isNewMember);
    else this.#tellAgain(state);
    this.#isNewMember = false;
    // What was said of the suspend may not have been heard.
    if (this.#mirror === 'suspending' && this.#suspendNumber !== 0) this.#sayGoodbye(false);
  }

  /** This node went on with a state of its own that it had left: what it did meanwhile is told, and a FLUSH waits for that. */
  #tellAgain(state: ReplicatedState): void {
    const isKnown = state.nodes.get(this.#nodeId)?.presence === Presence.LIVE && this.#mirror === 'live';
    const entries = this.#presence(state);
    const news = isKnown ? entries.filter(({ type }) => type === EntryType.MARK) : entries;
    if (news.length > 0) this.#commits.toldAgain(this.#submit(news));
    else this.#commits.replaced(state.position, true);
  }

  /** What the group knows as marked by this node, and is not held: an earlier process was about to give it up. It is given up after the legs were flushed. */
  #holdKnown(state: ReplicatedState): void {
    const known = state.nodes.get(this.#nodeId)?.marks;
    if (known === undefined || this.#mirror === 'suspended') return;
    const held = this.#marks.regions;
    for (let r = known.nextOne(0); r >= 0; r = known.nextOne(r + 1)) if (held.set(r)) this.#marks.clear(r);
  }

  #applied(number: number): void {
    const effects = this.#effects as ClusterEffects;
    const { state } = this;
    if (state === null) return;
    this.#commits.applied(number, state.position);
    this.#adoptMarks(state);
    this.recovery.applied(state, this.#nodeId, number, effects);
    this.image?.applied(number);
    if (number === this.#handoverNumber) this.#handoverNumber = 0;
    if (number === this.#vouchNumber) this.#vouchNumber = 0;
    if (number !== 0 && number === this.#suspendNumber) this.#suspendNumber = -1;
  }

  /** After RECONNECTED: what counts as marked by this node is held by it, until its kernel clears it or is suspended. */
  #adoptMarks(state: ReplicatedState): void {
    const here = state.nodes.get(this.#nodeId);
    if (!this.#adoptsMarks || here?.presence !== Presence.LIVE) return;
    this.#adoptsMarks = false;
    for (let r = here.marks.nextOne(0); r >= 0; r = here.marks.nextOne(r + 1)) this.#marks.regions.set(r);
  }

  #refused(reason: string): void {
    const effects = this.#effects as ClusterEffects;
    this.#refusal = reason;
    effects.warning = `this node cannot take part in the log: ${reason}`;
    this.#answerAll(this.#resumed, Errno.EINVAL, effects);
    this.#mirror = 'suspended';
    this.#leave(effects);
  }

  get #leases(): readonly number[] {
    return this.state?.nodes.get(this.#nodeId)?.leases ?? [];
  }

  // Suspend

  #tickSuspend(): void {
    if (this.#suspendNumber !== 0) return;
    if (this.#suspendUntilMs < 0) this.#suspendUntilMs = this.#nowMs + SUSPEND_FLUSH_MS_MAX;
    else if (this.#nowMs >= this.#suspendUntilMs) this.#sayGoodbye(false);
  }

  /** No write is under way. If the legs were flushed, nothing is marked any more; else what was marked stays dirty for all. */
  #sayGoodbye(flushed: boolean): void {
    const regions = this.#marks.takeAll();
    const unmarks = flushed ? regionEntries(EntryType.UNMARK, regions) : [];
    const suspended = entry(EntryType.SUSPENDED, [this.#writesOneLeg ? 1 : 0]);
    this.#suspendNumber = this.#submit([...unmarks, suspended]);
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
    this.#former = null;
    this.#kept?.copy.drop();
    if (this.#member !== null || this.#joining) effects.leave = true;
    this.#member = null;
    this.#joining = false;
    this.image?.forget();
    this.recovery.forget(effects);
  }
}
