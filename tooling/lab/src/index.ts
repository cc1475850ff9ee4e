/**
 * A real Linux kernel as an ordinary process: boots Debian's User-Mode Linux without root and runs scenarios in it.
 *
 * @example
 * ```ts
 * const lab = await openLab();
 * const disks = { leg0: disk('16M'), leg1: disk('16M'), log: disk('1M') };
 * const machine = await lab.boot({ disks });
 * await machine.dmCreate('m', mirrorTable({
 *   lengthSectors: 32768,
 *   log: { kind: 'disk', args: [machine.device('log'), 1024] },
 *   legs: [machine.device('leg0'), machine.device('leg1')],
 * }));
 * await machine.waitInSync('m');
 * await machine.halt();
 * console.log(legsEqual(disks.leg0, disks.leg1)); // true
 * await lab.close();
 * ```
 *
 * @packageDocumentation
 */
export { bootCluster, Cluster, ClusterNode, type ClusterOptions, type ClusterTimes } from './cluster.js';
export type { RingState } from './corosync.js';
export { measureRounds, type RoundTimes } from './cpg-round.js';
export { type Daemon, type DaemonOptions, type DaemonProgram, startDaemon } from './daemon.js';
export { Disk, disk, legsEqual, regionsThatDiffer } from './disk.js';
export { LabError, type LabErrorCode } from './errors.js';
export { GuestProcess } from './guest-process.js';
export { ensureKernel, type UmlKernel } from './kernel.js';
export { type BootOptions, Lab, openLab } from './lab.js';
export { Machine, type MachineEnd, type RunOptions, type RunResult } from './machine.js';
export {
  type MirrorLog,
  type MirrorStatus,
  type MirrorTable,
  mirrorTable,
  parseMirrorStatus,
} from './mirror.js';
export { Network, type NetworkPlace } from './network.js';
export { cacheDirectory } from './packages.js';
export type { LinkShape, SwitchStats } from './switch.js';
export { ensureGuestTools, type GuestTools } from './tools.js';
