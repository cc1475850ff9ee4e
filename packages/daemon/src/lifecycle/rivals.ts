import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { connectorListeners } from '@dmlog/connector';
import type { Logger } from '../logging.js';

/** The reference daemon's programs: cmirrord of lvm2, clogd before it. They take no lock that we could take, and look for nobody. */
const REFERENCE_DAEMONS: readonly string[] = ['cmirrord', 'clogd'];
/** How often a running daemon looks whether somebody else has begun to answer. */
export const RIVAL_LOOK_MS = 15_000;

/** A process, not this one, that hears what the kernel asks. */
export interface Listener {
  readonly pid: number;
  /** /proc/<pid>/comm. */
  readonly program: string;
  readonly uid: number;
  /** Of its socket. */
  readonly inode: string;
}

/**
 * The other processes that listen on the connector group of dm-log-userspace: by their sockets, which they all must have, not by pid files, which need not be.
 * A socket that this process has open, too, is no other's (a hand-over). Empty where /proc does not tell.
 */
export function otherListeners(procRoot = '/proc'): Listener[] {
  const portOf = new Map<string, number>();
  try {
    for (const { inode, port } of connectorListeners(join(procRoot, 'self/net/netlink')))
      portOf.set(inode, port);
  } catch {
    return [];
  }
  for (const inode of socketsOf(join(procRoot, 'self'))) portOf.delete(inode);
  if (portOf.size === 0) return [];
  const found = processes(procRoot).flatMap((pid) => {
    const inode = socketsOf(join(procRoot, String(pid))).find((socket) => portOf.has(socket));
    if (inode === undefined) return [];
    portOf.delete(inode);
    return listener(procRoot, pid, inode);
  });
  // Without CAP_SYS_PTRACE the descriptors of stronger processes are hidden. The port is the process id of whoever did not choose another one.
  const guessed = [...portOf].flatMap(([inode, port]) => listener(procRoot, port, inode));
  return [...found, ...guessed];
}

/** None where there is no such process, or no longer. */
function listener(procRoot: string, pid: number, inode: string): Listener[] {
  const directory = join(procRoot, String(pid));
  try {
    const program = readFileSync(join(directory, 'comm'), 'utf8').trim();
    return [{ pid, program, uid: statSync(directory).uid, inode }];
  } catch {
    return [];
  }
}

/** The one among them that answers the kernel, too; only root's processes can. Null: none that is known for it. */
export function referenceDaemon(listeners: readonly Listener[]): Listener | null {
  return listeners.find(({ program, uid }) => uid === 0 && REFERENCE_DAEMONS.includes(program)) ?? null;
}

export function describeListener({ program, pid }: Listener): string {
  return `${program} (process ${pid})`;
}

/** Says loudly when the reference daemon is started beside this one, which nothing prevents. Returns a function that ends it. */
export function watchForRivals(logger: Logger, look: () => readonly Listener[] = otherListeners): () => void {
  let known: number | null = null;
  const timer = setInterval(() => {
    const rival = referenceDaemon(look());
    if (rival !== null && rival.pid !== known) {
      logger.error(
        { rival: rival.pid },
        `${describeListener(rival)} answers the kernel beside this daemon, and the two do not know of each other: MIRRORS MAY BE CORRUPTED; stop it at once`,
      );
    }
    known = rival?.pid ?? null;
  }, RIVAL_LOOK_MS);
  timer.unref();
  return () => clearInterval(timer);
}

function processes(procRoot: string): number[] {
  return readdirSync(procRoot)
    .filter((name) => /^[0-9]+$/.test(name))
    .map(Number);
}

/** Inodes of the sockets that a process has open; none where it has ended or this process may not look. */
function socketsOf(directory: string): string[] {
  try {
    return readdirSync(join(directory, 'fd')).flatMap((fd) => {
      try {
        const inode = /^socket:\[([0-9]+)\]$/.exec(readlinkSync(join(directory, 'fd', fd)))?.[1];
        return inode === undefined ? [] : [inode];
      } catch {
        return [];
      }
    });
  } catch {
    return [];
  }
}
