/** Request types are 1 … 17 (dm-log-userspace.h). */
const TYPES = 18;

/** Buckets of a histogram: bucket b holds what took at most 2^b µs, the last one all that took longer. 2^24 µs is past the 15 s after which the kernel repeats. */
export const LATENCY_BUCKETS = 26;

/** Upper bounds of all buckets but the last, in seconds. */
export const LATENCY_BOUNDS_SECONDS: readonly number[] = Array.from(
  { length: LATENCY_BUCKETS - 1 },
  (_, bucket) => 2 ** bucket / 1e6,
);

/** How long requests took, by type. */
export class LatencyHistograms {
  readonly #counts = new Float64Array(TYPES * LATENCY_BUCKETS);
  readonly #sumsMs = new Float64Array(TYPES);

  /** Notes a request of `type` (1 … 17) that took `ms` milliseconds. Allocates nothing. */
  note(type: number, ms: number): void {
    const micros = Math.min(Math.ceil(ms * 1000), 0x7fffffff);
    const bucket = micros <= 1 ? 0 : Math.min(32 - Math.clz32(micros - 1), LATENCY_BUCKETS - 1);
    const at = type * LATENCY_BUCKETS + bucket;
    this.#counts[at] = (this.#counts[at] as number) + 1;
    this.#sumsMs[type] = (this.#sumsMs[type] as number) + ms;
  }

  /** Of one type, each bucket by itself. */
  counts(type: number): number[] {
    return [...this.#counts.subarray(type * LATENCY_BUCKETS, (type + 1) * LATENCY_BUCKETS)];
  }

  sumSeconds(type: number): number {
    return (this.#sumsMs[type] as number) / 1000;
  }
}
