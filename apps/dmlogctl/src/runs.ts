import type { RegionBitmap } from '@dmlog/bitmap';

/** Runs of regions that are printed one by one. */
export const RUNS_SHOWN = 20;

/** `: 0-3, 7, …` of the regions whose bit is `wanted`. */
export function runsText(bits: RegionBitmap, wanted: boolean): string {
  const runs = runsOf(bits, wanted, RUNS_SHOWN + 1);
  if (runs.length === 0) return '';
  const shown = runs.slice(0, RUNS_SHOWN).map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`));
  return `: ${shown.join(', ')}${runs.length > RUNS_SHOWN ? ', …' : ''}`;
}

/** The first `runsMax` runs of regions whose bit is `wanted`, first and last region of each. */
export function runsOf(bits: RegionBitmap, wanted: boolean, runsMax: number): [from: number, to: number][] {
  const next = (from: number, value: boolean): number => {
    if (from >= bits.regionCount) return -1;
    return value ? bits.nextOne(from) : bits.nextZero(from);
  };
  const runs: [number, number][] = [];
  for (let from = next(0, wanted); from >= 0 && runs.length < runsMax; ) {
    const after = next(from, !wanted);
    runs.push([from, (after < 0 ? bits.regionCount : after) - 1]);
    from = after < 0 ? -1 : next(after, wanted);
  }
  return runs;
}
