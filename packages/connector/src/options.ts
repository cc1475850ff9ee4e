import { ConnectorError } from './errors.js';
import { RECEIVE_BUFFER_BYTES, type TransportOptions } from './transport.js';

/** The kernel doubles what it is given and keeps it in an int (net/core/sock.c, __sock_set_rcvbuf). */
const RECEIVE_BUFFER_BYTES_MAX = 1 << 30;

/** Longer searches would burn a CPU for requests that do not come; the kernel's chains have gaps of microseconds. */
export const POLL_MICROSECONDS_MAX = 10_000;

/** A chain's next request arrives within 10 to 30 microseconds of the reply; 50 leaves room for a busy machine. */
const POLL_MICROSECONDS_DEFAULT = 50;

export interface CheckedOptions {
  readonly receiveBufferBytes: number;
  readonly acceptUserRequests: boolean;
  readonly pollMicroseconds: number;
}

/** Checks `options` and fills in defaults. Throws ERR_CONNECTOR_USAGE. `cpus`: CPUs this process may run on. */
export function checkOptions(options: TransportOptions, cpus: number): CheckedOptions {
  const receiveBufferBytes = options.receiveBufferBytes ?? RECEIVE_BUFFER_BYTES;
  const pollMicroseconds = options.pollMicroseconds ?? (cpus >= 2 ? POLL_MICROSECONDS_DEFAULT : 0);
  requireInteger('receiveBufferBytes', receiveBufferBytes, 1, RECEIVE_BUFFER_BYTES_MAX);
  requireInteger('pollMicroseconds', pollMicroseconds, 0, POLL_MICROSECONDS_MAX);
  return { receiveBufferBytes, pollMicroseconds, acceptUserRequests: options.acceptUserRequests ?? false };
}

function requireInteger(name: string, value: number, min: number, max: number): void {
  if (Number.isInteger(value) && value >= min && value <= max) return;
  throw new ConnectorError(
    'ERR_CONNECTOR_USAGE',
    `${name} is ${value}: give an integer from ${min} to ${max}`,
  );
}
