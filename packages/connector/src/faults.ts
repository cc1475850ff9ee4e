import { ConnectorError } from './errors.js';
import { SLOT_BYTES, type TransportFault, type TransportOptions } from './transport.js';

/** Reports one fault. */
export type FaultSink = (kind: TransportFault['kind'], error: ConnectorError) => void;

/**
 * A sink that hands faults to `onFault`. An exception in `onFault` is a bug of the application: it is thrown again from the
 * event loop, where it becomes an uncaughtException, and never unwinds through a transport.
 */
export function faultSink(options: TransportOptions): FaultSink {
  const { onFault } = options;
  if (onFault === undefined) return () => {};
  return (kind, error) => {
    try {
      onFault({ kind, error });
    } catch (thrown) {
      setImmediate(() => {
        throw thrown;
      });
    }
  };
}

export function handlerThrew(cause: unknown): ConnectorError {
  const text = cause instanceof Error ? cause.message : String(cause);
  return new ConnectorError('ERR_CONNECTOR_HANDLER', `the frame handler threw: ${text}`, { cause });
}

export function badReplyLength(length: unknown): ConnectorError {
  return new ConnectorError(
    'ERR_CONNECTOR_HANDLER',
    `the frame handler returned ${String(length)}: return NO_REPLY, REPLY_LATER or 1 to ${SLOT_BYTES}`,
  );
}

export function sendFailed(detail: string, count: number): ConnectorError {
  return new ConnectorError('ERR_CONNECTOR_SEND', `the socket refused ${count} replies: ${detail}`);
}

export function overran(receiveBufferBytes: number): ConnectorError {
  return new ConnectorError(
    'ERR_CONNECTOR_OVERRUN',
    `the receive buffer of ${receiveBufferBytes} bytes overflowed, requests are lost and repeated after 15 s: ` +
      'give a larger receiveBufferBytes, or find what blocks the event loop',
  );
}

export function unguarded(cause: unknown): ConnectorError {
  const text = cause instanceof Error ? cause.message : String(cause);
  return new ConnectorError(
    'ERR_CONNECTOR_UNGUARDED',
    `an overflow of the receive buffer may abort this process, and net.core.rmem_max limits its size (${text}): ` +
      'install perl or python3, or build the addon of @dmlog/connector',
    { cause },
  );
}
