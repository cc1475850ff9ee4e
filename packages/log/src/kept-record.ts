import type { LogState } from './dirty-log.js';

/** States as a record numbers them. Append only: a newer daemon reads what an older one left. */
const STATES: readonly LogState[] = ['constructed', 'resuming', 'live', 'suspended', 'destroyed'];

/** Values of the record that every log keeps, see log-memory.ts; 4 and 5 are free. */
const AT = { state: 0, flags: 1, lease: 2, searchFrom: 3 } as const;

/** What is kept for "no lease": no region has this number. */
const NO_LEASE = 0xffff_ffff;

/** What a log keeps besides its bitmaps. */
export interface KeptValues {
  readonly state: LogState;
  /** The log type's own. */
  readonly flags: number;
  /** The region handed out for recovery, −1 if none. */
  readonly lease: number;
  readonly searchFrom: number;
}

/** The values of a record, or null where its state is none. */
export function readKeptValues(values: Uint32Array): KeptValues | null {
  const state = STATES[values[AT.state] as number];
  if (state === undefined) return null;
  const lease = values[AT.lease] as number;
  return {
    state,
    flags: values[AT.flags] as number,
    lease: lease === NO_LEASE ? -1 : lease,
    searchFrom: values[AT.searchFrom] as number,
  };
}

/** Writes them into the values of the next commit. Allocates nothing. */
export function keepValues(
  values: Uint32Array,
  state: LogState,
  flags: number,
  lease: number,
  searchFrom: number,
): void {
  values[AT.state] = STATES.indexOf(state);
  values[AT.flags] = flags;
  values[AT.lease] = lease < 0 ? NO_LEASE : lease;
  values[AT.searchFrom] = searchFrom;
}
