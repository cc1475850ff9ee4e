/**
 * Whole clusters in one process, replayable from a seed: our daemons from the datagram on, and models of kernels, legs, log devices, the group and every fault.
 *
 * @example
 * const simulator = new Simulator(await bundle());
 * const report = await simulator.run({ seed: 1, steps: null, only: null, trace: false });
 * await simulator.close();
 *
 * @packageDocumentation
 */
export { bundle, ROOT } from './bundle.js';
export { Coverage, SITUATIONS, type Situation } from './coverage.js';
export { type Found, hunt, huntAll } from './hunt.js';
export { type Mutation, mutate, mutatedFile } from './mutate.js';
export type { FailureReport, Order, Report } from './orders.js';
export { PLANTED_BUGS } from './planted-bugs.js';
export { runAll, Simulator } from './pool.js';
export { shrink } from './shrink.js';
