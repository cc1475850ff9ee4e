import type { DirtyLog } from '@dmlog/log';

/** Cells of one map at most: more than a screen has columns and rows. */
export const MAP_CELLS_MAX = 16_384;
/** Regions that are counted before other events of the process get their turn: some 100 µs. */
const REGIONS_PER_TURN = 1 << 20;

/** Part of a log, cut into cells of equal size (the last one may be smaller). */
export interface RegionMap {
  /** Regions `from..to-1`. */
  readonly from: number;
  readonly to: number;
  readonly regionsPerCell: number;
  /** Of each cell: regions in which all legs agree. */
  readonly inSync: number[];
  /** Of each cell: regions in sync in which no write is under way. */
  readonly clean: number[];
}

export interface RegionMapRange {
  readonly from: number;
  readonly to: number;
  readonly cells: number;
}

/**
 * The map of a log's regions `from..to-1` in at most `cells` cells. Counts in turns, so that requests are served meanwhile: 2^32 regions take about a second, and the
 * map of a log that is being written is of no single moment.
 *
 * @param find the log, asked for at each turn, as it may be gone by then; null ends it.
 */
export async function regionMap(
  find: () => DirtyLog | null,
  { from, to, cells }: RegionMapRange,
): Promise<RegionMap | null> {
  const regionsPerCell = Math.max(1, Math.ceil((to - from) / cells));
  const map: RegionMap = { from, to, regionsPerCell, inSync: [], clean: [] };
  let budget = REGIONS_PER_TURN;
  let log = find();
  for (let start = from; start < to; start += regionsPerCell) {
    const end = Math.min(to, start + regionsPerCell);
    let inSync = 0;
    let clean = 0;
    for (let at = start; at < end; ) {
      if (budget === 0) {
        await new Promise((resolve) => setImmediate(resolve));
        budget = REGIONS_PER_TURN;
        log = find();
      }
      if (log === null) return null;
      const until = Math.min(end, at + budget);
      const counts = log.countRegions(at, until);
      inSync += counts.inSync;
      clean += counts.clean;
      budget -= until - at;
      at = until;
    }
    map.inSync.push(inSync);
    map.clean.push(clean);
  }
  return map;
}
