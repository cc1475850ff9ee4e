import { RegionBitmap } from '@dmlog/bitmap';
import { type LazyClearOptions, LazyClears } from '@dmlog/log';
import type { ClusterEffects } from './cluster-effects.js';

/** After a failed flush of the legs, the next attempt comes this much later. */
const RETRY_MS = 1000;

/** See {@link HeldMarks.regions} and `LazyClears`. */
export interface KeptMarks {
  readonly held: RegionBitmap;
  readonly young: RegionBitmap;
  readonly old: RegionBitmap;
}

/**
 * One node's marks, and its lazy clears (design rule 16): a region that the kernel has cleared stays marked for a while, and is given up only after the legs were
 * flushed.
 */
export class HeldMarks {
  /** Regions that this node's kernel may be writing, or wrote a moment ago: what the group knows or will know as this node's marks. */
  readonly regions: RegionBitmap;
  readonly #lazy: LazyClears;
  #options: LazyClearOptions;
  #sweepAtMs = -1;
  #retryAtMs = 0;
  /** A flush of the legs is under way. */
  #flushing = false;
  /** It was begun after the last write of a mirror that is being suspended. */
  #flushIsLast = false;

  /** `kept`: memory that outlives the process, with what an earlier one held. */
  constructor(regionCount: number, options: LazyClearOptions, kept: KeptMarks | null = null) {
    this.#options = options;
    const bitmap = () => new RegionBitmap(regionCount, { searchZeros: false });
    this.regions = kept?.held ?? bitmap();
    this.#lazy = new LazyClears(kept?.young ?? bitmap(), kept?.old ?? bitmap());
    // The process died between a release and its end: what is not held is not to be released.
    for (let r = this.#lazy.next(0); r >= 0; r = this.#lazy.next(r + 1)) {
      if (!this.regions.get(r)) this.#lazy.remove(r);
    }
  }

  /** Changes lazy clear from now on. */
  setLazyClear(options: LazyClearOptions): void {
    this.#options = options;
    // Nothing waits for the old one's time.
    this.#sweepAtMs = -1;
  }

  get lazyCount(): number {
    return this.#lazy.count;
  }

  /** Marks that needed no message because the node still had them. */
  get lazyHits(): number {
    return this.#lazy.hits;
  }

  /** The kernel is going to write the region. False if that is known. */
  add(region: number): boolean {
    this.#lazy.takeBack(region);
    return this.regions.set(region);
  }

  /** The kernel has not been writing the region for a while. */
  clear(region: number): void {
    if (this.regions.get(region)) this.#lazy.add(region);
  }

  clearAll(): void {
    const { regions } = this;
    for (let r = regions.nextOne(0); r >= 0; r = regions.nextOne(r + 1)) this.#lazy.add(r);
  }

  /** Begins to give up what was cleared, if there is no time to wait, or too much of it. */
  hurry(nowMs: number, effects: ClusterEffects): void {
    const { milliseconds, regionsMax } = this.#options;
    if (milliseconds === 0 || this.#lazy.count > regionsMax) this.#release(nowMs, effects);
  }

  /** Time has passed. */
  sweep(nowMs: number, effects: ClusterEffects): void {
    if (nowMs < this.#retryAtMs) return;
    if (this.#lazy.count === 0) {
      this.#sweepAtMs = -1;
    } else if (this.#sweepAtMs < 0) {
      this.#sweepAtMs = nowMs + this.#options.milliseconds;
    } else if (nowMs >= this.#sweepAtMs && !this.#lazy.releasing) {
      if (this.#lazy.oldCount > 0) this.#release(nowMs, effects);
      else this.#lazy.age();
      this.#sweepAtMs = nowMs + this.#options.milliseconds;
    }
  }

  /** No write is under way any more: flushes the legs for the last time. */
  flushForGood(effects: ClusterEffects): void {
    this.#flushIsLast = !this.#flushing;
    this.#flush(effects);
  }

  /** The flush has ended. False if it was begun too early to be the last one, and is repeated. */
  isLastFlush(effects: ClusterEffects): boolean {
    this.#ended();
    if (this.#flushIsLast) return true;
    this.flushForGood(effects);
    return false;
  }

  /** The flush has ended: regions that are marked no more. After a failure they stay as they are, and are tried again. */
  flushed(done: boolean, nowMs: number): number[] {
    this.#ended();
    const regions: number[] = [];
    if (!done) {
      this.#retryAtMs = nowMs + RETRY_MS;
      return regions;
    }
    for (let r = this.#lazy.nextOld(0); r >= 0; r = this.#lazy.nextOld(r + 1)) {
      this.#lazy.release(r);
      this.regions.clear(r);
      regions.push(r);
    }
    return regions;
  }

  /** The flush has ended, and nobody is there to be told of anything. */
  flushedInVain(): void {
    this.#ended();
  }

  /** Gives up everything; returns what it was. */
  takeAll(): number[] {
    const taken: number[] = [];
    for (let r = this.regions.nextOne(0); r >= 0; r = this.regions.nextOne(r + 1)) taken.push(r);
    for (const region of taken) {
      this.regions.clear(region);
      this.#lazy.remove(region);
    }
    return taken;
  }

  check(): void {
    this.#lazy.check();
  }

  #ended(): void {
    this.#flushing = false;
    this.#lazy.releasing = false;
  }

  #release(nowMs: number, effects: ClusterEffects): void {
    if (this.#flushing || this.#lazy.count === 0 || nowMs < this.#retryAtMs) return;
    if (this.#lazy.oldCount === 0) this.#lazy.age();
    this.#lazy.releasing = true;
    this.#flush(effects);
  }

  #flush(effects: ClusterEffects): void {
    if (this.#flushing) return;
    this.#flushing = true;
    effects.flushLegs = true;
  }
}
