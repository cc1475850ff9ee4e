import { lstat, mkdir, statfs } from 'node:fs/promises';
import { reason } from '../device/errors.js';
import { LifecycleError } from './errors.js';

/** TMPFS_MAGIC and RAMFS_MAGIC, include/uapi/linux/magic.h. */
const MEMORY_FILE_SYSTEMS: readonly number[] = [0x01021994, 0x858458f6];
const GROUP_OR_OTHERS_WRITE = 0o022;

export interface RuntimeDir {
  readonly path: string;
  /** False: a write of state could wait for a disk, which may be the very mirror. Worth a warning. */
  readonly inMemory: boolean;
}

/**
 * Creates the runtime directory with mode 0700, or accepts one that stands there: a real directory of this user that nobody else may write.
 * Its mode is not changed: `--runtime-dir /tmp` must end in an error and not in a locked /tmp.
 *
 * @throws LifecycleError `ERR_RUNTIME_DIR`.
 */
export async function ensureRuntimeDir(path: string): Promise<RuntimeDir> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    const found = await lstat(path);
    if (!found.isDirectory()) throw new Error('it is no directory (a symbolic link is not followed)');
    if (found.uid !== process.getuid?.()) throw new Error(`it belongs to uid ${found.uid}`);
    if ((found.mode & GROUP_OR_OTHERS_WRITE) !== 0) {
      throw new Error(
        `others may write it (mode ${(found.mode & 0o7777).toString(8)}): chmod 700 it, or choose one of its own`,
      );
    }
    return { path, inMemory: MEMORY_FILE_SYSTEMS.includes((await statfs(path)).type) };
  } catch (cause) {
    throw new LifecycleError('ERR_RUNTIME_DIR', `cannot use runtime directory ${path}: ${reason(cause)}`, {
      cause,
    });
  }
}
