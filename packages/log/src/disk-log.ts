import { BlockSet, bitmapBytes, RegionBitmap } from '@dmlog/bitmap';
import { Errno, type FrameView } from '@dmlog/protocol';
import { CORE_SECTIONS, CoreLog } from './core-log.js';
import type { LogState, LogSummary } from './dirty-log.js';
import { type Effects, ReplyKind, Waiters } from './effects.js';
import {
  adoptBits,
  adoptHeader,
  BITMAP_OFFSET,
  blockOfRegion,
  collectDifferences,
  imageBytes,
  isCleanIn,
  stageBlock,
} from './image.js';
import { LazyClears } from './lazy-clears.js';
import type { KeptState, MemoryHome, Section } from './log-memory.js';
import type { LogParameters } from './parameters.js';

/** How lazy clears behave; {@link LAZY_CLEAR_DEFAULT}. */
export interface LazyClearOptions {
  /** A region stays dirty for one to two of these after its CLEAR, in milliseconds. 0: it becomes clean as soon as the legs are flushed. */
  readonly milliseconds: number;
  /** Regions held dirty at most; past it the older ones are released early. */
  readonly regionsMax: number;
}

export const LAZY_CLEAR_DEFAULT: LazyClearOptions = { milliseconds: 3000, regionsMax: 65_536 };

/** After a failed flush of the legs or write of clears, the next attempt comes this much later at the earliest. */
export const RETRY_MS = 1000;

/** POSTSUSPEND waits this long for the legs' flush, then goes on with the regions dirty: below the kernel's 15 s (DM_ULOG_RETRY). */
export const SUSPEND_FLUSH_MS_MAX = 5000;

/** Blocks of clears in one write: a FLUSH that arrives meanwhile waits for it. */
export const CLEAR_BLOCKS_PER_WRITE_MAX = 256;

/** Flags of the kept record. Append only. */
const KEPT_MARKS_UNKNOWN = 1;
const KEPT_REFUSED = 2;

/** Bitmaps of the log's memory that follow the core log's. `unsure` has a bit per block of the image. */
const SECTIONS = {
  young: CORE_SECTIONS.count,
  old: CORE_SECTIONS.count + 1,
  unsure: CORE_SECTIONS.count + 2,
} as const;

/** Runs of such blocks in one write: as many as a store writes at once, so that the FLUSH waits for one latency of the device. */
export const CLEAR_RUNS_PER_WRITE_MAX = 16;

export interface DiskLogInit {
  readonly parameters: LogParameters;
  /** `major:minor` of the log device, for STATUS_INFO. */
  readonly deviceNumber: string;
  /** Unit of writes in bytes: a multiple of the device's logical block, at most 4096. */
  readonly blockBytes: number;
  /** Memory for the image, at least `imageBytes(regionCount, blockBytes)`; aligned as the device's I/O needs it. */
  readonly image: Uint8Array;
  readonly lazyClear?: LazyClearOptions;
  /** The kernel already uses this log (a reconnect): the image is believed, whatever `sync` or `nosync` say. */
  readonly reconnected?: boolean;
  /** Where the state is kept for the process after this one. Default: nowhere. */
  readonly home?: MemoryHome | null;
}

/**
 * The log whose state survives a power cut: the kernel's `disk` log with lazy clears, group commit and writes of changed blocks only.
 *
 * `image` is the *shadow*: the bytes that were last given to the device. Until the write of a block has ended, nothing in it counts as stable.
 * `clean` is what the image may say. A MARK puts the block of a region whose shadow bit is 1 into `#must`; FLUSH waits until the writes that
 * cover `#must` have ended. All flushes that arrive during a write share the next one.
 *
 * Invariants, besides those of `CoreLog`:
 * 4. A region that is not clean and whose shadow bit is 1 lies in a block of `#must`.
 * 5. A region held by lazy clear is in sync and not clean.
 * 6. A shadow bit is 1 only for a region that was clean when its block was last given to the device: the legs had been flushed.
 */
export class DiskLog extends CoreLog {
  /** The bytes to write. Changed only while no write is under way. */
  readonly image: Uint8Array;
  readonly blockBytes: number;
  /** (offset, length) pairs in bytes, {@link runCount} of them: what the current write consists of. */
  readonly runs: number[] = [];
  runCount = 0;

  readonly #deviceNumber: string;
  #lazy = new LazyClears(new RegionBitmap(0), new RegionBitmap(0));
  #lazyOptions: LazyClearOptions;
  /** Blocks with marks (or a header) that the medium does not have. */
  readonly #must: BlockSet;
  /** Blocks with clears that the medium does not have; may wait. */
  readonly #may: BlockSet;
  /** Blocks of the write under way. */
  readonly #writing: BlockSet;
  /**
   * Blocks given to the device whose write has not ended well: nobody can tell what the medium has of them. In kept memory, because a restarted daemon must
   * write them again before it answers a FLUSH. Empty before RESUME.
   */
  #unsure = new RegionBitmap(0);
  #writeUnderWay = false;
  /** The write under way covers marks, not only clears. */
  #writingMarks = false;
  readonly #waitCurrent = new Waiters();
  readonly #waitNext = new Waiters();
  readonly #waitResume = new Waiters();
  readonly #waitSuspend = new Waiters();
  readonly #reconnected: boolean;
  /**
   * The kernel goes on with a log whose daemon died: it may hold regions for marked whose FLUSH only we will see, and will not mark them again. So
   * every region is dirty on the medium, in sync or not, until the kernel clears it, or no write can be under way (POSTSUSPEND).
   */
  #marksUnknown = false;
  /** The flush of the legs under way was begun after POSTSUSPEND. */
  #drainFlushing = false;
  #deviceStatus: 'A' | 'D' | 'F' = 'A';
  /** The image is of a kind that must not be overwritten: nothing is ever written. */
  #refused = false;
  /**
   * The header changes: it goes to the device after all other blocks of `#must`. The other way round, a power cut between the two would leave a
   * count that vouches for bits which an older, larger log left behind.
   */
  #headerLast = false;
  /** Clock of the last tick; stands still while no ticks are needed, so times are set from ticks only. */
  #nowMs = 0;
  #sweepAtMs = -1;
  /** A flush of the legs or a write of clears failed: wait for this time, or for the next tick to set it (0 is no wait). */
  #retryAtMs = 0;
  #draining = false;
  #drainUntilMs = -1;
  #drainLegsFailed = false;
  #drainWriteFailed = false;

  constructor(init: DiskLogInit) {
    super(init.parameters, init.reconnected ?? false, init.home ?? null);
    const bytes = imageBytes(this.regionCount, init.blockBytes);
    if (init.image.byteLength < bytes) {
      throw new RangeError(
        `image memory of ${init.image.byteLength} bytes: ${this.regionCount} regions need ${bytes}`,
      );
    }
    this.image = init.image.subarray(0, bytes);
    this.blockBytes = init.blockBytes;
    this.#deviceNumber = init.deviceNumber;
    this.#lazyOptions = init.lazyClear ?? LAZY_CLEAR_DEFAULT;
    this.#reconnected = init.reconnected ?? false;
    const blocks = bytes / init.blockBytes;
    this.#must = new BlockSet(blocks);
    this.#may = new BlockSet(blocks);
    this.#writing = new BlockSet(blocks);
  }

  override get needsTick(): boolean {
    return this.#lazy.count > 0 || this.#may.size > 0 || this.#draining;
  }

  /** All regions are dirty on the medium because a dead daemon's marks are not known; ends at the next suspend. */
  get marksUnknown(): boolean {
    return this.#marksUnknown;
  }

  /** Regions that the kernel cleared and that are kept dirty for a while. */
  get lazyCount(): number {
    return this.#lazy.count;
  }

  /** Marks that cost no write because lazy clear held their regions; since this log's first RESUME in this process. */
  get lazyHits(): number {
    return this.#lazy.hits;
  }

  override summary(): LogSummary {
    return { ...super.summary(), deviceStatus: this.#deviceStatus };
  }

  protected override sections(): Section[] {
    const lazy = { bits: this.regionCount, searchZeros: false, searchOnes: true };
    const unsure = { bits: this.#must.blockCount, searchZeros: false, searchOnes: true };
    return [...super.sections(), lazy, lazy, unsure];
  }

  protected override takeBitmaps(take: (index: number) => RegionBitmap): void {
    super.takeBitmaps(take);
    this.#unsure = take(SECTIONS.unsure);
    this.#lazy = new LazyClears(take(SECTIONS.young), take(SECTIONS.old));
  }

  protected override adoptKept(kept: KeptState, flags: number): void {
    // Before the bitmaps are taken, which seals damaged ones as empty ones.
    const lostBlocks = !kept.isWhole(SECTIONS.unsure);
    const lostMarks = [CORE_SECTIONS.clean, SECTIONS.young, SECTIONS.old].some(
      (index) => !kept.isWhole(index),
    );
    super.adoptKept(kept, flags);
    if (lostBlocks) this.#unsure.fill(true);
    // What is neither clean nor known to be held would count as marked for ever.
    this.#marksUnknown = lostMarks || (flags & KEPT_MARKS_UNKNOWN) !== 0;
    this.#refused = (flags & KEPT_REFUSED) !== 0;
    if (this.#refused) this.#deviceStatus = 'D';
    this.#lazy.keepOnly(this.inSync, this.clean);
  }

  /** Until POSTSUSPEND is answered the image is ours, and whoever comes after us has to finish what it waits for. */
  protected override get keptState(): LogState {
    return this.#draining ? 'live' : this.state;
  }

  protected override get keptFlags(): number {
    return (this.#marksUnknown ? KEPT_MARKS_UNKNOWN : 0) | (this.#refused ? KEPT_REFUSED : 0);
  }

  // Requests

  protected override onMarked(region: number): void {
    this.#lazy.takeBack(region);
  }

  protected override onDirtied(region: number): void {
    if (this.#shadowClean(region)) this.#must.add(this.#blockOf(region));
  }

  protected override onCleared(region: number, effects: Effects): void {
    this.#lazy.add(region);
    const { milliseconds, regionsMax } = this.#lazyOptions;
    if (milliseconds === 0 || this.#lazy.count > regionsMax) this.#release(effects);
  }

  protected override onFlush(view: FrameView, port: number, effects: Effects): void {
    if (this.#refused) return effects.fail(Errno.EIO);
    // Of a suspended mirror, and so without marks: there is nothing to wait for, and the image may be another log's.
    if (this.#imageGivenUp) return effects.ack();
    const covered = this.#must.size === 0;
    if (covered && !(this.#writeUnderWay && this.#writingMarks)) return effects.ack();
    const waiters = covered ? this.#waitCurrent : this.#waitNext;
    if (!waiters.add(view.seq, port)) return;
    effects.reply = ReplyKind.LATER;
    this.#startWrite(effects);
  }

  protected override onFirstResume(view: FrameView, port: number, effects: Effects): void {
    if (!this.#waitResume.add(view.seq, port)) return;
    effects.reply = ReplyKind.LATER;
    if (this.state === 'resuming') return;
    this.becomeResuming();
    effects.readImage = true;
  }

  /** The image must say everything before another table's log reads it: POSTSUSPEND is answered when it does. */
  protected override onSuspended(view: FrameView, port: number, effects: Effects): void {
    if (!this.#waitSuspend.add(view.seq, port)) return;
    effects.reply = ReplyKind.LATER;
    this.#draining = true;
    this.#drainUntilMs = -1;
    this.#drainLegsFailed = false;
    this.#drainWriteFailed = this.#refused;
    this.#retryAtMs = 0;
    this.#drain(effects);
  }

  protected override onSuspendedAgain(view: FrameView, port: number, effects: Effects): void {
    if (!this.#draining) return effects.ack();
    if (this.#waitSuspend.add(view.seq, port)) effects.reply = ReplyKind.LATER;
  }

  protected override onDestroyed(effects: Effects): void {
    for (const waiters of [this.#waitCurrent, this.#waitNext, this.#waitResume, this.#waitSuspend]) {
      waiters.answer(Errno.EIO, effects.late);
    }
  }

  protected override statusText(): string {
    return `3 ${this.parameters.typeName} ${this.#deviceNumber} ${this.#deviceStatus}`;
  }

  // Ends of I/O

  /**
   * The image was read into `image`, or could not be read (`errno` > 0). Follows `disk_resume` of dm-log.c, with one difference: after a read
   * error nothing is in sync, under `nosync` too. Returns null, or why the image was refused: then nothing is in sync, nothing is ever
   * written, and every FLUSH fails.
   */
  imageRead(errno: number, effects: Effects): string | null {
    const problem = errno === 0 ? this.#adoptImage() : null;
    if (problem !== null) {
      this.imageRefused(Errno.EINVAL, effects);
      return problem;
    }
    this.becomeLive();
    if (errno !== 0) {
      this.#adoptUnreadable();
      this.#deviceStatus = 'D';
    }
    this.commit();
    if (this.#must.size === 0) {
      this.#waitResume.answer(errno, effects.late);
      return null;
    }
    this.#waitNext.take(this.#waitResume);
    this.#startWrite(effects);
    return null;
  }

  /** After {@link restore}: whether the image has to be read into `image` and {@link imageRestored} called, before any request. */
  get needsImage(): boolean {
    return (this.state === 'live' || this.state === 'suspended') && !this.#refused;
  }

  /**
   * The image was read for a restored log. The medium says itself what it has, but not of the blocks whose write was under way when the last daemon
   * died: a volatile cache may have answered for it. Those are written again, and so is what was marked since.
   */
  imageRestored(errno: number, effects: Effects): void {
    if (errno !== 0) {
      this.#distrustMedium();
      this.#deviceStatus = 'D';
    } else {
      this.#headerLast = adoptHeader(this.image, this.regionCount);
      if (this.#headerLast) this.#must.add(0);
      collectDifferences(this.image, this.clean.bytes, this.blockBytes, this.#must);
    }
    for (let block = this.#unsure.nextOne(0); block >= 0; block = this.#unsure.nextOne(block + 1)) {
      this.#must.add(block);
    }
    this.#startWrite(effects);
  }

  /**
   * Another log of this uuid was resumed, so this one's mirror is suspended, whatever we were told: the image is not ours any more. False while a write is
   * under way: nobody may read the image before it has ended.
   */
  giveUpImage(effects: Effects): boolean {
    if (this.#writeUnderWay) return false;
    if (this.#draining) this.#endDrain(effects);
    this.becomeSuspended();
    return true;
  }

  /** The image must not even be read: another log uses the device. As with a refused image, nothing is in sync and nothing is written. */
  imageRefused(errno: number, effects: Effects): void {
    this.#refused = true;
    this.#deviceStatus = 'D';
    this.becomeLive();
    this.#waitResume.answer(errno, effects.late);
  }

  /** The write of `runs` has ended: on stable media (`errno` 0), or failed, and then nothing is known of its blocks. */
  written(errno: number, effects: Effects): void {
    this.#writeUnderWay = false;
    const headerNext = errno === 0 && this.#headerLast && this.#must.has(0);
    if (errno === 0) {
      this.#headerLast = false;
      for (let block = this.#writing.next(0); block >= 0; block = this.#writing.next(block + 1)) {
        this.#unsure.clear(block);
      }
    } else {
      this.#deviceStatus = 'D';
      for (let block = this.#writing.next(0); block >= 0; block = this.#writing.next(block + 1)) {
        this.#must.add(block);
      }
      this.#retryAtMs = this.#nowMs + RETRY_MS;
      this.#drainWriteFailed = true;
    }
    this.#writing.clear();
    this.#waitCurrent.answer(errno, effects.late);
    // Those that wait for the header do so in vain.
    if (this.#headerLast) this.#waitNext.answer(errno, effects.late);
    if (this.#waitNext.count > 0 || headerNext) this.#startWrite(effects);
    else if (this.#draining) this.#drain(effects);
    else if (errno === 0) this.#startClearWrite(effects);
  }

  /** The flush of the legs has ended. Without it (`flushed` false) the regions stay dirty and are tried again later. */
  legsFlushed(flushed: boolean, effects: Effects): void {
    this.#lazy.releasing = false;
    if (flushed) {
      for (let region = this.#lazy.nextOld(0); region >= 0; region = this.#lazy.nextOld(region + 1)) {
        // In this order: a process that dies between the two leaves a clean region that is held, which is put right at the next start.
        this.clean.set(region);
        this.#lazy.release(region);
        if (!this.#shadowClean(region)) this.#may.add(this.#blockOf(region));
      }
      if (this.#drainFlushing && this.#marksUnknown) this.#believeInSync();
    } else {
      this.#retryAtMs = this.#nowMs + RETRY_MS;
      this.#drainLegsFailed = true;
    }
    this.#drainFlushing = false;
    if (this.#draining) return this.#drain(effects);
    if (flushed && this.#lazyOptions.milliseconds === 0) this.#release(effects);
    this.#startClearWrite(effects);
  }

  override tick(nowMs: number, effects: Effects): void {
    this.#nowMs = nowMs;
    if (this.#draining) {
      if (this.#drainUntilMs < 0) this.#drainUntilMs = nowMs + SUSPEND_FLUSH_MS_MAX;
      else if (nowMs >= this.#drainUntilMs) this.#drainWithoutLegs(effects);
      return;
    }
    if (nowMs < this.#retryAtMs) return;
    this.#startClearWrite(effects);
    if (this.#lazy.count === 0) {
      this.#sweepAtMs = -1;
    } else if (this.#sweepAtMs < 0) {
      this.#sweepAtMs = nowMs + this.#lazyOptions.milliseconds;
    } else if (nowMs >= this.#sweepAtMs && !this.#lazy.releasing) {
      if (this.#lazy.oldCount > 0) this.#release(effects);
      else this.#lazy.age();
      this.#sweepAtMs = nowMs + this.#lazyOptions.milliseconds;
    }
  }

  /** Changes lazy clear from now on. */
  setLazyClear(options: LazyClearOptions): void {
    this.#lazyOptions = options;
    // Nothing waits for the old one's time.
    this.#sweepAtMs = -1;
  }

  override checkInvariants(): void {
    super.checkInvariants();
    if (this.state === 'constructed') return;
    this.#lazy.check();
    for (let region = 0; region < this.regionCount; region++) {
      if (!this.clean.get(region) && this.#shadowClean(region) && !this.#must.has(this.#blockOf(region))) {
        throw new Error(
          `invariant 4: region ${region} is dirty, clean on media, and not waiting to be written`,
        );
      }
      if (this.#lazy.has(region) && (this.clean.get(region) || !this.inSync.get(region))) {
        throw new Error(`invariant 5: region ${region} is held by lazy clear but clean or out of sync`);
      }
    }
  }

  // Image

  /** Null when the image in memory was taken over, else why it must be left alone. */
  #adoptImage(): string | null {
    const mode = this.#reconnected ? 'default' : this.parameters.syncMode;
    const refusal = adoptBits(this.image, this.regionCount, mode, this.clean);
    if (refusal !== null) return refusal;
    this.inSync.copyFrom(this.clean);
    if (this.#reconnected) {
      this.#marksUnknown = true;
      this.clean.fill(false);
    }
    this.#headerLast = adoptHeader(this.image, this.regionCount);
    if (this.#headerLast) this.#must.add(0);
    collectDifferences(this.image, this.clean.bytes, this.blockBytes, this.#must);
    return null;
  }

  /** What is on the device is unknown: everything is out of sync, and every block has to be written. */
  #adoptUnreadable(): void {
    this.#distrustMedium();
    this.clean.fill(false);
    this.inSync.fill(false);
  }

  #distrustMedium(): void {
    this.image.fill(0);
    this.#headerLast = adoptHeader(this.image, this.regionCount);
    this.image.fill(0xff, BITMAP_OFFSET, BITMAP_OFFSET + bitmapBytes(this.regionCount));
    this.#must.addAll();
  }

  #blockOf(region: number): number {
    return blockOfRegion(region, this.blockBytes);
  }

  #shadowClean(region: number): boolean {
    return isCleanIn(this.image, region);
  }

  // Writes

  /**
   * POSTSUSPEND is answered: from now on the log of another table may own the image, and clears of ours would wipe out its marks. The last CLEARs of
   * a mirror come after POSTSUSPEND; they wait for our own RESUME, or go with us.
   */
  get #imageGivenUp(): boolean {
    return this.state === 'suspended' && !this.#draining;
  }

  /** Begins a write of all that must be written, unless one is under way: then its end begins it. */
  #startWrite(effects: Effects): void {
    if (this.#writeUnderWay || this.#refused || this.#must.size === 0 || this.#imageGivenUp) return;
    const first = this.#headerLast && this.#must.size > 1 ? 1 : 0;
    if (first === 0) this.#waitCurrent.take(this.#waitNext);
    this.#writingMarks = false;
    for (let block = this.#must.next(first); block >= 0; block = this.#must.next(block + 1)) {
      this.#stage(block);
    }
    this.#submit(effects);
  }

  /** Begins a write of clears when nothing more urgent is there. */
  #startClearWrite(effects: Effects): void {
    if (this.#writeUnderWay || this.#refused || this.#may.size === 0 || this.#imageGivenUp) return;
    if (this.#headerLast) return;
    if (!this.#draining && this.#nowMs < this.#retryAtMs) return;
    this.#writingMarks = false;
    let staged = 0;
    let runs = 0;
    // No block follows this one.
    let last = -2;
    for (let block = this.#may.next(0); block >= 0; block = this.#may.next(block + 1)) {
      if (block !== last + 1) runs++;
      if (runs > CLEAR_RUNS_PER_WRITE_MAX) break;
      this.#stage(block);
      last = block;
      if (++staged === CLEAR_BLOCKS_PER_WRITE_MAX) break;
    }
    this.#submit(effects);
  }

  /** Copies a block's bits from `clean` into the shadow. */
  #stage(block: number): void {
    // A block of clears may hold marks too: they are written with it, and flushes that cover them wait for this write.
    if (this.#must.remove(block)) this.#writingMarks = true;
    this.#unsure.set(block);
    stageBlock(this.image, this.clean.bytes, this.blockBytes, block);
    this.#writing.add(block);
    this.#may.remove(block);
  }

  #submit(effects: Effects): void {
    this.runCount = this.#writing.byteRuns(this.blockBytes, this.runs);
    this.#writeUnderWay = true;
    effects.write = true;
  }

  // Lazy clears

  /** Begins to release the older generation: the legs are flushed first. */
  #release(effects: Effects): void {
    if (this.#lazy.releasing || this.#lazy.count === 0 || this.#nowMs < this.#retryAtMs) return;
    if (!this.#imageGivenUp) this.#flushLegs(effects);
  }

  #flushLegs(effects: Effects): void {
    if (this.#lazy.oldCount === 0) this.#lazy.age();
    this.#lazy.releasing = true;
    effects.flushLegs = true;
  }

  /** The mirror is suspended and the legs were flushed since: whatever is in sync is clean, whoever marked it. */
  #believeInSync(): void {
    this.clean.copyFrom(this.inSync);
    collectDifferences(this.image, this.clean.bytes, this.blockBytes, this.#may);
    // Last: whoever finds the copy half done must do it again.
    this.#marksUnknown = false;
    this.commit();
  }

  /** Suspended: everything cleared is released and written, then POSTSUSPEND is answered. */
  #drain(effects: Effects): void {
    if (this.#writeUnderWay || (this.#lazy.releasing && !this.#drainLegsFailed)) return;
    if ((this.#lazy.count > 0 || this.#marksUnknown) && !this.#drainLegsFailed) {
      this.#drainFlushing = true;
      return this.#flushLegs(effects);
    }
    if (this.#drainWriteFailed || this.#must.size + this.#may.size === 0) return this.#endDrain(effects);
    if (this.#must.size > 0) this.#startWrite(effects);
    else this.#startClearWrite(effects);
  }

  /**
   * The legs do not answer: their regions stay dirty. A write that is under way is waited for nevertheless, however long: were POSTSUSPEND answered
   * before its end, it could land on top of what the next table's log has written.
   */
  #drainWithoutLegs(effects: Effects): void {
    if (this.#drainLegsFailed) return;
    this.#drainLegsFailed = true;
    this.#drain(effects);
  }

  #endDrain(effects: Effects): void {
    this.#draining = false;
    this.commit();
    this.#waitSuspend.answer(0, effects.late);
  }
}
