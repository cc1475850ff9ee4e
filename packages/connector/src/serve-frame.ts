import { ConnectorError } from './errors.js';
import { badReplyLength, type FaultSink, handlerThrew } from './faults.js';
import { type FrameHandler, NO_REPLY, REPLY_LATER, SLOT_BYTES, type TransportStats } from './transport.js';

/** What {@link Transport.start} refuses in every transport. Throws ERR_CONNECTOR_USAGE. */
export function requireStartable(handler: FrameHandler | undefined, open: boolean): void {
  if (handler !== undefined)
    throw new ConnectorError('ERR_CONNECTOR_USAGE', 'the transport was started before');
  if (!open) throw new ConnectorError('ERR_CONNECTOR_USAGE', 'the transport is closed');
}

/**
 * Hands one datagram to the handler, counts it, and counts and reports what the handler does wrong. Never throws.
 * Returns the length of the reply in the slot, or 0 where none is to be sent now.
 *
 * For the transports that take one datagram at a time; the batch transport does the same inside its loop, without the calls.
 */
export function serveFrame(
  handler: FrameHandler,
  offset: number,
  length: number,
  port: number,
  stats: TransportStats,
  fault: FaultSink,
): number {
  stats.received++;
  stats.batches++;
  let error: ConnectorError;
  try {
    const reply = handler(offset, length, port);
    if (reply > 0 && reply <= SLOT_BYTES) return reply;
    if (reply === NO_REPLY || reply === REPLY_LATER) return 0;
    error = badReplyLength(reply);
  } catch (thrown) {
    error = handlerThrew(thrown);
  }
  stats.handlerFaults++;
  fault('handler', error);
  return 0;
}
