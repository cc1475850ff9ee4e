/** Blocks of one region: a write may reach some of them only. */
export const BLOCKS = 2;
export const LEG_COUNT = 2;

/**
 * The legs of the mirror, shared by all nodes: for each block the number of the last write that reached it. What was written is visible at once and stays in a volatile
 * cache until the leg is flushed.
 *
 * What may fail: a cut of the legs' power takes any part of what was not flushed; a leg fails and comes back with what it had.
 */
export class Legs {
  readonly regions: number;
  readonly visible: readonly [Float64Array, Float64Array];
  readonly durable: readonly [Float64Array, Float64Array];
  /** Newest acknowledged write of each block. */
  readonly acknowledged: Float64Array;
  /** Regions with a write that has not ended: nobody else writes them then, as a filesystem sees to it. */
  readonly busy = new Set<number>();
  readonly failed: [boolean, boolean] = [false, false];
  /** Regions whose legs differ, or could after a cut of the power: they have to be dirty. */
  readonly suspects = new Set<number>();
  /** Grows with every change of what is on the legs. */
  version = 0;
  #writes = 0;
  /** Blocks that are in a cache, by leg. */
  readonly #cached: readonly [Set<number>, Set<number>] = [new Set(), new Set()];

  /** Equal legs, or legs that differ everywhere. */
  constructor(regions: number, equal: boolean) {
    this.regions = regions;
    const blocks = regions * BLOCKS;
    this.visible = [new Float64Array(blocks), new Float64Array(blocks)];
    this.durable = [new Float64Array(blocks), new Float64Array(blocks)];
    this.acknowledged = new Float64Array(blocks);
    if (equal) return;
    this.visible[1].fill(-1);
    this.durable[1].fill(-1);
    for (let region = 0; region < regions; region++) this.suspects.add(region);
  }

  /** A number for a new write: greater than all before. */
  newValue(): number {
    return ++this.#writes;
  }

  /** Data reaches a block. False: the leg has failed. */
  write(leg: number, block: number, value: number): boolean {
    if (this.failed[leg] === true) return false;
    const blocks = this.visible[leg] as Float64Array;
    blocks[block] = value;
    (this.#cached[leg] as Set<number>).add(block);
    this.#judge(Math.floor(block / BLOCKS));
    return true;
  }

  read(leg: number, block: number): number {
    return (this.visible[leg] as Float64Array)[block] as number;
  }

  /** What is in the caches now; given to {@link flushed} it becomes durable, as far as it is still there. */
  snapshot(): readonly { leg: number; block: number; value: number }[] {
    return [0, 1].flatMap((leg) =>
      [...(this.#cached[leg] as Set<number>)].map((block) => ({ leg, block, value: this.read(leg, block) })),
    );
  }

  flushed(blocks: readonly { leg: number; block: number; value: number }[]): void {
    for (const { leg, block, value } of blocks) {
      const durable = this.durable[leg] as Float64Array;
      if ((durable[block] as number) < value || this.read(leg, block) === value) durable[block] = value;
      if (this.read(leg, block) === value) (this.#cached[leg] as Set<number>).delete(block);
      this.#judge(Math.floor(block / BLOCKS));
    }
  }

  /** The power is gone: each cached block is lost, or was on its way and got there. True if any was lost. */
  cutPower(chance: () => boolean): boolean {
    let lost = false;
    for (const leg of [0, 1]) {
      const [visible, durable] = [this.visible[leg] as Float64Array, this.durable[leg] as Float64Array];
      for (const block of this.#cached[leg] as Set<number>) {
        if (chance()) durable[block] = visible[block] as number;
        else {
          lost ||= visible[block] !== durable[block];
          visible[block] = durable[block] as number;
        }
      }
      (this.#cached[leg] as Set<number>).clear();
    }
    // A write that nobody made durable may be gone: the filesystem knows that.
    for (let block = 0; block < this.acknowledged.length; block++) {
      const left = Math.min(this.visible[0][block] as number, this.visible[1][block] as number);
      if (left < (this.acknowledged[block] as number)) this.acknowledged[block] = left;
    }
    for (const region of [...this.suspects]) this.#judge(region);
    return lost;
  }

  /** Whether a reader of one leg might see something else than a reader of the other. */
  differ(region: number): boolean {
    for (let block = region * BLOCKS; block < (region + 1) * BLOCKS; block++) {
      if (this.visible[0][block] !== this.visible[1][block]) return true;
    }
    return false;
  }

  get areEqual(): boolean {
    for (const region of this.suspects) if (this.differ(region)) return false;
    return true;
  }

  #judge(region: number): void {
    this.version++;
    let suspect = false;
    for (let block = region * BLOCKS; block < (region + 1) * BLOCKS; block++) {
      const value = this.visible[0][block];
      if (
        value !== this.visible[1][block] ||
        value !== this.durable[0][block] ||
        value !== this.durable[1][block]
      )
        suspect = true;
    }
    if (suspect) this.suspects.add(region);
    else this.suspects.delete(region);
  }
}
