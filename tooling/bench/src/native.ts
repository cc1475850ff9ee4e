import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { BenchError } from './errors.js';
import { ensureCacheDirectory, packageRoot } from './paths.js';

const HEADERS = ['wire.h', 'scripts.h', 'samples.h', 'check.h'];
const FLAGS = ['-O2', '-std=gnu11', '-Wall', '-Wextra'];

/** Paths of the compiled programs. */
export interface NativePrograms {
  readonly echo: string;
  readonly driver: string;
}

/**
 * Compiles the echo and the driver into the cache folder, when a source is newer than the program.
 * Throws {@link BenchError} `ERR_BENCH_NO_COMPILER`.
 */
export function compileNative(): NativePrograms {
  return { echo: compile('echo', HEADERS), driver: compile('driver', HEADERS) };
}

/** The same for the floor of ordered requests. libcpg is opened at run time; its interface is declared in the binding's package. */
export function compileCpg(): string {
  const binding = dirname(createRequire(import.meta.url).resolve('corosync-cpg-napi/package.json'));
  return compile('cpg', ['samples.h'], ['-I', join(binding, 'native'), '-ldl']);
}

function compile(name: string, headers: readonly string[], flags: readonly string[] = []): string {
  const folder = ensureCacheDirectory();
  const target = join(folder, name);
  const sources = [`${name}.c`, ...headers].map((file) => join(packageRoot, 'native', file));
  if (modifiedMs(target) > Math.max(...sources.map(modifiedMs))) return target;
  // Compiled beside the target and moved there: another run may be executing the old one.
  const scratch = mkdtempSync(join(folder, 'cc-'));
  try {
    execFileSync('cc', [...FLAGS, '-o', join(scratch, name), sources[0]!, ...flags], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    renameSync(join(scratch, name), target);
  } catch (cause) {
    throw new BenchError(
      'ERR_BENCH_NO_COMPILER',
      `cannot compile native/${name}.c with cc: ${String(cause)}`,
      { cause },
    );
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return target;
}

function modifiedMs(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/** Processors this process may run on, from /proc/self/status (`Cpus_allowed_list: 0-3,6`). */
export function allowedCpus(): number[] {
  const line = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return line.split(',').flatMap((part) => {
    const [first, last] = part.split('-').map(Number);
    return Array.from({ length: (last ?? first!) - first! + 1 }, (_, i) => first! + i);
  });
}
