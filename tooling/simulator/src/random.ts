/**
 * The only source of chance of a run. Each step draws from a stream of its own, which its number and the seed decide: a story from which steps were taken out
 * leaves the draws of the others as they were, and so can be shortened.
 */
export class Random {
  readonly #seed: number;
  #state = 0;
  /** Numbers drawn so far. */
  drawn = 0;

  /** Begins with the stream of `stream`, a whole number. */
  constructor(seed: number, stream: number) {
    this.#seed = mix(seed ^ 0x9e3779b9);
    this.begin(stream);
  }

  /** Draws from another stream from now on. */
  begin(stream: number): void {
    this.#state = mix(this.#seed ^ Math.imul(stream + 1, 0x85ebca6b));
  }

  /** A number in [0, 1): Mulberry32. Bound: models are handed this. */
  readonly next = (): number => {
    this.drawn++;
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };

  /** As if so many numbers had been drawn. */
  skip(count: number): void {
    this.#state = (this.#state + Math.imul(count, 0x6d2b79f5)) | 0;
    this.drawn += count;
  }

  /** A whole number from 0 to `end` - 1. */
  below(end: number): number {
    return Math.floor(this.next() * end);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
}

function mix(value: number): number {
  let x = value | 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) | 0;
}
