import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { HOST_DIRECTORY } from './constants.js';

/** A tmpfs holds disks, memory and output: a guest's flush is then a host fsync that costs nothing. */
const TMPFS_DIRECTORY = '/dev/shm';
const TMPFS_FREE_BYTES_MIN = 1 << 30;

/** `DMLOG_LAB_KEEP=1` leaves disks, consoles and outputs where they are. */
export function keepsFiles(): boolean {
  return process.env['DMLOG_LAB_KEEP'] === '1';
}

/** Everything that one test process puts on the host: one directory, and one watchdog that outlives the process to clean up. */
export interface RunDirectory {
  readonly path: string;
  /** From now on the watchdog ends this session when this process dies. */
  guard(session: number): void;
  unguard(session: number): void;
}

let current: { directory: RunDirectory; watchdog: ChildProcess } | undefined;

/** This process's directory, made on first use. */
export function runDirectory(): RunDirectory {
  if (current !== undefined) return current.directory;
  const path = mkdtempSync(`${chooseBase()}/dmlog-lab-`);
  const watchdog = spawn('/bin/sh', [`${HOST_DIRECTORY}/watchdog.sh`, keepsFiles() ? '' : path], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
    cwd: '/',
  });
  // It must not keep this process alive: it is there for the case that we die.
  watchdog.unref();
  watchdog.stdin!.on('error', () => {});
  (watchdog.stdin as unknown as { unref(): void }).unref();
  const tell = (line: string) => void watchdog.stdin!.write(`${line}\n`);
  const directory = {
    path,
    guard: (session: number) => tell(`add ${session}`),
    unguard: (session: number) => tell(`drop ${session}`),
  };
  current = { directory, watchdog };
  return directory;
}

/** Ends the watchdog, which then removes the directory (and ends whatever is still guarded). */
export function leaveRunDirectory(): void {
  if (current === undefined) return;
  const { directory, watchdog } = current;
  current = undefined;
  watchdog.stdin!.end();
  if (!keepsFiles()) rmSync(directory.path, { recursive: true, force: true });
}

function chooseBase(): string {
  try {
    accessSync(TMPFS_DIRECTORY, constants.W_OK);
    const stat = statfsSync(TMPFS_DIRECTORY);
    if (stat.bavail * stat.bsize >= TMPFS_FREE_BYTES_MIN) return TMPFS_DIRECTORY;
  } catch {
    // No tmpfs there: an ordinary directory is slower, and works.
  }
  return tmpdir();
}

/** Ends every process of a session. Returns when none is left (zombies do not count), or after `roundsMax` looks. */
export async function killSession(session: number, roundsMax = 200): Promise<void> {
  for (let round = 0; round < roundsMax; round++) {
    const pids = processesOfSession(session);
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended in between.
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Live processes of a session. /proc/<pid>/stat: pid (name) state parent group session … (proc(5)); a name may hold spaces. */
export function processesOfSession(session: number): number[] {
  const pids: number[] = [];
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'latin1');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (Number(fields[3]) === session && fields[0] !== 'Z' && fields[0] !== 'X') pids.push(Number(entry));
    } catch {
      // It ended in between.
    }
  }
  return pids;
}
