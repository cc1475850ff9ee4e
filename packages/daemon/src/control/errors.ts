/** Failures of the control socket. Match on `code`. */
export type ControlErrorCode =
  /** Nothing listens at the path. */
  | 'ERR_CONTROL_NOT_RUNNING'
  /** The caller may not open the socket: it is root's. */
  | 'ERR_CONTROL_FORBIDDEN'
  /** No answer in time. */
  | 'ERR_CONTROL_TIMEOUT'
  /** The peer closed early, or did not speak this protocol. */
  | 'ERR_CONTROL_PROTOCOL'
  /** A live daemon listens at the path already. */
  | 'ERR_CONTROL_IN_USE'
  /** The socket cannot be created: directory, rights, or something else stands at the path. */
  | 'ERR_CONTROL_SOCKET'
  /** Answer: the line is no JSON, or no request. */
  | 'ERR_CONTROL_BAD_REQUEST'
  /** Answer: the line is longer than LINE_BYTES_MAX. The connection is closed. */
  | 'ERR_CONTROL_LINE_TOO_LONG'
  /** Answer: no log has that uuid, luid or name. */
  | 'ERR_CONTROL_UNKNOWN_LOG'
  /** Answer: what was asked for could not be finished in time. */
  | 'ERR_CONTROL_NOT_DONE'
  /** Answer: no method of that name. */
  | 'ERR_CONTROL_UNKNOWN_METHOD'
  /** Answer: CLIENTS_MAX are connected. The connection is closed. */
  | 'ERR_CONTROL_TOO_MANY_CLIENTS'
  /** Answer: the method failed without a code of its own. The daemon's log has the details. */
  | 'ERR_CONTROL_INTERNAL';

export class ControlError extends Error {
  override readonly name = 'ControlError';
  /** Stable. An answered error keeps the daemon's code, which may be any. */
  readonly code: ControlErrorCode | (string & {});
  constructor(code: ControlErrorCode | (string & {}), message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
