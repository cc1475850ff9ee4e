/** One read or write of the filesystem above, within one region. */
export interface Bio {
  readonly region: number;
  readonly isWrite: boolean;
  /** First block and the one after the last, counted over the whole mirror. */
  readonly from: number;
  readonly to: number;
  /** What a write writes. */
  readonly value: number;
  /** Legs that have not ended it. */
  left: number;
  /** Legs that failed it, one bit each. */
  errors: number;
  /** For a read: the newest acknowledged write of each block when it was issued. */
  floor: readonly number[];
}
