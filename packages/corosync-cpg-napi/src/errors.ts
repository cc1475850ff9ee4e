/** Every error of this package. Match on {@link CpgError.code}: renaming one is a breaking change. */
export type CpgErrorCode =
  /** An option is out of range, or a method was called in the wrong order. A bug of the caller. */
  | 'ERR_CPG_USAGE'
  /** The addon cannot be loaded: another platform, or it was not built. */
  | 'ERR_CPG_BINDING'
  /** libcpg or libquorum is not installed, or too old. */
  | 'ERR_CPG_LIBRARY'
  /** Corosync is not running. */
  | 'ERR_CPG_NOT_RUNNING'
  /** This user may not talk to corosync. */
  | 'ERR_CPG_ACCESS'
  /** Corosync did not answer, or was not ready, within `timeoutMs`. */
  | 'ERR_CPG_TIMEOUT'
  /** This process is in that group already. */
  | 'ERR_CPG_EXIST'
  /** Corosync, or this process, has no memory, descriptors or threads left. */
  | 'ERR_CPG_RESOURCES'
  /** The message is larger than `maxMessageBytes`. */
  | 'ERR_CPG_TOO_BIG'
  /** Corosync ended, or threw this process out: the membership is lost. */
  | 'ERR_CPG_DIED'
  /** The group was closed by this process. */
  | 'ERR_CPG_CLOSED'
  /** Any other answer of corosync; `csError` has it. */
  | 'ERR_CPG_COROSYNC';

export class CpgError extends Error {
  override readonly name = 'CpgError';
  readonly code: CpgErrorCode;
  /** What corosync's library returned (`cs_error_t`), where that is the reason. */
  readonly csError: number | undefined;

  constructor(code: CpgErrorCode, message: string, options?: ErrorOptions & { csError?: number }) {
    super(message, options);
    this.code = code;
    this.csError = options?.csError;
  }
}

/** `cs_error_t`, and the results that the addon adds (native/member.h). */
export const CsError = {
  OK: 1,
  LIBRARY: 2,
  TIMEOUT: 5,
  TRY_AGAIN: 6,
  INVALID_PARAM: 7,
  NO_MEMORY: 8,
  BAD_HANDLE: 9,
  BUSY: 10,
  ACCESS: 11,
  NOT_EXIST: 12,
  NAME_TOO_LONG: 13,
  EXIST: 14,
  INTERRUPT: 16,
  NO_RESOURCES: 18,
  NOT_SUPPORTED: 19,
  MESSAGE_ERROR: 22,
  TOO_BIG: 26,
  NO_LIBRARY: 1000,
  NO_SYMBOL: 1001,
  NO_THREAD: 1002,
} as const;

const ADVICE: Partial<Record<number, readonly [CpgErrorCode, string]>> = {
  [CsError.LIBRARY]: ['ERR_CPG_NOT_RUNNING', 'corosync is not running here: systemctl start corosync'],
  [CsError.TIMEOUT]: ['ERR_CPG_TIMEOUT', 'corosync did not answer in time: is it stopped?'],
  [CsError.TRY_AGAIN]: [
    'ERR_CPG_TIMEOUT',
    'corosync is starting or synchronising, and did not become ready: see its log',
  ],
  [CsError.NO_MEMORY]: ['ERR_CPG_RESOURCES', 'no memory left'],
  [CsError.ACCESS]: [
    'ERR_CPG_ACCESS',
    'this user may not talk to corosync: run as root, or add "uidgid { uid: <name> }" to corosync.conf and reload it',
  ],
  [CsError.NOT_EXIST]: [
    'ERR_CPG_ACCESS',
    "corosync's /dev/shm is not visible to this process: share it between containers",
  ],
  [CsError.NAME_TOO_LONG]: ['ERR_CPG_USAGE', 'the group name is too long: at most 127 bytes'],
  [CsError.EXIST]: [
    'ERR_CPG_EXIST',
    'this process is in that group already: one membership per process and group',
  ],
  [CsError.NO_RESOURCES]: [
    'ERR_CPG_RESOURCES',
    'no descriptors or shared memory left: see /dev/shm and ulimit -n',
  ],
  [CsError.TOO_BIG]: ['ERR_CPG_TOO_BIG', 'the message is too large'],
  [CsError.NO_LIBRARY]: [
    'ERR_CPG_LIBRARY',
    "corosync's client libraries are missing: apt-get install libcpg4 libquorum5 (Debian), dnf install corosynclib (Fedora)",
  ],
  [CsError.NO_SYMBOL]: ['ERR_CPG_LIBRARY', "corosync's client libraries are too old: 3.1 or later is needed"],
  [CsError.NO_THREAD]: ['ERR_CPG_RESOURCES', 'no thread could be started'],
};

/** The error for a result of corosync. `what` was tried; `detail` is the call that failed, or the loader's message. */
export function corosyncError(csError: number, what: string, detail = ''): CpgError {
  const [code, advice] = ADVICE[csError] ?? ['ERR_CPG_COROSYNC', 'see cs_error_t in corosync/corotypes.h'];
  const where =
    detail === '' ? '' : csError >= CsError.NO_LIBRARY ? ` (${detail})` : ` (${detail}: ${csError})`;
  return new CpgError(code, `cannot ${what}: ${advice}${where}`, { csError });
}
