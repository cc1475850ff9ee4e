import net from 'node:net';
import { reason, systemCode } from '../device/errors.js';
import { LifecycleError } from './errors.js';

/** sun_path without its first byte, which is NUL for an abstract address (unix(7)). */
const ABSTRACT_NAME_BYTES = 107;

/** The lock of all dmlog daemons: singled and clusterd exclude each other. */
export const INSTANCE_LOCK_NAME = 'dmlog/instance';

export interface InstanceLock {
  release(): Promise<void>;
}

/**
 * Takes the host's one lock for log daemons, or fails at once.
 *
 * The lock is a unix socket bound to an *abstract* name: the kernel lets one process bind it, in one step, and frees it when that process
 * ends, however it ends. No file is left behind and none can be deleted under it. Names belong to a network namespace, as the
 * connector does. (Node offers no flock.) The limit: any local user could bind the name first and so keep a daemon from starting;
 * it cannot disturb one that runs. `ss -xlp` shows who holds it.
 *
 * @throws LifecycleError `ERR_ALREADY_RUNNING`.
 */
export function acquireInstanceLock(name: string = INSTANCE_LOCK_NAME): Promise<InstanceLock> {
  // Padded to full length: Node releases differ in whether they bind the name alone or the whole of sun_path, and all must mean one lock.
  const address = `\0${name.padEnd(ABSTRACT_NAME_BYTES, '.')}`;
  return new Promise((resolve, reject) => {
    // Nobody has anything to say here: whoever connects is turned away.
    const server = net.createServer((socket) => socket.destroy());
    server.on('error', (cause) => {
      const held = systemCode(cause) === 'EADDRINUSE';
      const what = held
        ? `another log daemon (singled or clusterd) runs on this host; the lock is the abstract socket @${name} (ss -xlp shows its holder)`
        : `cannot take the lock of the log daemons (abstract socket @${name}): ${reason(cause)}`;
      reject(new LifecycleError('ERR_ALREADY_RUNNING', what, { cause }));
    });
    server.listen(address, () => {
      server.unref();
      resolve({ release: () => new Promise((done) => server.close(() => done())) });
    });
  });
}
