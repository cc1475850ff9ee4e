import fs from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';
import { reason, systemCode } from '../device/errors.js';
import type { Logger } from '../logging.js';
import { ControlError } from './errors.js';
import { LineCutter, TOO_LONG } from './lines.js';
import { CLIENT_IDLE_MS, CLIENTS_MAX, ControlRequest, checkSocketPath, LINE_BYTES_MAX } from './protocol.js';
import { ControlStream, STREAM_BACKLOG_BYTES_MAX } from './stream.js';

/**
 * Serves one method. What it returns is the result, or a {@link ControlStream} of events; what it throws becomes an error answer with its `code`.
 */
export type ControlMethod = (params: unknown) => unknown;

export interface ControlServerOptions {
  /** Path of the socket; its directory exists. */
  readonly path: string;
  readonly methods: Readonly<Record<string, ControlMethod>>;
  readonly logger: Logger;
  /** Default {@link CLIENTS_MAX}. */
  readonly clientsMax?: number;
  /** Default {@link CLIENT_IDLE_MS}. */
  readonly idleMs?: number;
}

/** rw------- on a socket: only its owner may connect (unix(7), "Pathname socket ownership and permissions"). */
const SOCKET_MODE = 0o600;
/** How long a socket file is asked whether somebody is behind it. A live daemon's kernel accepts at once. */
const PROBE_MS = 2000;
/** How long a dismissed client has to read why. */
const DISMISS_MS = 1000;

/**
 * The daemon's control socket. Whatever a client sends is answered or ends its connection; nothing that comes in ends the daemon.
 *
 * A client is served one line at a time, in order, and is not read from meanwhile: what waits is in the kernel's bounded buffer.
 */
export class ControlServer {
  readonly #options: ControlServerOptions;
  readonly #clients = new Set<net.Socket>();
  #server: net.Server | null = null;

  constructor(options: ControlServerOptions) {
    checkSocketPath(options.path);
    this.#options = options;
  }

  /**
   * Finds out whether `listen` could work, and removes a dead daemon's socket. For the start of a daemon, whose socket comes into being only when it
   * can answer: what would stop it then is better known before it serves.
   */
  async check(): Promise<void> {
    const { path } = this.#options;
    await removeStale(path);
    try {
      fs.accessSync(dirname(path), fs.constants.W_OK | fs.constants.X_OK);
    } catch (cause) {
      throw socketFailure(path, cause);
    }
  }

  /**
   * Creates the socket and serves. A socket file that nobody listens on (its daemon died) is replaced.
   *
   * @throws ControlError `ERR_CONTROL_IN_USE` where a live daemon listens there, `ERR_CONTROL_SOCKET` where it cannot be created.
   */
  async listen(): Promise<void> {
    const { path } = this.#options;
    await removeStale(path);
    const server = net.createServer((socket) => this.#accept(socket));
    await bindPrivately(server, path);
    server.on('error', (error) =>
      this.#options.logger.error(
        { err: error, path },
        'control socket failed: this daemon serves on and cannot be asked any more; reload it to have another',
      ),
    );
    this.#server = server;
  }

  /** Ends all connections and removes the socket. Safe to call twice. */
  async close(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    for (const socket of this.#clients) socket.destroy();
    // libuv unlinks the path of a bound pipe when it closes.
    if (server !== null) await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  #accept(socket: net.Socket): void {
    socket.on('error', (error) => this.#options.logger.debug({ err: error }, 'control client failed'));
    if (this.#clients.size >= (this.#options.clientsMax ?? CLIENTS_MAX)) {
      const message = `${this.#clients.size} clients are connected already, no more are served: close one`;
      dismiss(socket, new ControlError('ERR_CONTROL_TOO_MANY_CLIENTS', message));
      return;
    }
    this.#clients.add(socket);
    socket.on('close', () => this.#clients.delete(socket));
    socket.setTimeout(this.#options.idleMs ?? CLIENT_IDLE_MS, () => socket.destroy());
    const lines = new LineCutter(LINE_BYTES_MAX);
    socket.on('data', (chunk: Buffer) => {
      lines.push(chunk);
      socket.pause();
      this.#serveLines(socket, lines).then(
        () => socket.resume(),
        (error: unknown) => {
          this.#options.logger.error(
            { err: error },
            'a connection to the control socket met a bug and was closed: please report this line',
          );
          socket.destroy();
        },
      );
    });
  }

  async #serveLines(socket: net.Socket, lines: LineCutter): Promise<void> {
    while (!socket.destroyed) {
      const line = lines.next();
      if (line === null) return;
      if (line === TOO_LONG) {
        const message = `a request line has at most ${LINE_BYTES_MAX} bytes`;
        dismiss(socket, new ControlError('ERR_CONTROL_LINE_TOO_LONG', message));
        return;
      }
      const answer = await this.#answer(line);
      if (answer instanceof StreamAnswer) return stream(socket, answer);
      if (!socket.destroyed && !socket.write(answer)) await drained(socket);
    }
  }

  async #answer(line: string): Promise<string | StreamAnswer> {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      return errorLine(
        null,
        new ControlError('ERR_CONTROL_BAD_REQUEST', `the line is no JSON: ${reason(error)}`),
      );
    }
    const parsed = ControlRequest.safeParse(value);
    if (!parsed.success) {
      const what = parsed.error.issues
        .map((issue) => `${issue.path.join('.') || 'request'}: ${issue.message}`)
        .join('; ');
      return errorLine(idOf(value), new ControlError('ERR_CONTROL_BAD_REQUEST', what));
    }
    return this.#call(parsed.data);
  }

  async #call(request: ControlRequest): Promise<string | StreamAnswer> {
    const { methods, logger } = this.#options;
    // hasOwn: `constructor` and `__proto__` are no methods.
    const method = Object.hasOwn(methods, request.method) ? methods[request.method] : undefined;
    if (method === undefined) {
      const known = Object.keys(methods).sort().join(', ');
      const message = `there is no method ${JSON.stringify(request.method)}; known are ${known}`;
      return errorLine(request.id, new ControlError('ERR_CONTROL_UNKNOWN_METHOD', message));
    }
    try {
      const result = (await method(request.params)) ?? null;
      if (result instanceof ControlStream) return new StreamAnswer(request.id, result);
      return `${JSON.stringify({ id: request.id, result })}\n`;
    } catch (error) {
      // What the one who asks is told of, and can mend, is no news for the daemon's log.
      const level = systemCode(error).startsWith('ERR_CONTROL_') ? 'debug' : 'warn';
      logger[level]({ err: error, method: request.method }, 'control request failed');
      return errorLine(request.id, error);
    }
  }
}

class StreamAnswer {
  readonly id: string | number;
  readonly stream: ControlStream;

  constructor(id: string | number, stream: ControlStream) {
    this.id = id;
    this.stream = stream;
  }
}

/** Sends events until the client goes. A client that does not read loses events, and is told how many. */
function stream(socket: net.Socket, { id, stream: events }: StreamAnswer): void {
  socket.setTimeout(0);
  socket.removeAllListeners('data');
  // What else it sends is thrown away; its end is noticed.
  socket.resume();
  let dropped = 0;
  socket.write(`${JSON.stringify({ id, result: null })}\n`);
  const stop = events.start((event) => {
    if (socket.destroyed) return;
    if (socket.writableLength > STREAM_BACKLOG_BYTES_MAX) {
      dropped++;
      return;
    }
    const gap = dropped === 0 ? '' : `${JSON.stringify({ id, dropped })}\n`;
    dropped = 0;
    socket.write(`${gap}${JSON.stringify({ id, event })}\n`);
  });
  socket.once('close', stop);
  if (socket.destroyed) socket.emit('close');
}

function idOf(value: unknown): string | number | null {
  if (typeof value !== 'object' || value === null || !('id' in value)) return null;
  return (typeof value.id === 'string' && value.id.length <= 128) || Number.isInteger(value.id)
    ? (value.id as string | number)
    : null;
}

function errorLine(id: string | number | null, error: unknown): string {
  const own = systemCode(error);
  const code = own.startsWith('ERR_') ? own : 'ERR_CONTROL_INTERNAL';
  return `${JSON.stringify({ id, error: { code, message: reason(error) } })}\n`;
}

/** Says why, throws away what still comes in so that the client can read it, and closes soon. */
function dismiss(socket: net.Socket, error: ControlError): void {
  socket.removeAllListeners('data');
  socket.resume();
  socket.end(errorLine(null, error));
  const timer = setTimeout(() => socket.destroy(), DISMISS_MS);
  socket.once('close', () => clearTimeout(timer));
}

function drained(socket: net.Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    socket.on('drain', done);
    socket.on('close', done);
  });
}

/** Binds and listens with the mode in place from the first moment: bind(2) creates the file under the umask. */
export function bindPrivately(server: net.Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => reject(socketFailure(path, cause)));
    server.once('listening', () => {
      server.removeAllListeners('error');
      const mode = fs.statSync(path).mode & 0o777;
      if (mode === SOCKET_MODE) resolve();
      else
        reject(
          new ControlError(
            'ERR_CONTROL_SOCKET',
            `control socket ${path} was created with mode ${mode.toString(8)}, not 600`,
          ),
        );
    });
    // `listen` on a path binds before it returns, so no other file of this process is created under this umask.
    const before = process.umask(0o777 & ~SOCKET_MODE);
    try {
      server.listen(path);
    } finally {
      process.umask(before);
    }
  });
}

/** Removes a dead daemon's socket. @throws ControlError where a live one listens, or what stands there is no socket. */
export async function removeStale(path: string): Promise<void> {
  const found = fs.lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new ControlError(
      'ERR_CONTROL_SOCKET',
      `control socket ${path}: something that is no socket stands there; remove it or choose another path`,
    );
  }
  if (await isAlive(path)) {
    throw new ControlError(
      'ERR_CONTROL_IN_USE',
      `a daemon already listens at ${path}: stop it first, or give this one its own --runtime-dir`,
    );
  }
  try {
    fs.unlinkSync(path);
  } catch (cause) {
    if (systemCode(cause) !== 'ENOENT') throw socketFailure(path, cause);
  }
}

/** Only a refused connection proves that nobody listens. Anything else counts as life: removing a live daemon's socket is worse. */
function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(path);
    const finish = (alive: boolean): void => {
      clearTimeout(timer);
      socket.removeAllListeners();
      socket.on('error', () => {});
      socket.destroy();
      resolve(alive);
    };
    const timer = setTimeout(() => finish(true), PROBE_MS);
    socket.on('connect', () => finish(true));
    socket.on('error', (error) => finish(!['ECONNREFUSED', 'ENOENT'].includes(systemCode(error))));
  });
}

function socketFailure(path: string, cause: unknown): ControlError {
  if (systemCode(cause) === 'EADDRINUSE') {
    return new ControlError(
      'ERR_CONTROL_IN_USE',
      `another daemon created ${path} just now: only one can run here`,
      { cause },
    );
  }
  return new ControlError('ERR_CONTROL_SOCKET', `cannot create control socket ${path}: ${reason(cause)}`, {
    cause,
  });
}
