import { closeSync, constants, openSync, readlinkSync } from 'node:fs';
import net from 'node:net';
import { constants as system } from 'node:os';
import { join } from 'node:path';
import { loadBinding, type ProcessBinding } from '@dmlog/connector';
import { RUNTIME_DIR } from '../config/schema.js';
import { reason, systemCode } from '../device/errors.js';
import { LifecycleError } from './errors.js';
import { ensureRuntimeDir } from './runtime-dir.js';

/** sun_path without its first byte, which is NUL for an abstract address (unix(7)). */
const ABSTRACT_NAME_BYTES = 107;

/** The lock of all dmlog daemons: singled and clusterd exclude each other. */
export const INSTANCE_LOCK_NAME = 'dmlog/instance';

export interface InstanceLock {
  release(): Promise<void>;
}

export interface InstanceLockOptions {
  readonly name?: string;
  /** Where the lock file is, whatever the runtime directory of a daemon: one that only root may write. Default {@link RUNTIME_DIR}. */
  readonly directory?: string;
  /** Null: the addon does not load. Default: the addon's. */
  readonly lockFile?: ProcessBinding['lockFile'] | null;
}

/**
 * Takes the host's one lock for log daemons, or fails at once.
 *
 * It is the kernel's lock on a file (flock), not the file: it ends with the process, however that ends, and the file stays. The file is in a
 * directory that only root may enter, so that nobody else can take it. One for each network namespace, as the connector belongs to one.
 *
 * Node cannot lock files. Where the addon of @dmlog/connector does not load, a unix socket bound to an *abstract* name takes its place: that any local user can
 * do, too, and so keep a daemon from starting.
 *
 * @throws LifecycleError `ERR_ALREADY_RUNNING`, `ERR_RUNTIME_DIR`.
 */
export async function acquireInstanceLock(options: InstanceLockOptions = {}): Promise<InstanceLock> {
  const { name = INSTANCE_LOCK_NAME, directory = RUNTIME_DIR } = options;
  const lockFile = options.lockFile === undefined ? addonsLockFile() : options.lockFile;
  if (lockFile === null) return bindAbstract(name);
  await ensureRuntimeDir(directory);
  const path = join(directory, `${name.replaceAll('/', '-')}-${networkNamespace()}.lock`);
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch (cause) {
    throw new LifecycleError('ERR_RUNTIME_DIR', `cannot open the lock file ${path}: ${reason(cause)}`, {
      cause,
    });
  }
  const errno = lockFile(fd);
  if (errno !== 0) {
    closeSync(fd);
    throw alreadyRunning(errno === system.errno.EAGAIN, `the lock on ${path} (lslocks shows its holder)`);
  }
  let held = true;
  return {
    release: async () => {
      if (held) closeSync(fd);
      held = false;
    },
  };
}

function addonsLockFile(): ProcessBinding['lockFile'] | null {
  try {
    return loadBinding().lockFile;
  } catch {
    return null;
  }
}

/** `net:[4026531840]` → `4026531840`. */
function networkNamespace(): string {
  return readlinkSync('/proc/self/ns/net').replaceAll(/[^0-9]/g, '');
}

function bindAbstract(name: string): Promise<InstanceLock> {
  // Padded to full length: Node releases differ in whether they bind the name alone or the whole of sun_path, and all must mean one lock.
  const address = `\0${name.padEnd(ABSTRACT_NAME_BYTES, '.')}`;
  return new Promise((resolve, reject) => {
    // Nobody has anything to say here: whoever connects is turned away.
    const server = net.createServer((socket) => socket.destroy());
    server.on('error', (cause) => {
      const held = systemCode(cause) === 'EADDRINUSE';
      reject(alreadyRunning(held, `the abstract socket @${name} (ss -xlp shows its holder)`, cause));
    });
    server.listen(address, () => {
      server.unref();
      resolve({ release: () => new Promise((done) => server.close(() => done())) });
    });
  });
}

function alreadyRunning(held: boolean, lock: string, cause?: unknown): LifecycleError {
  const what = held
    ? `another log daemon (singled or clusterd) runs on this host and holds ${lock}: use that one, or stop it first`
    : `cannot take the lock of the log daemons, ${lock}${cause === undefined ? '' : `: ${reason(cause)}`}`;
  return new LifecycleError('ERR_ALREADY_RUNNING', what, cause === undefined ? {} : { cause });
}
