import { systemCode } from '../device/errors.js';

/** Exit codes of the daemons, after sysexits.h where it has one. A code per reason: a service manager can tell "repair" from "retry". */
export const ExitCode = {
  /** Ended as asked, or `status` was printed. */
  OK: 0,
  /** The command line is wrong. EX_USAGE. */
  USAGE: 64,
  /** The configuration file is wrong or unreadable. EX_DATAERR. */
  CONFIG: 65,
  /** The kernel cannot be reached: no connector, no transport that loads; for `status`: no daemon answers. EX_UNAVAILABLE. */
  UNAVAILABLE: 69,
  /** A bug: please report the log. EX_SOFTWARE. */
  INTERNAL: 70,
  /** Runtime directory or control socket cannot be created. EX_CANTCREAT. */
  CANNOT_CREATE: 73,
  /** Another log daemon runs on this host. EX_TEMPFAIL. */
  ALREADY_RUNNING: 75,
  /** Started to take the place of a daemon that serves on. EX_PROTOCOL. */
  HANDOVER: 76,
  /** Rights are missing: root, or CAP_NET_ADMIN and CAP_SYS_ADMIN. EX_NOPERM. */
  NO_RIGHTS: 77,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** One line per exit code, for help and manuals. */
export const EXIT_CODE_TEXTS: readonly (readonly [code: string, text: string])[] = [
  ['0', 'ended as asked'],
  ['64', 'wrong command line'],
  ['65', 'wrong or unreadable configuration file'],
  ['69', 'the kernel cannot be reached (connector, transport); for status: no daemon answers'],
  ['70', 'internal error: please report the log'],
  ['73', 'cannot create the runtime directory or the control socket'],
  ['75', 'another log daemon runs on this host'],
  ['76', 'did not take the place of the daemon that started it, which serves on'],
  ['77', 'missing rights: run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN'],
  ['128+n', 'a second signal n ended it at once (130 SIGINT, 143 SIGTERM)'],
];

const BY_ERROR_CODE: Readonly<Record<string, ExitCode>> = {
  ERR_CONFIG_FLAG: ExitCode.USAGE,
  ERR_CONFIG_FILE: ExitCode.CONFIG,
  ERR_CONFIG_SYNTAX: ExitCode.CONFIG,
  ERR_CONFIG_KEY: ExitCode.CONFIG,
  ERR_CONNECTOR_BINDING: ExitCode.UNAVAILABLE,
  ERR_CONNECTOR_SOCKET: ExitCode.UNAVAILABLE,
  ERR_CONNECTOR_PERMISSION: ExitCode.NO_RIGHTS,
  ERR_CONTROL_NOT_RUNNING: ExitCode.UNAVAILABLE,
  ERR_CONTROL_TIMEOUT: ExitCode.UNAVAILABLE,
  ERR_CONTROL_PROTOCOL: ExitCode.UNAVAILABLE,
  ERR_CONTROL_FORBIDDEN: ExitCode.NO_RIGHTS,
  ERR_CONTROL_SOCKET: ExitCode.CANNOT_CREATE,
  ERR_CONTROL_IN_USE: ExitCode.ALREADY_RUNNING,
  ERR_RUNTIME_DIR: ExitCode.CANNOT_CREATE,
  ERR_ALREADY_RUNNING: ExitCode.ALREADY_RUNNING,
  ERR_NO_RIGHTS: ExitCode.NO_RIGHTS,
  ERR_HANDOVER: ExitCode.HANDOVER,
};

/** The exit code for what ended a daemon. What is not known is a bug: {@link ExitCode.INTERNAL}. */
export function exitCodeOf(error: unknown): ExitCode {
  const code = systemCode(error);
  return Object.hasOwn(BY_ERROR_CODE, code) ? (BY_ERROR_CODE[code] as ExitCode) : ExitCode.INTERNAL;
}
