import { RegionBitmap } from '@dmlog/bitmap';
import { Errno, type FrameView, REGIONS_PER_REQUEST_MAX, RequestType } from '@dmlog/protocol';
import type { DirtyLog, LogState, LogSummary, RegionCounts } from './dirty-log.js';
import { type Effects, ReplyKind } from './effects.js';
import { keepValues, readKeptValues } from './kept-record.js';
import {
  bodyBytes,
  heapBitmap,
  KeptState,
  keepOnly,
  type LogMemory,
  type MemoryHome,
  readRecord,
  type Section,
} from './log-memory.js';
import type { LogParameters } from './parameters.js';
import { asksOfRegions, startsWork } from './request-kinds.js';

/** Bitmaps of every log in its memory, by index; a log type's own follow. */
export const CORE_SECTIONS = { inSync: 0, clean: 1, count: 2 } as const;

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
  readonly #home: MemoryHome | null;
  /** The state that a later process finds; null while there is none, or for a log without a home. */
  #kept: KeptState | null = null;

  /**
   * @param reconnected the kernel already uses this log and its state is gone: nothing is believed to be in sync, whatever
   *   the arguments say (design rule 10).
   * @param home where the log's state is kept for the process that comes after this one. Null: nowhere.
   */
  constructor(parameters: LogParameters, reconnected = false, home: MemoryHome | null = null) {
    this.parameters = parameters;
    this.#home = home;
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

  /**
   * Takes over what a process that died left of this very log, before any request. Safe to be cut short by the next death, at any instruction. A log
   * that was not resumed yet stays constructed. Returns null, or why the state cannot be believed: the log must then be thrown away.
   */
  restore(memory: LogMemory): string | null {
    const record = readRecord(memory.control);
    if (record === null) return 'its record is damaged';
    const found = readKeptValues(record.subarray(1));
    const state = found?.state ?? 'destroyed';
    if (state === 'constructed' || state === 'resuming') return null;
    if (found === null || (state !== 'live' && state !== 'suspended')) return 'its record makes no sense';
    const sections = this.sections();
    if (memory.body.byteLength !== bodyBytes(sections)) return 'it was cut, or belongs to another geometry';
    const kept = new KeptState(memory, sections);
    if (!kept.isWhole(CORE_SECTIONS.inSync)) return 'the record of what is in sync is damaged';
    this.#kept = kept;
    this.#state = state;
    this.#searchFrom = Math.min(found.searchFrom, this.regionCount);
    this.adoptKept(kept, found.flags);
    this.#lease =
      found.lease >= 0 && found.lease < this.regionCount && !this.inSync.get(found.lease) ? found.lease : -1;
    this.commit();
    return null;
  }

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

  countRegions(from: number, to: number): RegionCounts {
    // Before RESUME there are no bitmaps; asked for after DTR, they may be gone.
    if (this.#state === 'constructed' || this.#state === 'destroyed' || this.inSync === NOTHING)
      return { inSync: 0, clean: 0 };
    return { inSync: this.inSync.countRange(from, to), clean: this.clean.countRange(from, to) };
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
  #allocate(): void {
    const sections = this.sections();
    const memory = this.#home?.(bodyBytes(sections)) ?? null;
    if (memory === null) {
      this.takeBitmaps((index) => heapBitmap(sections[index] as Section));
      return;
    }
    const kept = new KeptState(memory, sections);
    kept.sealAfresh();
    this.takeBitmaps((index) => kept.bitmap(index));
    this.#kept = kept;
  }

  /** Makes what the fields say the state that a later process finds. Before any reply that rests on it leaves; bitmaps need no commit. */
  protected commit(): void {
    const kept = this.#kept;
    if (kept === null) return;
    keepValues(kept.values, this.keptState, this.keptFlags, this.#lease, this.#searchFrom);
    kept.commit();
  }

  // What a log type keeps for the process after this one, besides lease and search.

  /** The bitmaps of {@link takeBitmaps}, in its order. */
  protected sections(): Section[] {
    const bits = this.regionCount;
    return [
      { bits, searchZeros: true, searchOnes: false },
      { bits, searchZeros: false, searchOnes: false },
    ];
  }

  protected takeBitmaps(take: (index: number) => RegionBitmap): void {
    this.inSync = take(CORE_SECTIONS.inSync);
    this.clean = take(CORE_SECTIONS.clean);
  }

  /**
   * Takes the bitmaps over and makes them consistent: the process may have died between two bits that belong together. Every bit is changed on its
   * own, so that the next death may come at any time. A damaged bitmap begins empty: nothing is clean then, which is always safe.
   */
  protected adoptKept(kept: KeptState, _flags: number): void {
    this.takeBitmaps((index) => kept.bitmap(index, !kept.isWhole(index)));
    keepOnly(this.clean, this.inSync);
  }

  /** The state as a later process should find it. */
  protected get keptState(): LogState {
    return this.#state;
  }

  protected get keptFlags(): number {
    return 0;
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

  /** POSTSUSPEND was repeated. */
  protected onSuspendedAgain(_view: FrameView, _port: number, effects: Effects): void {
    effects.ack();
  }

  /** Whoever still waits is answered: the kernel has given the log up, and no answer may stay owed. */
  protected onDestroyed(_effects: Effects): void {}

  protected statusText(): string {
    return `1 ${this.parameters.typeName}`;
  }

  protected becomeResuming(): void {
    this.#state = 'resuming';
    this.commit();
  }

  protected becomeLive(): void {
    this.#state = 'live';
    this.#searchFrom = 0;
    this.commit();
  }

  protected becomeSuspended(): void {
    this.#state = 'suspended';
    this.#lease = -1;
    this.commit();
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
      this.commit();
    }
    // A repeated question gets the same region: the kernel recovers one at a time, so it lost the first answer.
    if (this.#lease < 0) effects.pair(0, 0);
    else effects.pair(1, this.#lease);
  }

  #setRegionSync(view: FrameView, effects: Effects): void {
    const region = view.region(0);
    if (!(region < this.regionCount)) return effects.fail(Errno.EINVAL);
    const wasLeased = region === this.#lease;
    if (wasLeased) this.#lease = -1;
    if (view.inSync()) {
      this.inSync.set(region);
    } else {
      this.inSync.clear(region);
      this.onMarked(region);
      if (this.clean.clear(region)) this.onDirtied(region);
    }
    // After the bit: a lease that is kept too long is offered again, one that is forgotten too early is not.
    if (wasLeased) this.commit();
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
        this.commit();
        return effects.ack();
      case RequestType.POSTSUSPEND:
        return this.#postsuspend(view, port, effects);
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

  #postsuspend(view: FrameView, port: number, effects: Effects): void {
    this.#lease = -1;
    if (this.#state === 'suspended') return this.onSuspendedAgain(view, port, effects);
    if (this.#state !== 'live') return effects.ack();
    this.#state = 'suspended';
    this.onSuspended(view, port, effects);
    this.commit();
  }

  #resume(view: FrameView, port: number, effects: Effects): void {
    // RESUME of a live log is a repetition, or follows a reconnect: the kernel goes on in the middle of its work, and so does the log.
    if (this.#state === 'live') return effects.ack();
    if (this.#state === 'suspended') {
      this.becomeLive();
      return effects.ack();
    }
    if (this.#state === 'constructed') this.#allocate();
    this.onFirstResume(view, port, effects);
  }
}
