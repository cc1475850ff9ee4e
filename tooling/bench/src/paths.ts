import { existsSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package's folder: sources and the bundle both stand one level below it. */
export const packageRoot: string = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Git-ignored; binaries, the scratch log device and the last result. On a real file system, as O_DIRECT demands. */
export const cacheDirectory: string = join(packageRoot, '.cache');

/** Where {@link cacheDirectory} must exist before anything is written to it. */
export function ensureCacheDirectory(): string {
  mkdirSync(cacheDirectory, { recursive: true });
  return cacheDirectory;
}

/** The built daemon, or undefined while it has not been built. `DMLOG_BENCH_SINGLED` names another build to measure. */
export function singledEntry(): string | undefined {
  const other = process.env['DMLOG_BENCH_SINGLED'];
  if (other !== undefined && other !== '') return other;
  return binOf('@dmlog/singled', 'singled');
}

/** The built daemon of clusters, or undefined while it has not been built. */
export function clusterdEntry(): string | undefined {
  return binOf('@dmlog/clusterd', 'clusterd');
}

function binOf(packageName: string, program: string): string | undefined {
  const require = createRequire(import.meta.url);
  const manifestPath = require.resolve(`${packageName}/package.json`);
  const { bin } = require(manifestPath) as { bin?: string | Record<string, string> };
  const relative = typeof bin === 'string' ? bin : bin?.[program];
  if (relative === undefined) return undefined;
  const entry = join(dirname(manifestPath), relative);
  return existsSync(entry) ? entry : undefined;
}

/** The smallest daemon on the transport, built with this package. */
export function transportEchoEntry(): string | undefined {
  const entry = join(packageRoot, 'dist', 'transport-echo.js');
  return existsSync(entry) ? entry : undefined;
}
