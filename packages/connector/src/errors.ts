/** Every error of this package. Match on {@link ConnectorError.code}: renaming one is a breaking change. */
export type ConnectorErrorCode =
  /** An option is out of range, or a method was called in the wrong order. A bug of the caller. */
  | 'ERR_CONNECTOR_USAGE'
  /** The addon cannot be loaded: another platform, or it was not built. */
  | 'ERR_CONNECTOR_BINDING'
  /** The process lacks CAP_NET_ADMIN, or the socket family is not there for it. */
  | 'ERR_CONNECTOR_PERMISSION'
  /** The socket could not be opened, or died. */
  | 'ERR_CONNECTOR_SOCKET'
  /** The receive buffer overflowed: at least one request was lost and is repeated after 15 s. */
  | 'ERR_CONNECTOR_OVERRUN'
  /** The netlink transport serves, but an overflow of its receive buffer may abort the process. */
  | 'ERR_CONNECTOR_UNGUARDED'
  /** The socket refused a reply. */
  | 'ERR_CONNECTOR_SEND'
  /** The handler threw, or returned a length that is no reply length. `cause` is what it threw. */
  | 'ERR_CONNECTOR_HANDLER';

export class ConnectorError extends Error {
  override readonly name = 'ConnectorError';
  readonly code: ConnectorErrorCode;

  constructor(code: ConnectorErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Turns what a failed system call threw (an error with an errno name as `code`) into one that says what to do. */
export function socketError(cause: unknown): ConnectorError {
  const text = cause instanceof Error ? cause.message : String(cause);
  const errnoName = (cause as { code?: unknown } | null)?.code;
  if (errnoName === 'EPERM' || errnoName === 'EACCES') {
    return new ConnectorError(
      'ERR_CONNECTOR_PERMISSION',
      `cannot listen on the kernel connector: ${text}. Run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN`,
      { cause },
    );
  }
  if (errnoName === 'EPROTONOSUPPORT') {
    return new ConnectorError(
      'ERR_CONNECTOR_SOCKET',
      `cannot open the kernel connector: ${text}. Load the kernel module cn (CONFIG_CONNECTOR)`,
      { cause },
    );
  }
  return new ConnectorError('ERR_CONNECTOR_SOCKET', `cannot open the kernel connector: ${text}`, { cause });
}
