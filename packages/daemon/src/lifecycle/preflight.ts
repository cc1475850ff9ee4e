import { readFileSync, readlinkSync, statSync } from 'node:fs';
import { LifecycleError } from './errors.js';
import { describeListener, otherListeners, referenceDaemon } from './rivals.js';

/** Bits of the effective capability set, include/uapi/linux/capability.h. */
const CAPABILITIES = { CAP_NET_ADMIN: 12, CAP_SYS_ADMIN: 21 } as const;

/** Where the kernel tells of itself; tests bring their own. */
export interface PreflightRoots {
  readonly procRoot: string;
  readonly sysfsRoot: string;
}

const SYSTEM: PreflightRoots = { procRoot: '/proc', sysfsRoot: '/sys' };

/**
 * Looks whether the kernel will listen to this process, before anything is opened. Without these checks a daemon without rights looks
 * healthy: it may join the group and receive, but the kernel drops its replies without a word (drivers/md/dm-log-userspace-transfer.c, `cn_ulog_callback`).
 *
 * Returns warnings: things that may be put right while the daemon runs.
 *
 * @throws LifecycleError `ERR_NO_RIGHTS` naming the capabilities that are missing; `ERR_ALREADY_RUNNING` where the reference daemon serves.
 */
export function preflight(roots: PreflightRoots = SYSTEM): string[] {
  const missing = missingCapabilities(roots);
  if (missing.length > 0) {
    throw new LifecycleError(
      'ERR_NO_RIGHTS',
      `${missing.join(' and ')} missing: the kernel would ignore every reply; run as root, or give the capabilities (setcap, AmbientCapabilities=)`,
    );
  }
  const listeners = otherListeners(roots.procRoot);
  const rival = referenceDaemon(listeners);
  if (rival !== null) {
    throw new LifecycleError(
      'ERR_ALREADY_RUNNING',
      `${describeListener(rival)} serves dirty logs on this host already: two daemons would both answer the kernel, and neither knows of the other; stop it (systemctl stop cmirrord), then start this one`,
    );
  }
  const warnings: string[] = [];
  if (listeners.length > 0) {
    warnings.push(
      `${listeners.map(describeListener).join(', ')} listens on the connector group of the dirty logs, too: while it does the kernel does not notice when this daemon is gone, and waits 15 s for each answer`,
    );
  }
  if (!exists(`${roots.sysfsRoot}/module/dm_log_userspace`)) {
    warnings.push(
      'the module dm-log-userspace is not loaded: no mirror can ask yet; modprobe dm-log-userspace',
    );
  }
  if (!inInitialNetworkNamespace(roots)) {
    warnings.push(
      'this is not the network namespace of process 1: the kernel speaks in the initial one only, so it may never be heard here',
    );
  }
  return warnings;
}

function missingCapabilities(roots: PreflightRoots): string[] {
  const status = readFileSync(`${roots.procRoot}/self/status`, 'utf8');
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  if (effective === undefined) return [];
  // Both bits lie in the lower 32.
  const bits = Number.parseInt(effective.slice(-8), 16);
  return Object.entries(CAPABILITIES).flatMap(([name, bit]) => ((bits >>> bit) & 1 ? [] : [name]));
}

/** True also where it cannot be told: only root may read the links of process 1. */
function inInitialNetworkNamespace(roots: PreflightRoots): boolean {
  try {
    return readlinkSync(`${roots.procRoot}/self/ns/net`) === readlinkSync(`${roots.procRoot}/1/ns/net`);
  } catch {
    return true;
  }
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}
