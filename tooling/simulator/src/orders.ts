import type { Situation } from './coverage.js';

/** What a worker is asked to simulate. */
export interface Order {
  readonly seed: number;
  readonly steps: number | null;
  /** Steps with faults that are taken; null: all. */
  readonly only: readonly number[] | null;
  readonly trace: boolean;
}

/** What came of it. */
export interface Report {
  readonly seed: number;
  readonly steps: number;
  /** Steps before the faults end. */
  readonly stepsWithFaults: number;
  readonly requests: number;
  readonly milliseconds: number;
  readonly coverage: Record<Situation, number>;
  readonly parameters: string;
  readonly failure: FailureReport | null;
  /** The readable story, where it was asked for. */
  readonly story: readonly string[];
  /** A digest of everything that was asked and answered: equal for equal runs. */
  readonly digest: string;
}

export interface FailureReport {
  readonly step: number;
  readonly invariant: string;
  readonly node: number | null;
  readonly region: number | null;
  readonly message: string;
}
