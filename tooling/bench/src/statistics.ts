import type { Summary } from './driver.js';

/** The middle value; of an even number of values the mean of the two in the middle. NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** How two subjects compare over rounds that alternated between them. */
export interface Ratio {
  /** The median over the rounds: one disturbed round does not move it. */
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly rounds: number;
}

/**
 * Ratios round by round, since a machine that slows down for a while slows both sides of one round. Rounds in which either
 * side has no value are left out; undefined when none is left.
 */
export function ratioOfRounds(
  subject: readonly (number | undefined)[],
  floor: readonly (number | undefined)[],
): Ratio | undefined {
  const ratios: number[] = [];
  for (let i = 0; i < Math.min(subject.length, floor.length); i++) {
    const above = subject[i];
    const below = floor[i];
    if (above !== undefined && below !== undefined && below > 0) ratios.push(above / below);
  }
  if (ratios.length === 0) return undefined;
  return {
    median: median(ratios),
    min: Math.min(...ratios),
    max: Math.max(...ratios),
    rounds: ratios.length,
  };
}

/** Percentiles by nearest rank, as in `native/samples.h`. Of at least one value. */
export function summarize(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const rank = (part: number) => sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)]!;
  return {
    count: sorted.length,
    mean: sorted.reduce((sum, value) => sum + value, 0) / sorted.length,
    min: sorted[0]!,
    p50: rank(0.5),
    p90: rank(0.9),
    p99: rank(0.99),
    p999: rank(0.999),
    max: sorted.at(-1)!,
  };
}
