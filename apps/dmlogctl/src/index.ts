/**
 * dmlogctl: looks after device-mapper userspace dirty logs. The program is `dist/cli.cjs`; this is its inside.
 *
 * @example
 * ```ts
 * import { dmlogctl, systemEnvironment } from '@dmlog/dmlogctl';
 *
 * const exitCode = await dmlogctl(['status', '--json'], systemEnvironment(AbortSignal.timeout(5000)));
 * ```
 *
 * @packageDocumentation
 */
export { dmlogctl, systemEnvironment } from './dmlogctl.js';
export type { Environment, Terminal } from './environment.js';
export { EXIT_CODE_TEXTS, ExitCode } from './exit-codes.js';
