export type BenchErrorCode =
  | 'ERR_BENCH_NO_COMPILER'
  | 'ERR_BENCH_NO_RIGHTS'
  | 'ERR_BENCH_WRONG_REPLY'
  | 'ERR_BENCH_SUBJECT';

/**
 * Everything that ends a run early.
 *
 * - `ERR_BENCH_NO_COMPILER`: no `cc`, or it refused the sources.
 * - `ERR_BENCH_NO_RIGHTS`: no private network namespace, or group 7 cannot be joined: run as root.
 * - `ERR_BENCH_WRONG_REPLY`: a reply the kernel would not accept, or none at all.
 * - `ERR_BENCH_SUBJECT`: an echo or a daemon that did not start, or died.
 */
export class BenchError extends Error {
  override readonly name = 'BenchError';
  readonly code: BenchErrorCode;

  constructor(code: BenchErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
