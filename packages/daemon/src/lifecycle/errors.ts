/** Why a daemon cannot start on this host. Match on `code`. */
export class LifecycleError extends Error {
  override readonly name = 'LifecycleError';
  /** Stable. */
  readonly code: 'ERR_RUNTIME_DIR' | 'ERR_ALREADY_RUNNING' | 'ERR_NO_RIGHTS' | 'ERR_HANDOVER';
  constructor(code: LifecycleError['code'], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
