/**
 * Failures of log devices and legs. Match on `code`: two copies of the package may be loaded, and messages may change.
 */

/** Every way a log device or a leg can fail, with the Linux error number (positive, asm-generic/errno*.h) that goes to the kernel. */
export const DEVICE_ERRNO = {
  /** ENOENT: no such file, no such device number, or a device without a medium. */
  ERR_LOG_DEVICE_MISSING: 2,
  /** EIO: it could not be opened for another reason: `cause` has it. */
  ERR_LOG_DEVICE_OPEN: 5,
  /** EIO */
  ERR_LOG_DEVICE_READ: 5,
  /** EIO */
  ERR_LOG_DEVICE_WRITE: 5,
  /** ENOTBLK */
  ERR_LOG_DEVICE_NOT_BLOCK: 15,
  /** EBUSY: mounted, or held by something that is not device-mapper. */
  ERR_LOG_DEVICE_IN_USE: 16,
  /** EINVAL */
  ERR_LOG_DEVICE_TOO_SMALL: 22,
  /** EROFS */
  ERR_LOG_DEVICE_READ_ONLY: 30,
  /** ENODEV: no mirror holds this log device, so nobody knows what its legs are. Hold the clears back. */
  ERR_LEGS_UNKNOWN: 19,
  /** EIO: the cache of a leg could not be flushed. Hold the clears back. */
  ERR_LEG_FLUSH: 5,
} as const;
export type DeviceErrorCode = keyof typeof DEVICE_ERRNO;

/** Says what was wrong, where, and what to do about it. */
export class DeviceError extends Error {
  override readonly name = 'DeviceError';
  /** Stable: renaming one is a breaking change. */
  readonly code: DeviceErrorCode;
  /** Positive Linux error number; the kernel gets it negated. */
  readonly errno: number;
  /** The path or `major:minor` that was given. */
  readonly device: string;

  constructor(code: DeviceErrorCode, device: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.errno = DEVICE_ERRNO[code];
    this.device = device;
  }
}

/** The system's error name (`EBUSY`) of a failed call, or '' where the failure is not the system's. */
export function systemCode(error: unknown): string {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return '';
}

/** One line about any thrown value. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
