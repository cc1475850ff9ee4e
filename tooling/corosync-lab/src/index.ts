/**
 * Real corosync clusters for tests: one node per network namespace, all on this machine, root needed. Cuts cables, partitions, stops, crashes and restarts
 * corosync, and runs programs inside the nodes.
 *
 * @example
 * ```ts
 * import { startCluster } from '@dmlog/corosync-lab';
 *
 * const cluster = await startCluster({ nodes: 3, tokenMs: 300 });
 * await cluster.cut(3);
 * await cluster.membership([1, 2]);
 * console.log((await cluster.node(1).exec('corosync-quorumtool', ['-s'])).stdout);
 * await cluster.destroy();
 * ```
 *
 * @packageDocumentation
 */
export { Cluster, type ClusterOptions, NODES_MAX, startCluster } from './cluster.js';
export { addressOf, type CorosyncConfig, corosyncConf } from './config.js';
export { CorosyncLabError, type CorosyncLabErrorCode } from './errors.js';
export { type CommandResult, clusterUsable, requireCorosync, waitUntil } from './host.js';
export { LineClient, LineError, type LineMethods, serveLines } from './lines.js';
export { LabNode } from './node.js';
export { buildProgram } from './program.js';
