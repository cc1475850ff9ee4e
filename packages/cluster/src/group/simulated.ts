/**
 * A simulated group: corosync's CPG on several nodes in one process, with its faults, replayable from a seed.
 *
 * @example
 * const network = new SimulatedNetwork({ nodes: [1, 2, 3], random });
 * const member = network.join(1, 'dmlog', handlers);
 * member.send(bytes);
 * network.run(1000);
 */
export { type SimulationChances, TAME_NETWORK, WILD_NETWORK } from './chances.js';
export { SimulationCounters } from './counters.js';
export { type MemberState, SimulatedMember } from './member.js';
export {
  type SimulatedJoinOptions,
  SimulatedNetwork,
  type SimulatedNetworkInit,
} from './network.js';
