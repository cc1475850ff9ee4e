import type { CpgBinding } from './binding.js';
import { CpgError } from './errors.js';
import type { CpgHandlers } from './types.js';

export interface CpgOptions {
  /** 1 to 127 printable ASCII characters (corosync compares names as C strings). */
  readonly group: string;
  readonly handlers: CpgHandlers;
  /** Whether rings come with their quorum; needs libquorum. Default: true. */
  readonly quorum?: boolean;
  /** Own messages that may be on their way (queued, or not yet delivered to ourselves) before `send` returns false. Default: 4096. */
  readonly maxInFlightMessages?: number;
  /** Bytes of them. Default: 8 MiB. */
  readonly maxInFlightBytes?: number;
  /** How long to wait for a corosync that starts, synchronises or does not answer; each for open, join and leave. Default: 30 000 ms. */
  readonly timeoutMs?: number;
  /** Names or paths of the libraries. Default: COROSYNC_CPG_LIBRARY and COROSYNC_QUORUM_LIBRARY, else libcpg.so.4 and libquorum.so.5. */
  readonly libraries?: { readonly cpg?: string; readonly quorum?: string };
  /** Default: {@link loadBinding}. */
  readonly binding?: CpgBinding;
}

export const IN_FLIGHT_MESSAGES_MAX = 4096;
export const IN_FLIGHT_BYTES_MAX = 8 << 20;
export const TIMEOUT_MS = 30_000;
/** The longest setTimeout. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

export interface CheckedOptions {
  readonly group: string;
  readonly handlers: CpgHandlers;
  readonly maxInFlightMessages: number;
  readonly maxInFlightBytes: number;
  readonly timeoutMs: number;
  readonly cpgLibrary: string;
  /** Null: without quorum. */
  readonly quorumLibrary: string | null;
}

/** Throws ERR_CPG_USAGE. */
export function checkOptions(options: CpgOptions): CheckedOptions {
  const { group, handlers } = options;
  if (typeof group !== 'string' || !/^[\x20-\x7e]{1,127}$/.test(group)) {
    throw new CpgError(
      'ERR_CPG_USAGE',
      `group: 1 to 127 printable ASCII characters, not ${typeof group === 'string' ? JSON.stringify(group) : typeof group}`,
    );
  }
  if (typeof handlers?.deliver !== 'function' || typeof handlers.died !== 'function') {
    throw new CpgError('ERR_CPG_USAGE', 'handlers: deliver and died must be functions');
  }
  return {
    group,
    handlers,
    maxInFlightMessages: count('maxInFlightMessages', options.maxInFlightMessages ?? IN_FLIGHT_MESSAGES_MAX),
    maxInFlightBytes: count('maxInFlightBytes', options.maxInFlightBytes ?? IN_FLIGHT_BYTES_MAX),
    timeoutMs: count('timeoutMs', options.timeoutMs ?? TIMEOUT_MS, TIMEOUT_MS_MAX),
    cpgLibrary: options.libraries?.cpg ?? process.env['COROSYNC_CPG_LIBRARY'] ?? 'libcpg.so.4',
    quorumLibrary:
      (options.quorum ?? true)
        ? (options.libraries?.quorum ?? process.env['COROSYNC_QUORUM_LIBRARY'] ?? 'libquorum.so.5')
        : null,
  };
}

function count(name: string, value: number, max = Number.MAX_SAFE_INTEGER): number {
  if (Number.isInteger(value) && value >= 1 && value <= max) return value;
  throw new CpgError('ERR_CPG_USAGE', `${name}: an integer from 1 to ${max}, not ${value}`);
}
