import { batchTransport } from './batch.js';
import { type ConnectorBinding, loadBinding } from './binding.js';
import { ConnectorError } from './errors.js';
import { netlinkTransport } from './netlink.js';
import type { Transport, TransportOptions } from './transport.js';

export interface OpenTransportOptions extends TransportOptions {
  /** Which implementation to try first. Default 'batch'. */
  readonly prefer?: 'batch' | 'netlink';
  /** Called when the batch transport cannot be loaded, with the reason; the slower one serves instead. */
  readonly onFallback?: (reason: ConnectorError) => void;
  /** Loads the addon. Default {@link loadBinding}. */
  readonly loadBinding?: () => ConnectorBinding;
}

/**
 * Opens the kernel connector by the best means there is: the batch transport, or, where its addon does not load, the
 * `netlink` package, which opens a socket of its own. Only a missing addon is a reason to fall back; missing rights and wrong options are thrown.
 */
export function openTransport(options: OpenTransportOptions = {}): Transport {
  if (options.prefer === 'netlink') return netlinkTransport(options);
  try {
    return batchTransport({ ...options, binding: (options.loadBinding ?? loadBinding)() });
  } catch (error) {
    if (!(error instanceof ConnectorError) || error.code !== 'ERR_CONNECTOR_BINDING') throw error;
    options.onFallback?.(error);
    const { descriptor: _unusable, ...rest } = options;
    return netlinkTransport(rest);
  }
}
