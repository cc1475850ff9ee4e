/**
 * singled: serves device-mapper userspace dirty logs on one machine. The program is `dist/cli.cjs`; this is its inside, for those who start it with a
 * `serve` of their own.
 *
 * @example
 * ```ts
 * import { runCommand } from '@dmlog/daemon';
 * import { singled } from '@dmlog/singled';
 *
 * const exitCode = await runCommand(['--log-level', 'debug'], {
 *   ...singled,
 *   out: (text) => process.stdout.write(text),
 *   error: (text) => process.stderr.write(text),
 * });
 * ```
 *
 * @packageDocumentation
 */
export { singled } from './singled.js';
