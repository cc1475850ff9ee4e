/**
 * clusterd: serves device-mapper userspace dirty logs of a cluster on shared storage. The program is `dist/cli.cjs`; this is its inside, for those who start it
 * with a `serve` of their own.
 *
 * @example
 * ```ts
 * import { clusterd } from '@dmlog/clusterd';
 * import { runCommand } from '@dmlog/daemon';
 *
 * const exitCode = await runCommand(['status'], {
 *   ...clusterd,
 *   out: (text) => process.stdout.write(text),
 *   error: (text) => process.stderr.write(text),
 * });
 * ```
 *
 * @packageDocumentation
 */
export { checkCorosync } from './check-corosync.js';
export { clusterd } from './clusterd.js';
