/**
 * @packageDocumentation
 * Round trip and throughput of the daemons against a C echo on the same sockets, as ratios, with the targets they must reach.
 *
 * @example
 * ```ts
 * import { runBench } from '@dmlog/bench';
 *
 * const { verdicts } = await runBench({ quick: true, print: console.log }); // as root
 * for (const { target, passed } of verdicts) console.log(passed ? 'pass' : 'MISS', target);
 * ```
 */
export { type BenchOptions, type BenchResult, runBench } from './bench.js';
export {
  type ClusterBenchOptions,
  type ClusterBenchResult,
  runClusterBench,
} from './cluster/bench.js';
export { CLUSTER_TARGETS } from './cluster/targets.js';
export { Driver, type LogSpec, type RunReport, type RunSpec, type Summary } from './driver.js';
export { BenchError, type BenchErrorCode } from './errors.js';
export type { DiskCost, Footprint } from './footprint.js';
export {
  HAND_OVER_TARGETS,
  type HandOversOptions,
  type HandOversResult,
  runHandOvers,
} from './hand-overs.js';
export { allowedCpus, compileNative, type NativePrograms } from './native.js';
export type { RoundReports } from './rounds.js';
export { median, type Ratio, ratioOfRounds } from './statistics.js';
export {
  type Health,
  runSteady,
  STEADY_TARGETS,
  type SteadyOptions,
  type SteadyResult,
} from './steady.js';
export { type StartOptions, Subject, type SubjectName, startSubject } from './subjects.js';
export { type Row, TARGETS, type Verdict } from './targets.js';
