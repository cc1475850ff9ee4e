/** Threads of libuv's pool, which makes all file system calls; the default is 4. */
export const THREAD_POOL_THREADS = '64';

/**
 * Enlarges the thread pool, unless the environment says otherwise. A write to a log device, or the flush of a leg, that stalls holds one thread for as
 * long as it stalls: with 4 threads, 4 stalled devices would stop every other log of the machine.
 *
 * Must run before the pool is first used, because its size is read then, once. *That is why the program is CommonJS*: Node reads an ES module's
 * own file through the pool, so its first statement already comes too late (measured on Node 20: 4 threads stay 4).
 */
export function sizeThreadPool(environment: NodeJS.ProcessEnv = process.env): void {
  environment['UV_THREADPOOL_SIZE'] ??= THREAD_POOL_THREADS;
}
