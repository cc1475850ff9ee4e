import { RegionBitmap } from '@dmlog/bitmap';
import { Errno, type FrameView, REGIONS_PER_REQUEST_MAX, RequestType } from '@dmlog/protocol';
import { type Effects, ReplyKind } from './effects.js';
import type { LogParameters } from './parameters.js';

/** Where a log stands in the exchange of tables. */
export type LogState =
  /** Made by CTR, never resumed: the inactive table's log. */
  | 'constructed'
  /** RESUME was asked and waits for the image. */
  | 'resuming'
  /** The live table's log. */
  | 'live'
  /** The live table's log, its device suspended. */
  | 'suspended'
  /** DTR was asked. Every further request is unknown. */
  | 'destroyed';

/** What an operator sees of a log. */
export interface LogSummary {
  readonly type: string;
  readonly state: LogState;
  readonly regionSizeSectors: number;
  readonly regionCount: number;
  readonly inSyncCount: number;
  /** Regions that are not clean: marked, held by lazy clear, or out of sync. */
  readonly dirtyCount: number;
  /** The region handed out for recovery, or null. */
  readonly recovering: number | null;
  /** `A` alive, `D` log device failed, `F` its flush failed; null without a log device. */
  readonly deviceStatus: 'A' | 'D' | 'F' | null;
}

/** What every log type offers to the daemon. All calls are synchronous and pure: they change the log and fill `effects`. */
export interface DirtyLog {
  readonly parameters: LogParameters;
  readonly state: LogState;
  /** True while something waits for time to pass: call `tick` a few times a second. */
  readonly needsTick: boolean;
  /** Serves a request of any type but CTR. `port` is kept for late replies only. */
  request(view: FrameView, port: number, effects: Effects): void;
  /** `nowMs` is a monotonic clock in milliseconds with any origin. */
  tick(nowMs: number, effects: Effects): void;
  summary(): LogSummary;
  /** Throws when a numbered invariant does not hold. For tests and the simulator. */
  checkInvariants(): void;
}

/** What stands for the bitmaps of a log that was not resumed. */
const NOTHING = new RegionBitmap(0);

/**
 * The log that lives in memory: the kernel's `core` log (drivers/md/dm-log.c) with the repairs of the design rules.
 *
 * Invariants:
 * 1. `clean` is a subset of `inSync`: what is not in sync is never clean.
 * 2. A region under recovery was not in sync when it was handed out, and there is at most one.
 * 3. `inSync.count` and `clean.count` are the number of their set bits.
 *
 * `DiskLog` builds on it: it overrides the protected hooks, which say what changed.
 */
export class CoreLog implements DirtyLog {
  readonly parameters: LogParameters;
  readonly regionCount: number;
  /** Bit set: all legs agree. Empty until RESUME. */
  protected inSync = NOTHING;
  /** Bit set: no write is under way, and the medium may say so. Kernel bit order: it is the image's bitmap. Empty until RESUME. */
  protected clean = NOTHING;
  #state: LogState = 'constructed';
  /** The region handed out for recovery, −1 if none. */
  #lease = -1;
  /** Where the search for work goes on: a region that could not be recovered is not offered again before RESUME. */
  #searchFrom = 0;
  /** Everything is in sync from RESUME on. */
  readonly #beginsInSync: boolean;
  /** Regions of the request being served. */
  readonly #regions = new Float64Array(REGIONS_PER_REQUEST_MAX);

  /**
   * @param reconnected the kernel already uses this log and its state is gone: nothing is believed to be in sync, whatever
   *   the arguments say (design rule 10).
   */
  constructor(parameters: LogParameters, reconnected = false) {
    this.parameters = parameters;
    this.regionCount = parameters.regionCount;
    this.#beginsInSync = parameters.kind === 'core' && parameters.syncMode === 'nosync' && !reconnected;
  }

  get state(): LogState {
    return this.#state;
  }

  get needsTick(): boolean {
    return false;
  }

  get inSyncCount(): number {
    return this.#beginsInSync && this.#state === 'constructed' ? this.regionCount : this.inSync.count;
  }

  /** False for all regions until RESUME. */
  isInSync(region: number): boolean {
    return this.#state !== 'constructed' && this.inSync.get(region);
  }

  /** False for all regions until RESUME. */
  isClean(region: number): boolean {
    return this.#state !== 'constructed' && this.clean.get(region);
  }

  request(view: FrameView, port: number, effects: Effects): void {
    if (this.#missedResume(view)) {
      effects.reply = ReplyKind.UNKNOWN;
      return;
    }
    switch (view.type) {
      case RequestType.IN_SYNC:
        return this.#inSync(view, effects);
      case RequestType.MARK_REGION:
        return this.#mark(view, effects);
      case RequestType.CLEAR_REGION:
        return this.#clear(view, effects);
      case RequestType.FLUSH:
        return this.#flush(view, port, effects);
      case RequestType.IS_REMOTE_RECOVERING:
        return this.#isRemoteRecovering(view, effects);
      case RequestType.GET_SYNC_COUNT:
        return effects.value(this.inSyncCount);
      case RequestType.GET_RESYNC_WORK:
        return this.#getResyncWork(effects);
      case RequestType.SET_REGION_SYNC:
        return this.#setRegionSync(view, effects);
      case RequestType.IS_CLEAN:
        return this.#isClean(view, effects);
      default:
        return this.#lifecycle(view, port, effects);
    }
  }

  tick(_nowMs: number, _effects: Effects): void {}

  summary(): LogSummary {
    return {
      type: this.parameters.typeName,
      state: this.#state,
      regionSizeSectors: this.parameters.regionSizeSectors,
      regionCount: this.regionCount,
      inSyncCount: this.inSyncCount,
      dirtyCount: this.regionCount - this.clean.count,
      recovering: this.#lease < 0 ? null : this.#lease,
      deviceStatus: null,
    };
  }

  checkInvariants(): void {
    if (this.#state === 'constructed') return;
    let inSync = 0;
    let clean = 0;
    for (let region = 0; region < this.regionCount; region++) {
      const isInSync = this.inSync.get(region);
      const isClean = this.clean.get(region);
      if (isInSync) inSync++;
      if (isClean) clean++;
      if (isClean && !isInSync) throw new Error(`invariant 1: region ${region} is clean but not in sync`);
    }
    if (inSync !== this.inSync.count) {
      throw new Error(`invariant 3: ${inSync} regions are in sync, the count says ${this.inSync.count}`);
    }
    if (clean !== this.clean.count) {
      throw new Error(`invariant 3: ${clean} regions are clean, the count says ${this.clean.count}`);
    }
  }

  /** Memory that grows with the region count is taken here, at the first RESUME: CTR costs the same for any number of regions. */
  protected allocate(): void {
    this.inSync = new RegionBitmap(this.regionCount, { searchOnes: false });
    this.clean = new RegionBitmap(this.regionCount, { searchOnes: false, searchZeros: false });
  }

  // What a log with a medium adds. The core log has nothing to wait for.

  /** `region` has turned from clean to dirty. */
  protected onDirtied(_region: number): void {}

  /** The kernel marked a region, dirty or not. */
  protected onMarked(_region: number): void {}

  /** The kernel cleared a region that is in sync and not clean. */
  protected onCleared(region: number, _effects: Effects): void {
    this.clean.set(region);
  }

  protected onFlush(_view: FrameView, _port: number, effects: Effects): void {
    effects.ack();
  }

  /** RESUME of a constructed log. Ends in {@link becomeLive}. */
  protected onFirstResume(_view: FrameView, _port: number, effects: Effects): void {
    if (this.#beginsInSync) {
      this.inSync.fill(true);
      this.clean.fill(true);
    }
    this.becomeLive();
    effects.ack();
  }

  protected onSuspended(_view: FrameView, _port: number, effects: Effects): void {
    effects.ack();
  }

  /** Whoever still waits is answered: the kernel has given the log up, and no answer may stay owed. */
  protected onDestroyed(_effects: Effects): void {}

  protected statusText(): string {
    return `1 ${this.parameters.typeName}`;
  }

  protected becomeResuming(): void {
    this.#state = 'resuming';
  }

  protected becomeLive(): void {
    this.#state = 'live';
    this.#searchFrom = 0;
  }

  /**
   * The kernel takes the log for a live one and it is not: RESUME failed once and is not repeated (a daemon's end, for one). "Unknown" makes the kernel
   * resume the log and ask again. Before the first RESUME nothing is known of any region. A suspended log still gets the CLEAR and FLUSH of
   * the last writes after POSTSUSPEND (dm-raid1.c: the worker is not waited for), but no new work and no new write.
   */
  #missedResume(view: FrameView): boolean {
    switch (this.#state) {
      case 'destroyed':
        return true;
      case 'constructed':
        return asksOfRegions(view.type);
      case 'suspended':
        return startsWork(view);
      default:
        return false;
    }
  }

  #mark(view: FrameView, effects: Effects): void {
    if (this.#markAll(view)) effects.ack();
    else effects.fail(Errno.EINVAL);
  }

  /** Reads the payload's regions into `#regions`; false if one of them is out of range. Nothing is changed before all were looked at. */
  #readRegions(view: FrameView): boolean {
    const count = view.regionCount;
    const regions = this.#regions;
    const limit = this.regionCount;
    for (let i = 0; i < count; i++) {
      const region = view.region(i);
      if (!(region < limit)) return false;
      regions[i] = region;
    }
    return true;
  }

  /** Marks every region that the payload names, and none if one of them is out of range. */
  #markAll(view: FrameView): boolean {
    if (!this.#readRegions(view)) return false;
    const count = view.regionCount;
    const regions = this.#regions;
    const clean = this.clean;
    for (let i = 0; i < count; i++) {
      const region = regions[i] as number;
      this.onMarked(region);
      if (clean.clear(region)) this.onDirtied(region);
    }
    return true;
  }

  #clear(view: FrameView, effects: Effects): void {
    if (!this.#readRegions(view)) return effects.fail(Errno.EINVAL);
    const count = view.regionCount;
    const regions = this.#regions;
    const { clean, inSync } = this;
    for (let i = 0; i < count; i++) {
      const region = regions[i] as number;
      // The kernel's core log would call a region clean that is not in sync; its recovery alone may do so here.
      if (!clean.get(region) && inSync.get(region)) this.onCleared(region, effects);
    }
    effects.ack();
  }

  #flush(view: FrameView, port: number, effects: Effects): void {
    if (!this.#markAll(view)) return effects.fail(Errno.EINVAL);
    this.onFlush(view, port, effects);
  }

  #inSync(view: FrameView, effects: Effects): void {
    const region = view.region(0);
    // Out of range, or the image is still being read: silence (design rule 9).
    if (this.#state === 'resuming' || !(region < this.regionCount)) return;
    effects.value(this.inSync.get(region) ? 1 : 0);
  }

  #isClean(view: FrameView, effects: Effects): void {
    const region = view.region(0);
    if (region < this.regionCount) effects.value(this.clean.get(region) ? 1 : 0);
    else effects.fail(Errno.EINVAL);
  }

  /**
   * No other machine recovers a region of this log. The hint tells the kernel below which region never to ask again; with work left it must
   * stay below the region count, or the kernel stops to ask for work (facts: in_sync_hint). One less is the best hint that is true:
   * it limits writes of the last region only.
   */
  #isRemoteRecovering(view: FrameView, effects: Effects): void {
    if (!(view.region(0) < this.regionCount)) return effects.fail(Errno.EINVAL);
    const done = this.inSync.count === this.regionCount;
    effects.pair(0, done ? this.regionCount : this.regionCount - 1);
  }

  #getResyncWork(effects: Effects): void {
    if (this.#lease < 0 && this.#state === 'live' && this.#searchFrom < this.regionCount) {
      this.#lease = this.inSync.nextZero(this.#searchFrom);
      this.#searchFrom = this.#lease < 0 ? this.regionCount : this.#lease + 1;
    }
    // A repeated question gets the same region: the kernel recovers one at a time, so it lost the first answer.
    if (this.#lease < 0) effects.pair(0, 0);
    else effects.pair(1, this.#lease);
  }

  #setRegionSync(view: FrameView, effects: Effects): void {
    const region = view.region(0);
    if (!(region < this.regionCount)) return effects.fail(Errno.EINVAL);
    if (region === this.#lease) this.#lease = -1;
    if (view.inSync()) {
      this.inSync.set(region);
    } else {
      this.inSync.clear(region);
      this.onMarked(region);
      if (this.clean.clear(region)) this.onDirtied(region);
    }
    effects.ack();
  }

  #lifecycle(view: FrameView, port: number, effects: Effects): void {
    switch (view.type) {
      case RequestType.GET_REGION_SIZE:
        return effects.value(this.parameters.regionSizeSectors);
      case RequestType.RESUME:
        return this.#resume(view, port, effects);
      case RequestType.PRESUSPEND:
        // The kernel has stopped recovery; what was handed out will not come back.
        this.#lease = -1;
        return effects.ack();
      case RequestType.POSTSUSPEND:
        this.#lease = -1;
        if (this.#state !== 'live') return effects.ack();
        this.#state = 'suspended';
        return this.onSuspended(view, port, effects);
      case RequestType.DTR:
        this.#state = 'destroyed';
        effects.destroyed = true;
        this.onDestroyed(effects);
        return effects.ack();
      case RequestType.STATUS_INFO:
        effects.reply = ReplyKind.TEXT;
        effects.text = this.statusText();
        return;
      case RequestType.STATUS_TABLE:
        effects.reply = ReplyKind.TEXT;
        effects.text = this.parameters.argumentText;
        return;
      default:
        return effects.fail(Errno.EINVAL);
    }
  }

  #resume(view: FrameView, port: number, effects: Effects): void {
    // RESUME of a live log is a repetition, or follows a reconnect: the kernel goes on in the middle of its work, and so does the log.
    if (this.#state === 'live') return effects.ack();
    if (this.#state === 'suspended') {
      this.becomeLive();
      return effects.ack();
    }
    if (this.#state === 'constructed') this.allocate();
    this.onFirstResume(view, port, effects);
  }
}

/** Requests about single regions, and FLUSH: they make sense on a resumed log only. GET_SYNC_COUNT is asked before, too. */
function asksOfRegions(type: number): boolean {
  return (
    (type >= RequestType.IS_CLEAN && type <= RequestType.SET_REGION_SYNC) ||
    type === RequestType.IS_REMOTE_RECOVERING
  );
}

/** Requests that a suspended mirror does not make: recovery is stopped before PRESUSPEND, and all writes have ended before POSTSUSPEND. */
function startsWork(view: FrameView): boolean {
  return (
    view.type === RequestType.GET_RESYNC_WORK ||
    view.type === RequestType.MARK_REGION ||
    (view.type === RequestType.FLUSH && view.regionCount > 0)
  );
}
