/** Whether a file system call has not come back from the thread pool, for example a sync of a leg that stalls. */
export function poolIsBusy(): boolean {
  return process.getActiveResourcesInfo().some((kind) => kind.startsWith('FSReq'));
}

/** How long calls that are merely late may take to come back before the process is ended by a signal. */
export const END_GRACE_MS = 1000;
const END_POLL_MS = 10;

/**
 * Ends the process with `code`, also where a device stalls. Returns, and ends the process within `graceMs`.
 *
 * `process.exit` runs libuv's clean-up, which *joins* the threads of the pool: with one of them waiting for a stalled device the process would
 * neither serve nor end (measured on Node 20). Then only a signal ends it: SIGTERM where the end was orderly, so that a service manager
 * counts it as one, else SIGKILL. Even so the kernel keeps a thread in uninterruptible sleep until its device answers.
 */
export function endProcess(code: number, graceMs: number = END_GRACE_MS): void {
  if (!poolIsBusy()) process.exit(code);
  if (graceMs > 0) {
    setTimeout(() => endProcess(code, graceMs - END_POLL_MS), END_POLL_MS);
    return;
  }
  process.removeAllListeners('SIGTERM');
  process.kill(process.pid, code === 0 ? 'SIGTERM' : 'SIGKILL');
}
