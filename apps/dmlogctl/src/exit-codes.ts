import { ExitCode as DaemonExitCode, exitCodeOf } from '@dmlog/daemon';

/** Exit codes, after sysexits.h where it has one. Stable. */
export const ExitCode = {
  OK: 0,
  /** What was looked at is not as it should be: `verify`, `repair` without `--write`, `inspect --difference`, `doctor`, `replay`. */
  FOUND: 1,
  USAGE: 64,
  /** The file or device is no log image, no trace. EX_DATAERR. */
  DATA: 65,
  /** There is no such file, device, log or mirror. EX_NOINPUT. */
  NO_INPUT: 66,
  /** No daemon answers. EX_UNAVAILABLE. */
  UNAVAILABLE: 69,
  INTERNAL: 70,
  /** dmsetup, a file or a device failed. EX_OSERR. */
  SYSTEM: 71,
  /** It was not done in time, and may be tried again. EX_TEMPFAIL. */
  NOT_DONE: 75,
  NO_RIGHTS: 77,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** One line per exit code, for help and manual. */
export const EXIT_CODE_TEXTS: readonly (readonly [code: number, text: string])[] = [
  [0, 'done; nothing is wrong'],
  [
    1,
    'what was looked at is not as it should be (verify, repair without --write, inspect --difference, doctor, replay)',
  ],
  [64, 'wrong command line'],
  [65, 'the file or device holds no log image, or no trace'],
  [66, 'there is no such file, device, log or mirror'],
  [69, 'no daemon answers'],
  [70, 'internal error: please report it'],
  [71, 'dmsetup, a file or a device failed'],
  [75, 'not done in time: try again'],
  [77, 'missing rights: run as root'],
];

/** A failure that says what to do, with its exit code. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

const BY_ERROR_CODE: Readonly<Record<string, ExitCode>> = {
  ERR_CONTROL_UNKNOWN_LOG: ExitCode.NO_INPUT,
  ERR_CONTROL_BAD_REQUEST: ExitCode.USAGE,
  ERR_CONTROL_UNKNOWN_METHOD: ExitCode.UNAVAILABLE,
  ERR_CONTROL_TOO_MANY_CLIENTS: ExitCode.NOT_DONE,
  ERR_CONTROL_NOT_DONE: ExitCode.NOT_DONE,
  ERR_LOG_DEVICE_MISSING: ExitCode.NO_INPUT,
  ERR_TRACE: ExitCode.DATA,
  ERR_IMAGE: ExitCode.DATA,
  ENOENT: ExitCode.NO_INPUT,
  EACCES: ExitCode.NO_RIGHTS,
  EPERM: ExitCode.NO_RIGHTS,
};

/** The exit code for what ended a command. */
export function exitCodeFor(error: unknown): number {
  if (error instanceof CommandFailure) return error.exitCode;
  const code = (error as { code?: unknown } | null)?.code;
  if (typeof code === 'string') {
    const own = Object.hasOwn(BY_ERROR_CODE, code) ? BY_ERROR_CODE[code] : undefined;
    if (own !== undefined) return own;
    if (/^E[A-Z0-9]+$/.test(code) || code.startsWith('ERR_LOG_DEVICE')) return ExitCode.SYSTEM;
  }
  const daemons = exitCodeOf(error);
  return daemons === DaemonExitCode.INTERNAL ? ExitCode.INTERNAL : daemons;
}
