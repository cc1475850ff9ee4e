import { RegionBitmap, type RegionBitmapOptions } from '@dmlog/bitmap';

/** So many changed words are remembered; past it, all of them may have changed. */
const WORDS_MAX = 1024;

/** A bitmap that remembers which of its words have changed since somebody looked. */
export class TrackedBitmap extends RegionBitmap {
  /** The words themselves: region r is bit `r & 31` of word `r >> 5`. Read only. */
  readonly words32: Uint32Array;
  readonly #changed = new Set<number>();
  #allChanged = true;

  constructor(regionCount: number, options: Omit<RegionBitmapOptions, 'memory'> = {}) {
    super(regionCount, options);
    const { buffer, byteOffset, byteLength } = this.bytes;
    this.words32 = new Uint32Array(buffer, byteOffset, byteLength / Uint32Array.BYTES_PER_ELEMENT);
  }

  /** Words that may have changed; null: any of them. Valid until the next change. */
  get changedWords(): ReadonlySet<number> | null {
    return this.#allChanged ? null : this.#changed;
  }

  forgetChanges(): void {
    this.#allChanged = false;
    if (this.#changed.size > 0) this.#changed.clear();
  }

  override set(region: number): boolean {
    const changed = super.set(region);
    if (changed) this.#note(region >>> 5);
    return changed;
  }

  override clear(region: number): boolean {
    const changed = super.clear(region);
    if (changed) this.#note(region >>> 5);
    return changed;
  }

  override fill(value: boolean): void {
    this.#allChanged = true;
    super.fill(value);
  }

  override load(source: Uint8Array): void {
    this.#allChanged = true;
    super.load(source);
  }

  override rebuild(): void {
    this.#allChanged = true;
    super.rebuild();
  }

  override setRange(from: number, to: number): void {
    this.#allChanged = true;
    super.setRange(from, to);
  }

  override clearRange(from: number, to: number): void {
    this.#allChanged = true;
    super.clearRange(from, to);
  }

  override and(other: RegionBitmap): void {
    this.#allChanged = true;
    super.and(other);
  }

  override or(other: RegionBitmap): void {
    this.#allChanged = true;
    super.or(other);
  }

  override andNot(other: RegionBitmap): void {
    this.#allChanged = true;
    super.andNot(other);
  }

  override copyFrom(other: RegionBitmap): void {
    this.#allChanged = true;
    super.copyFrom(other);
  }

  #note(word: number): void {
    if (this.#allChanged) return;
    if (this.#changed.size >= WORDS_MAX) this.#allChanged = true;
    else this.#changed.add(word);
  }
}
