import { readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { loadBinding, type ProcessBinding } from '@dmlog/connector';
import { reason } from '../device/errors.js';
import type { Logger } from '../logging.js';

/** The out-of-memory killer leaves such a process alone: OOM_SCORE_ADJ_MIN, include/uapi/linux/oom.h. */
const OOM_SCORE_ADJ_MIN = '-1000';
/** Descriptors that a service manager passes begin here. */
const FIRST_PASSED_DESCRIPTOR = 3;

function processBinding(): ProcessBinding | null {
  try {
    return loadBinding();
  } catch {
    return null; // The transport says so, or serves without.
  }
}

/**
 * Tells the kernel that this process is what writeback waits for (PR_SET_IO_FLUSHER): its allocations then never wait for dirty pages, which may be the mirror's own, and
 * it is throttled by what it writes itself and by nothing else.
 *
 * The setting is a thread's, inherited by the threads that it makes. Those of V8 are there before any code of ours, and the garbage collector waits for them. So under a
 * service manager the process executes itself once more, which all its threads then inherit; otherwise, at a prompt and in tests, half a second of start is worth more.
 * To be called before the thread pool is first used. Returns what could not be done; null where all is well.
 */
export function becomeIoFlusher(
  environment: NodeJS.ProcessEnv = process.env,
  binding: ProcessBinding | null = processBinding(),
): string | null {
  if (binding === null) return 'the addon of @dmlog/connector does not load';
  const before = binding.isIoFlusher();
  if (before === 1) return null;
  const errno = before < 0 ? -before : binding.becomeIoFlusher();
  if (errno !== 0) return `PR_SET_IO_FLUSHER fails with errno ${errno}`;
  if (environment['NOTIFY_SOCKET'] === undefined) return null;
  const words = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const passed = Number(environment['LISTEN_FDS'] ?? 0);
  const failed = binding.execute(
    process.execPath,
    [process.argv0, ...process.execArgv, ...process.argv.slice(1)],
    words,
    FIRST_PASSED_DESCRIPTOR + (Number.isInteger(passed) ? passed : 0),
  );
  return `this process cannot be executed once more (errno ${failed}): threads of V8 are no flushers`;
}

/** A mapping of this process that is backed by a file. */
interface FileMapping {
  readonly start: number;
  readonly end: number;
}

/** Lines of /proc/self/maps: `start-end perms offset dev inode path`. Devices are left out, and what is not mapped from a file. */
export function fileMappings(maps: string): FileMapping[] {
  return maps.split('\n').flatMap((line) => {
    const parts = /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+ +(\/\S.*)$/.exec(line);
    if (parts === null || parts[3]?.startsWith('/dev/') === true) return [];
    return [{ start: Number.parseInt(parts[1] as string, 16), end: Number.parseInt(parts[2] as string, 16) }];
  });
}

/**
 * Keeps in memory what a reclaim would take first: pages of files, that is the text of node, of its libraries and of the addons, and the state of logs. What is there
 * stays, and what is touched later stays from then on (MLOCK_ONFAULT): a page of text that was dropped would have to be read from a disk which may wait for this
 * daemon. The heap is not locked: V8 aborts where it cannot give pages back (found with mlockall). It goes only to swap, which the unit forbids (MemorySwapMax=0).
 * Returns the bytes that are covered.
 */
export function lockFilePages(binding: ProcessBinding | null = processBinding()): number | string {
  if (binding === null) return 'the addon of @dmlog/connector does not load';
  let bytes = 0;
  for (const { start, end } of fileMappings(readFileSync('/proc/self/maps', 'latin1'))) {
    const errno = binding.lockMapping(start, end);
    // Unmapped since the list was made: nothing to keep.
    if (errno !== 0 && errno !== constants.errno.ENOMEM) return `mlock2 fails with errno ${errno}`;
    if (errno === 0) bytes += end - start;
  }
  return bytes;
}

/** Everything that a process can do for itself once it is loaded. What fails is said, and the daemon serves all the same. */
export function settleInIoPath(logger: Logger, flusherProblem: string | null): void {
  const problems: string[] = flusherProblem === null ? [] : [flusherProblem];
  try {
    writeFileSync('/proc/self/oom_score_adj', OOM_SCORE_ADJ_MIN);
  } catch (error) {
    problems.push(`oom_score_adj cannot be set: ${reason(error)}`);
  }
  const locked = lockFilePages();
  if (typeof locked === 'string') problems.push(locked);
  if (mayBeSwapped()) {
    problems.push('memory of this process may be swapped out (set MemorySwapMax=0, as the unit does)');
  }
  if (problems.length === 0) {
    logger.debug({ lockedBytes: locked }, 'this process is ready for the I/O path');
  } else {
    logger.warn(
      { problems },
      'under memory pressure this daemon may wait for a disk that waits for it, or be killed: run it by its unit, or with CAP_SYS_RESOURCE and CAP_IPC_LOCK',
    );
  }
}

/** Whether there is swap, and the cgroup of this process may use it. */
function mayBeSwapped(): boolean {
  try {
    if (readFileSync('/proc/swaps', 'latin1').trim().split('\n').length < 2) return false;
    const path = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'latin1'))?.[1] ?? '/';
    return readFileSync(`/sys/fs/cgroup${path}/memory.swap.max`, 'latin1').trim() !== '0';
  } catch {
    return true;
  }
}
