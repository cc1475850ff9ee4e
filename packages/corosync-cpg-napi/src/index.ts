/**
 * Corosync's closed process groups (libcpg) and quorum (libquorum): messages, joins and leaves in one order, the same for all members. A native binding; knows
 * nothing of what the messages mean.
 *
 * @example
 * ```ts
 * import { openCpg } from 'corosync-cpg-napi';
 *
 * const group = await openCpg({
 *   group: 'chat',
 *   handlers: {
 *     deliver: (nodeId, pid, bytes) => console.log(`${nodeId}:${pid}`, bytes.toString()),
 *     confchg: ({ members }) => console.log('members', members),
 *     ring: ({ seq, nodes, quorate }) => console.log('ring', seq, nodes, quorate),
 *     died: (error) => console.error(error.message),
 *   },
 * });
 * await group.join();
 * group.send(Buffer.from('hello')); // false: wait for handlers.drain
 * await group.leave();
 * ```
 *
 * @packageDocumentation
 */
export { type CpgBinding, loadBinding, type NativeHandle } from './binding.js';
export { CpgError, type CpgErrorCode, CsError } from './errors.js';
export { type CpgGroup, openCpg } from './group.js';
export type { CpgOptions } from './options.js';
export * from './types.js';
