import {
  asksOfRegions,
  type DirtyLog,
  type Effects,
  KeptState,
  keepValues,
  type LogMemory,
  type LogParameters,
  type LogState,
  type LogSummary,
  ReplyKind,
  readKeptValues,
  readRecord,
  startsWork,
} from '@dmlog/log';
import { Errno, type FrameView, RequestType } from '@dmlog/protocol';
import type { ClusterEffects } from './cluster-effects.js';
import type { Replica } from './replica.js';

/** What is kept of a table besides its state. */
const Flag = { RECONNECTED: 1, WRITES_ONE_LEG: 2 } as const;

/**
 * A clustered log as one table of one node sees it: the requests of its kernel, answered from this node's {@link Replica}. The logs of two tables of one uuid share the
 * replica and take turns: one of them at most is live.
 *
 * Which answers may lag behind the order, and why that is safe, is said in docs/cluster-protocol.md.
 */
export class ClusteredLog implements DirtyLog {
  readonly parameters: LogParameters;
  readonly replica: Replica;
  #state: LogState = 'constructed';
  #reconnected: boolean;
  /** The kernel may write one leg only of some region, for as long as this table lives: a suspend changes nothing about that (facts: region hash). */
  #writesOneLeg: boolean;
  #kept: KeptState | null = null;

  /** @param memory outlives the process; the table's state is kept there. Null: nowhere. */
  constructor(replica: Replica, reconnected: boolean, memory: LogMemory | null = null) {
    this.parameters = replica.parameters;
    this.replica = replica;
    this.#reconnected = reconnected;
    this.#writesOneLeg = reconnected;
    if (memory !== null) this.#kept = new KeptState(memory, []);
  }

  /** The kernel used the log before anybody here knew it, and has not been suspended since: nobody knows what it has marked. */
  get marksUnknown(): boolean {
    return this.#reconnected;
  }

  get state(): LogState {
    if (this.#state === 'live' && this.replica.mirror === 'resuming') return 'resuming';
    return this.#state;
  }

  get needsTick(): boolean {
    return this.replica.needsTick;
  }

  request(view: FrameView, port: number, effects: Effects): void {
    const clusterEffects = effects as ClusterEffects;
    if (this.#missedResume(view)) {
      effects.reply = ReplyKind.UNKNOWN;
      return;
    }
    switch (view.type) {
      case RequestType.IN_SYNC:
        return this.#inSync(view, effects);
      case RequestType.MARK_REGION:
        return this.#mark(view, port, clusterEffects);
      case RequestType.CLEAR_REGION:
        return this.#clear(view, clusterEffects);
      case RequestType.FLUSH:
        return this.#flush(view, port, clusterEffects);
      case RequestType.IS_REMOTE_RECOVERING:
        return this.#isRemoteRecovering(view, effects);
      case RequestType.GET_SYNC_COUNT:
        return this.#syncCount(effects);
      case RequestType.GET_RESYNC_WORK:
        return this.replica.askForWork(view.seq, port, clusterEffects);
      case RequestType.SET_REGION_SYNC:
        return this.#setRegionSync(view, clusterEffects);
      case RequestType.IS_CLEAN:
        return this.#isClean(view, effects);
      default:
        return this.#lifecycle(view, port, clusterEffects);
    }
  }

  tick(nowMs: number, effects: Effects): void {
    this.replica.tick(nowMs, effects as ClusterEffects);
  }

  /** Takes over what an earlier process left of this table; the rest is in the replica, whose memory was found before. */
  restore(memory: LogMemory): string | null {
    const record = readRecord(memory.control);
    const found = record === null ? null : readKeptValues(record.subarray(1));
    if (found === null) return 'the record of its state is damaged';
    this.#kept = new KeptState(memory, []);
    // Live, and the replica is not: the table was being resumed, and its kernel says so again. Suspended, and the replica is live: so it does.
    const goesOn = this.replica.goOnFor(this, found.state);
    if (found.state === 'suspended' || goesOn) this.#state = found.state;
    if (goesOn) this.#reconnected = (found.flags & Flag.RECONNECTED) !== 0;
    this.#writesOneLeg = (found.flags & Flag.WRITES_ONE_LEG) !== 0;
    return null;
  }

  summary(): LogSummary {
    const { replica } = this;
    const { state } = replica;
    return {
      type: this.parameters.typeName,
      state: this.state,
      regionSizeSectors: this.parameters.regionSizeSectors,
      regionCount: this.parameters.regionCount,
      inSyncCount: replica.inSyncCount,
      dirtyCount: this.parameters.regionCount - (state?.clean.count ?? 0),
      recovering: replica.recovery.handedOut < 0 ? null : replica.recovery.handedOut,
      deviceStatus: replica.image?.deviceStatus ?? null,
    };
  }

  countRegions(from: number, to: number): ReturnType<DirtyLog['countRegions']> {
    const { state } = this.replica;
    if (state === null) return { inSync: 0, clean: 0 };
    const stale = state.stale.countRange(from, to);
    return { inSync: state.inSync.countRange(from, to) - stale, clean: state.clean.countRange(from, to) };
  }

  checkInvariants(): void {
    this.replica.checkInvariants();
  }

  get #owns(): boolean {
    return this.replica.isOwner(this);
  }

  #missedResume(view: FrameView): boolean {
    if (this.#state === 'destroyed') return true;
    if (this.#state === 'constructed') return asksOfRegions(view.type);
    // The last CLEAR and FLUSH of a suspended mirror come after POSTSUSPEND; new work does not.
    return this.#state === 'suspended' && startsWork(view);
  }

  /** Null if one of the payload's regions is out of range. */
  #regions(view: FrameView): number[] | null {
    const regions: number[] = [];
    for (let i = 0; i < view.regionCount; i++) {
      const region = view.region(i);
      if (!(region < this.parameters.regionCount)) return null;
      regions.push(region);
    }
    return regions;
  }

  #mark(view: FrameView, port: number, effects: ClusterEffects): void {
    const regions = this.#regions(view);
    if (regions === null) return effects.fail(Errno.EINVAL);
    this.replica.mark(regions);
    // Without quorum nothing that changes the state is answered (design rule 22).
    if (this.replica.operational) effects.ack();
    else this.replica.flush(view.seq, port, effects);
  }

  #clear(view: FrameView, effects: ClusterEffects): void {
    const regions = this.#regions(view);
    if (regions === null) return effects.fail(Errno.EINVAL);
    effects.ack();
    if (this.#state === 'live' && this.#owns) this.replica.clear(regions, effects);
  }

  #flush(view: FrameView, port: number, effects: ClusterEffects): void {
    const regions = this.#regions(view);
    if (regions === null) return effects.fail(Errno.EINVAL);
    if (regions.length > 0) this.replica.mark(regions);
    this.replica.flush(view.seq, port, effects);
  }

  #inSync(view: FrameView, effects: Effects): void {
    const region = view.region(0);
    // Out of range, or no state at the moment: silence (design rule 9).
    if (this.replica.state === null || !(region < this.parameters.regionCount)) return;
    const isInSync = this.replica.isInSync(region);
    if (!isInSync && this.replica.state.givenUp.get(region)) {
      // Silence: asked again as soon as the image shows it.
      if (!this.replica.imageShowsGivenUp) return;
      this.#noteOneLeg(region);
    }
    effects.value(isInSync ? 1 : 0);
  }

  #noteOneLeg(region: number): void {
    this.replica.noteOneLeg(region);
    if (this.#writesOneLeg) return;
    this.#writesOneLeg = true;
    this.#become(this.#state);
  }

  #isClean(view: FrameView, effects: Effects): void {
    const region = view.region(0);
    const { state } = this.replica;
    if (!(region < this.parameters.regionCount)) return effects.fail(Errno.EINVAL);
    if (state !== null) effects.value(state.clean.get(region) ? 1 : 0);
  }

  #syncCount(effects: Effects): void {
    const { replica } = this;
    // Refused: none, and the kernel does not wait 15 s for being told so.
    if (this.#state === 'constructed' || replica.state !== null || replica.refusal !== null)
      effects.value(replica.inSyncCount);
  }

  /**
   * A region that is not in sync is always called "recovering": the kernel then holds the write back. Were it let through, this kernel would write it on one leg only,
   * for as long as its table lives, while another node recovers it. Exceptions: what this kernel itself recovers, and what nobody may recover any more.
   */
  #isRemoteRecovering(view: FrameView, effects: Effects): void {
    const region = view.region(0);
    const { replica } = this;
    const { state } = replica;
    if (!(region < this.parameters.regionCount)) return effects.fail(Errno.EINVAL);
    if (state === null) return;
    const wait = replica.mustWait(region);
    effects.pair(wait ? 1 : 0, replica.syncHint);
  }

  #setRegionSync(view: FrameView, effects: ClusterEffects): void {
    const region = view.region(0);
    if (!(region < this.parameters.regionCount)) return effects.fail(Errno.EINVAL);
    if (!view.inSync()) this.#noteOneLeg(region);
    this.replica.setRegionSync(region, view.inSync(), effects);
  }

  #lifecycle(view: FrameView, port: number, effects: ClusterEffects): void {
    switch (view.type) {
      case RequestType.GET_REGION_SIZE:
        return effects.value(this.parameters.regionSizeSectors);
      case RequestType.RESUME:
        return this.#resume(view, port, effects);
      case RequestType.PRESUSPEND:
        if (this.#owns) this.replica.stopRecovery(effects);
        return effects.ack();
      case RequestType.POSTSUSPEND:
        if (this.#state !== 'live' && this.#state !== 'suspended') return effects.ack();
        this.#reconnected = false;
        this.#become('suspended');
        if (this.#owns) this.replica.suspend(view.seq, port, this.#writesOneLeg, effects);
        else effects.ack();
        return;
      case RequestType.DTR:
        this.#become('destroyed');
        effects.destroyed = true;
        return effects.ack();
      case RequestType.STATUS_INFO:
        effects.reply = ReplyKind.TEXT;
        effects.text = this.#statusText();
        return;
      case RequestType.STATUS_TABLE:
        effects.reply = ReplyKind.TEXT;
        effects.text = this.parameters.argumentText;
        return;
      default:
        return effects.fail(Errno.EINVAL);
    }
  }

  #become(state: LogState): void {
    this.#state = state;
    if (this.#kept === null) return;
    const flags = (this.#reconnected ? Flag.RECONNECTED : 0) | (this.#writesOneLeg ? Flag.WRITES_ONE_LEG : 0);
    keepValues(this.#kept.values, state, flags, -1, 0);
    this.#kept.commit();
  }

  #resume(view: FrameView, port: number, effects: ClusterEffects): void {
    if (this.#state === 'live' && this.#owns && this.replica.mirror === 'live') return effects.ack();
    this.#become('live');
    const how = { reconnected: this.#reconnected, writesOneLeg: this.#writesOneLeg };
    this.replica.resume(this, view.seq, port, how, effects);
  }

  #statusText(): string {
    const { typeName, device } = this.parameters;
    if (device === null) return `1 ${typeName}`;
    return `3 ${typeName} ${this.replica.deviceNumber} ${this.replica.image?.deviceStatus ?? 'A'}`;
  }
}
