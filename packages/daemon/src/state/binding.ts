import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { reason } from '../device/errors.js';

/** The whole native surface: see native/dmlog_mapping.c. */
export interface MappingBinding {
  /**
   * The first `bytes` bytes of an open file as memory that is shared with it; a shorter file is made so long, its space taken. Throws an Error
   * whose `code` is an errno name: ENOSPC where the file system is full.
   */
  map(fd: number, bytes: number): ArrayBuffer;
  /** Gives the memory of {@link map} back; every view of it has length 0 then. Twice is once. */
  unmap(memory: ArrayBuffer): void;
}

const ADDON = 'dmlog_mapping.node';

/**
 * Loads the addon: the shipped binary of this architecture, which serves glibc and musl, else a build of one's own (`node native/build.mjs`).
 *
 * @param root directory that holds `prebuilds` and `build`. Default: this package's own (dist/ stands directly below it, this file two below).
 * @throws Error that says what was tried.
 */
export function loadMappingBinding(root?: string): MappingBinding {
  const require = createRequire(import.meta.url);
  const here = dirname(fileURLToPath(import.meta.url));
  const roots = root === undefined ? [dirname(here), dirname(dirname(here))] : [root];
  const target = `linux-${process.arch}`;
  const failures: string[] = [];
  for (const candidate of roots.flatMap((base) => [
    join(base, 'prebuilds', target, ADDON),
    join(base, 'build', 'Release', ADDON),
  ])) {
    try {
      return require(candidate) as MappingBinding;
    } catch (cause) {
      failures.push(reason(cause).split('\n')[0] as string);
    }
  }
  throw new Error(`no addon for ${target}: ${failures.join('; ')}; build it: node native/build.mjs`);
}
