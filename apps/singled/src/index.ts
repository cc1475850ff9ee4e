/**
 * singled: serves device-mapper userspace dirty logs on one machine. The program is `dist/cli.cjs`; this is its inside, for those who start it with a
 * `serve` of their own.
 *
 * @example
 * ```ts
 * import { serve } from '@dmlog/daemon';
 * import { main } from '@dmlog/singled';
 *
 * const exitCode = await main(['--log-level', 'debug'], {
 *   serve,
 *   version: '0.0.0',
 *   out: (text) => process.stdout.write(text),
 *   error: (text) => process.stderr.write(text),
 * });
 * ```
 *
 * @packageDocumentation
 */
export { formatBytes, formatInSync, formatStatus, formatUptime } from './format.js';
export { type MainEnvironment, main } from './main.js';
export { sizeThreadPool, THREAD_POOL_THREADS } from './thread-pool.js';
