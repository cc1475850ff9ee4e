import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { EventWatch } from '../control/events.js';
import { LATENCY_BOUNDS_SECONDS } from '../control/latency.js';
import { regionsOf, requestTotals } from '../control/methods.js';
import type { Operable } from '../control/operable.js';
import { MAP_CELLS_MAX } from '../control/region-map.js';
import { bindPrivately, removeStale } from '../control/server.js';
import { STREAM_BACKLOG_BYTES_MAX } from '../control/stream.js';
import { reason, systemCode } from '../device/errors.js';
import type { Logger } from '../logging.js';
import type { DaemonStatus } from '../serve-types.js';
import { type HttpAddress, isOwnHost } from './address.js';
import { PAGE_CSS, PAGE_HTML } from './page.js';
import { PAGE_SCRIPT } from './page-script.js';

/** Connections at once: a browser opens six. */
export const HTTP_CONNECTIONS_MAX = 32;
/** Pages that are told of events at once. */
export const EVENT_CLIENTS_MAX = 16;
/** A port that is taken (the daemon before this one may still hold it) is tried again this much later. */
export const LISTEN_RETRY_MS = 1000;

export interface HttpOptions {
  readonly address: HttpAddress;
  readonly status: () => DaemonStatus;
  /** Prometheus text. */
  readonly metrics: () => Promise<string>;
  readonly operable: Operable | null;
  readonly logger: Logger;
}

interface Answer {
  readonly type: string;
  readonly body: string;
}

type Route = (query: URLSearchParams, options: HttpOptions) => Answer | Promise<Answer>;

const JSON_TYPE = 'application/json; charset=utf-8';
const json = (value: unknown): Answer => ({ type: JSON_TYPE, body: JSON.stringify(value) });

const ROUTES: Readonly<Record<string, Route>> = {
  '/': () => ({ type: 'text/html; charset=utf-8', body: PAGE_HTML }),
  '/page.css': () => ({ type: 'text/css; charset=utf-8', body: PAGE_CSS }),
  '/page.js': () => ({ type: 'text/javascript; charset=utf-8', body: PAGE_SCRIPT }),
  '/metrics': async (_query, { metrics }) => ({
    type: 'text/plain; version=0.0.4; charset=utf-8',
    body: await metrics(),
  }),
  '/api/status': (_query, { status }) => json(status()),
  '/api/requests': (_query, { operable }) =>
    json({ boundsSeconds: LATENCY_BOUNDS_SECONDS, types: operable === null ? [] : requestTotals(operable) }),
  '/api/regions': async (query, { operable }) => {
    const log = query.get('log');
    if (operable === null || log === null) throw new RequestError(404, 'name a log: ?log=');
    const from = wholeNumber(query, 'from') ?? 0;
    const to = wholeNumber(query, 'to');
    const cells = Math.min(Math.max(1, wholeNumber(query, 'cells') ?? 1024), MAP_CELLS_MAX);
    return json(await regionsOf(operable, log, { from, to, cells }));
  },
};

/** A request that cannot be answered, with its HTTP status. */
class RequestError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

function wholeNumber(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  if (/^[0-9]{1,10}$/.test(text)) return Number(text);
  throw new RequestError(400, `${name} must be a whole number`);
}

/** The status page and the metrics: read-only, for loopback or a unix socket that is root's. */
export class HttpServer {
  readonly #options: HttpOptions;
  readonly #server: Server;
  #retry: NodeJS.Timeout | null = null;
  #closed = false;
  #eventClients = 0;

  constructor(options: HttpOptions) {
    this.#options = options;
    this.#server = createServer(
      { maxHeaderSize: 8192, requestTimeout: 10_000, headersTimeout: 10_000 },
      (request, response) => {
        this.#serve(request, response).catch((error: unknown) => {
          options.logger.error(
            { err: error, url: request.url },
            'a request for the status page met a bug: please report this line',
          );
          response.destroy();
        });
      },
    );
    this.#server.maxConnections = HTTP_CONNECTIONS_MAX;
  }

  /** Port that it listens on; null for a unix socket, and before it listens. */
  get port(): number | null {
    const address = this.#server.address();
    return address === null || typeof address === 'string' ? null : address.port;
  }

  /**
   * Begins to listen, and tries again while that cannot be: mirrors are served meanwhile, which matters more. Resolves after the first attempt, with whether it worked.
   */
  async open(): Promise<boolean> {
    const { address, logger } = this.#options;
    try {
      if (address.kind === 'unix') {
        await removeStale(address.path);
        await bindPrivately(this.#server, address.path);
      } else {
        await listenTcp(this.#server, address);
      }
    } catch (error) {
      if (this.#closed) return false;
      if (this.#retry === null)
        logger.error(
          { err: error, address },
          `no status page and no metrics: ${reason(error)}; trying again`,
        );
      this.#retry = setTimeout(() => void this.open(), LISTEN_RETRY_MS);
      this.#retry.unref();
      return false;
    }
    if (this.#closed) {
      this.#server.close();
      return false;
    }
    this.#server.on('error', (error) =>
      logger.error({ err: error }, 'the status page failed: the daemon serves on without it'),
    );
    logger.info({ address, port: this.port }, 'serving the status page and metrics');
    return true;
  }

  /** Ends all connections. Safe to call twice. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#server.closeAllConnections();
    if (this.#server.listening) await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Everything comes from here and nothing may be embedded elsewhere.
    response.setHeader(
      'Content-Security-Policy',
      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; frame-ancestors 'none'",
    );
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('Referrer-Policy', 'no-referrer');
    response.setHeader('Cache-Control', 'no-store');
    try {
      const { pathname, searchParams } = this.#checked(request);
      if (pathname === '/api/events') return this.#stream(response);
      const route = Object.hasOwn(ROUTES, pathname) ? ROUTES[pathname] : undefined;
      if (route === undefined)
        throw new RequestError(404, 'there is nothing here; the page is at /, the metrics at /metrics');
      const { type, body } = await route(searchParams, this.#options);
      response.setHeader('Content-Type', type);
      response.setHeader('Content-Length', Buffer.byteLength(body));
      response.end(request.method === 'HEAD' ? '' : body);
    } catch (error) {
      response.statusCode = statusOf(error);
      if (response.statusCode === 500)
        this.#options.logger.error({ err: error, url: request.url }, 'status page failed');
      response.setHeader('Content-Type', 'text/plain; charset=utf-8');
      response.end(`${reason(error)}\n`);
    }
  }

  #checked(request: IncomingMessage): URL {
    if (request.method !== 'GET' && request.method !== 'HEAD')
      throw new RequestError(405, 'read-only: GET and HEAD');
    if (this.#options.address.kind === 'tcp' && !isOwnHost(request.headers.host)) {
      throw new RequestError(403, 'this page answers to loopback names only');
    }
    try {
      return new URL(request.url ?? '/', 'http://localhost');
    } catch {
      throw new RequestError(400, 'unusable address');
    }
  }

  /** Events as they happen (server-sent events, WHATWG HTML 9.2). */
  #stream(response: ServerResponse): void {
    if (this.#eventClients >= EVENT_CLIENTS_MAX) throw new RequestError(503, 'too many pages are open');
    this.#eventClients++;
    response.setHeader('Content-Type', 'text/event-stream');
    response.flushHeaders();
    const watch = new EventWatch(this.#options.status, (event) => {
      // Who does not read is cut off: the page comes back by itself.
      if (response.writableLength > STREAM_BACKLOG_BYTES_MAX) response.destroy();
      else response.write(`data: ${JSON.stringify(event)}\n\n`);
    });
    const stop = watch.start();
    response.on('close', () => {
      this.#eventClients--;
      stop();
    });
  }
}

function statusOf(error: unknown): number {
  if (error instanceof RequestError) return error.status;
  switch (systemCode(error)) {
    case 'ERR_CONTROL_UNKNOWN_LOG':
      return 404;
    case 'ERR_CONTROL_BAD_REQUEST':
      return 400;
    default:
      return 500;
  }
}

function listenTcp(server: Server, { host, port }: { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}
