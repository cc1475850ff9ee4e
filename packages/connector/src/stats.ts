import type { TransportStats } from './transport.js';

/** Totals of a transport that has done nothing. */
export function emptyStats(): TransportStats {
  return {
    received: 0,
    sent: 0,
    sendFailures: 0,
    foreign: 0,
    oversized: 0,
    overruns: 0,
    handlerFaults: 0,
    batches: 0,
    pollIdleNs: 0,
    pollHits: 0,
  };
}
