import type { Bio } from './bio.js';

/** DM_RH_*, dm-region-hash.h. */
export const RegionState = { CLEAN: 1, DIRTY: 2, NOSYNC: 4, RECOVERING: 8 } as const;
export type RegionState = (typeof RegionState)[keyof typeof RegionState];

/** struct dm_region. */
export interface Region {
  readonly key: number;
  state: RegionState;
  pending: number;
  delayed: Bio[];
}

/**
 * dm-region-hash.c, Linux 6.1, without its locks and without the questions to the log, which its caller asks: what this kernel believes of the regions that it is, or
 * was a moment ago, writing or recovering. Lists are told newest first, as the kernel has them.
 */
export class RegionHash {
  readonly regions = new Map<number, Region>();
  clean: Region[] = [];
  quiesced: Region[] = [];
  recovered: Region[] = [];
  failedRecovered: Region[] = [];
  /** `recovery_count`: how many recoveries may begin; at most one. */
  permits = 0;
  recoveriesInFlight = 0;

  lookup(key: number): Region | undefined {
    return this.regions.get(key);
  }

  insert(key: number, isInSync: boolean): Region {
    const known = this.regions.get(key);
    if (known !== undefined) return known;
    const state = isInSync ? RegionState.CLEAN : RegionState.NOSYNC;
    const region: Region = { key, state, pending: 0, delayed: [] };
    // __rh_alloc(): a clean region without writes is on the clean list until it is written.
    if (isInSync) this.clean.unshift(region);
    this.regions.set(key, region);
    return region;
  }

  /** rh_inc(): true if the region has to be marked. */
  increment(region: Region): boolean {
    region.pending++;
    if (region.state !== RegionState.CLEAN) return false;
    region.state = RegionState.DIRTY;
    this.clean = this.clean.filter((one) => one !== region);
    return true;
  }

  /** dm_rh_dec(): true if the worker has something to do. */
  decrement(key: number): boolean {
    const region = this.regions.get(key);
    if (region === undefined) throw new Error(`region ${key} is not in the hash while it is written`);
    if (--region.pending > 0) return false;
    if (region.state === RegionState.RECOVERING) this.quiesced.push(region);
    else if (region.state === RegionState.DIRTY) {
      region.state = RegionState.CLEAN;
      this.clean.unshift(region);
    }
    return true;
  }

  /** The second half of __rh_recovery_prepare(). */
  prepare(region: Region): void {
    region.state = RegionState.RECOVERING;
    this.clean = this.clean.filter((one) => one !== region);
    if (region.pending === 0) this.quiesced.push(region);
  }

  recoveryEnded(region: Region, succeeded: boolean): void {
    (succeeded ? this.recovered : this.failedRecovered).unshift(region);
  }

  /** dm_rh_update_states(), the part under locks: what has left the hash. */
  takeStates(): { recovered: Region[]; failed: Region[]; clean: Region[] } {
    const { recovered, failedRecovered: failed, clean } = this;
    if (recovered.length + failed.length + clean.length > 0) {
      this.recovered = [];
      this.failedRecovered = [];
      this.clean = [];
      for (const list of [recovered, failed, clean]) {
        for (const { key } of list) this.regions.delete(key);
      }
    }
    return { recovered, failed, clean };
  }
}
