import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ip, isAlive, runCommand, startTimeOf } from './host.js';

/*
 * Everything that a process puts on the host is called coro-<pid>-<start time>-…: namespaces, and directories in the temporary directory. Two runs never
 * collide, and what a dead process left can be told from what is in use.
 */
const PREFIX = 'coro-';
const NAME = /^coro-(\d+)-(\d+)-/;
const SHARED_MEMORY = '/dev/shm';
const KILL_ROUNDS_MAX = 500;

let clusters = 0;

/** A fresh name, for one cluster. */
export function runName(): string {
  return `${PREFIX}${process.pid}-${startTimeOf(process.pid) ?? 0}-${++clusters}`;
}

export function runDirectory(name: string): string {
  const path = mkdtempSync(join(tmpdir(), `${name}-`));
  mkdirSync(join(path, 'pids'));
  return path;
}

/** Shared memory of a corosync that is dead: qb-<its pid>-<client's pid>-… and its flight recorder. Clients that have it mapped keep it. */
export function removeSharedMemory(pid: number): void {
  for (const entry of readdirSync(SHARED_MEMORY)) {
    if (entry.startsWith(`qb-${pid}-`) || entry.startsWith(`qb-corosync-${pid}-`)) {
      rmSync(join(SHARED_MEMORY, entry), { recursive: true, force: true });
    }
  }
}

/** SIGKILL, also to a stopped process; resolves when it is gone. */
export async function killProcess(pid: number): Promise<void> {
  for (let round = 0; round < KILL_ROUNDS_MAX && isAlive(pid); round++) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Names of namespaces that belong to a run. */
export async function namespacesOf(matches: (name: string) => boolean): Promise<string[]> {
  const { stdout } = await runCommand('ip', ['netns', 'list']);
  const names = stdout.split('\n').map((line) => line.split(' ')[0] ?? '');
  return names.filter((name) => NAME.test(name) && matches(name));
}

/** Whether the process that a name speaks of is gone. */
function isLeftover(name: string): boolean {
  const [, pid, start] = NAME.exec(name) ?? [];
  return pid !== undefined && startTimeOf(Number(pid)) !== start;
}

/** Removes what dead processes left: their daemons died with them, names, directories and shared memory did not. */
export async function removeLeftovers(): Promise<void> {
  for (const name of await namespacesOf(isLeftover)) {
    // Two processes may do this at once: whoever comes second finds nothing.
    await ip('netns', 'del', name).catch(() => {});
  }
  for (const entry of readdirSync(tmpdir())) {
    if (!isLeftover(entry)) continue;
    const directory = join(tmpdir(), entry);
    for (const pid of recordedPids(directory)) if (!isAlive(pid)) removeSharedMemory(pid);
    rmSync(directory, { recursive: true, force: true });
  }
}

function recordedPids(directory: string): number[] {
  try {
    return readdirSync(join(directory, 'pids')).map(Number);
  } catch {
    return [];
  }
}

/** The end of a log. */
export function tailOf(path: string, lines: number): string {
  try {
    return readFileSync(path, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  } catch {
    return '(no log)';
  }
}
