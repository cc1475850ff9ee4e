/** Stable reasons. `_HOST`: the machine lacks something. `_TIMEOUT`: a condition did not come true in time. `_COMMAND`: a command failed. */
export type CorosyncLabErrorCode =
  | 'ERR_COROSYNC_LAB_HOST'
  | 'ERR_COROSYNC_LAB_USAGE'
  | 'ERR_COROSYNC_LAB_TIMEOUT'
  | 'ERR_COROSYNC_LAB_COMMAND'
  | 'ERR_COROSYNC_LAB_CLIENT';

export class CorosyncLabError extends Error {
  override readonly name = 'CorosyncLabError';
  readonly code: CorosyncLabErrorCode;

  constructor(code: CorosyncLabErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
