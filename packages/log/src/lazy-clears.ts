import type { RegionBitmap } from '@dmlog/bitmap';

/**
 * Regions that the kernel has cleared and the log still keeps dirty (design rule 4).
 *
 * Two generations: a cleared region enters `young`; every sweep releases what is `old` and then makes `young` old. So a region
 * stays dirty for one to two periods after its last CLEAR, membership costs one bit operation, and no queue can fill up. Nothing that is
 * released before the legs were flushed: `old` is frozen against additions while that flush is under way, so that every region in it was cleared
 * (its writes had completed on the legs) before the flush began.
 *
 * Invariants: (1) a region is in at most one generation; (2) nothing is added to `old` while `releasing`.
 */
export class LazyClears {
  #young: RegionBitmap;
  #old: RegionBitmap;
  /** A flush of the legs is under way, on behalf of `old`. */
  releasing = false;
  #hits = 0;

  /** The two bitmaps need `searchOnes`. What they hold is taken over: whatever was held is young again. */
  constructor(young: RegionBitmap, old: RegionBitmap) {
    this.#young = young;
    this.#old = old;
    for (let r = old.nextOne(0); r >= 0; r = old.nextOne(r + 1)) {
      young.set(r);
      old.clear(r);
    }
  }

  /** Regions held, in both generations. */
  get count(): number {
    return this.#young.count + this.#old.count;
  }

  /** Marks of regions that were held: none of them needed a write. */
  get hits(): number {
    return this.#hits;
  }

  get oldCount(): number {
    return this.#old.count;
  }

  has(region: number): boolean {
    return this.#young.get(region) || this.#old.get(region);
  }

  /** The region was cleared just now. Its time begins anew, unless it already waits for the flush under way, which covers it. */
  add(region: number): void {
    if (this.releasing && this.#old.get(region)) return;
    // In this order: a process that dies between the two leaves it in both, which is put right at the next start.
    this.#young.set(region);
    if (!this.releasing) this.#old.clear(region);
  }

  /** The region was marked again: it is not to be released. */
  takeBack(region: number): void {
    if (this.remove(region)) this.#hits++;
  }

  /** The region is no longer in sync, or nobody's any more: it is not to be released. Whether it was held. */
  remove(region: number): boolean {
    const wasYoung = this.#young.count > 0 && this.#young.clear(region);
    const wasOld = this.#old.count > 0 && this.#old.clear(region);
    return wasYoung || wasOld;
  }

  /** One period is over: young regions are old now. Only when nothing is old. */
  age(): void {
    const empty = this.#old;
    this.#old = this.#young;
    this.#young = empty;
  }

  /** The next old region at or after `from`, or −1. */
  nextOld(from: number): number {
    return this.#old.nextOne(from);
  }

  /** The next region held at or after `from`, or −1. */
  next(from: number): number {
    const [young, old] = [this.#young.nextOne(from), this.#old.nextOne(from)];
    return young < 0 || (old >= 0 && old < young) ? old : young;
  }

  /** An old region is no longer held. */
  release(region: number): void {
    this.#old.clear(region);
  }

  /** Holds only what is in sync and not clean: anything else is held by mistake. */
  keepOnly(inSync: RegionBitmap, clean: RegionBitmap): void {
    for (let r = this.#young.nextOne(0); r >= 0; r = this.#young.nextOne(r + 1)) {
      if (clean.get(r) || !inSync.get(r)) this.#young.clear(r);
    }
  }

  /** Throws when an invariant of this class does not hold. For tests; costs as much as the bitmaps are large. */
  check(): void {
    for (let r = this.#young.nextOne(0); r >= 0; r = this.#young.nextOne(r + 1)) {
      if (this.#old.get(r)) throw new Error(`region ${r} is in both generations of lazy clears`);
    }
  }
}
