/**
 * Transports for dm-log-userspace: they carry requests and replies over netlink (NETLINK_CONNECTOR) and know nothing of
 * regions or logs. One contract ({@link Transport}), three implementations: {@link batchTransport} (a small addon, fast),
 * {@link netlinkTransport} (npm package `netlink`, portable) and {@link loopbackTransport} (in memory, for tests).
 *
 * @example
 * ```ts
 * import { NO_REPLY, openTransport } from '@dmlog/connector';
 *
 * const transport = openTransport({ onFault: (fault) => process.emitWarning(fault.error) });
 * transport.start((offset, length, port) => {
 *   const frame = transport.arena.subarray(offset, offset + length); // borrowed until this function returns
 *   return frame.length < 36 ? NO_REPLY : 36; // the reply is written in place; here its first 36 bytes go back
 * });
 * await transport.close();
 * ```
 *
 * @packageDocumentation
 */
export { type BatchTransportOptions, batchTransport } from './batch.js';
export { type ConnectorBinding, loadBinding, type NativeHandle, type ProcessBinding } from './binding.js';
export { ConnectorError, type ConnectorErrorCode } from './errors.js';
export { type LoopbackTransport, type LoopbackTransportOptions, loopbackTransport } from './loopback.js';
export { netlinkTransport } from './netlink.js';
export { type ConnectorListener, connectorListeners } from './netlink-table.js';
export { type OpenTransportOptions, openTransport } from './open.js';
export { POLL_MICROSECONDS_MAX } from './options.js';
export * from './transport.js';
