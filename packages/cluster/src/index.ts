/**
 * A dirty log replicated over an ordered group of nodes (docs/cluster-protocol.md).
 *
 * `ReplicatedState` is what all members agree on, `Member` keeps it equal over every change of the group, `Replica` is one node's share in it, and
 * `ClusteredLog` answers a kernel from that. All are pure state machines; groups are in `group/`: the contract, a simulation, and corosync.
 *
 * @packageDocumentation
 */
export { ClusterEffects } from './cluster-effects.js';
export { ClusteredLog } from './clustered-log.js';
export * from './group/index.js';
export { ImageWriter } from './image-writer.js';
export { KeptReplica, keptReplicaBytes } from './kept-replica.js';
export { Member } from './member.js';
export type { MemberCounters, MemberInit, MemberListener, MemberPhase } from './member-types.js';
export { type Geometry, MESSAGE_VERSION } from './messages.js';
export { type MirrorState, Replica, type ReplicaInit } from './replica.js';
export { LEASE_MAX, type NodeState, Presence, ReplicatedState } from './state.js';
