import type { Logger } from '../logging.js';
import type { RunningDaemon } from '../serve-types.js';
import { parseHttpAddress } from './address.js';
import { HttpServer } from './server.js';

/**
 * Serves the status page and `metrics` (Prometheus text) of a daemon at `address`, or nowhere where it is absent. Returns what ends it. Never rejects: a port that
 * cannot be had is said and tried again, for mirrors matter more than their page.
 */
export async function serveHttp(
  daemon: RunningDaemon,
  metrics: () => Promise<string>,
  address: string | undefined,
  logger: Logger,
): Promise<() => Promise<void>> {
  const parsed = address === undefined ? null : parseHttpAddress(address);
  if (parsed === null) return async () => {};
  const { operable = null } = daemon;
  const server = new HttpServer({
    address: parsed,
    status: () => daemon.status(),
    metrics,
    operable,
    logger,
  });
  await server.open();
  return () => server.close();
}
