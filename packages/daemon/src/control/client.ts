import net from 'node:net';
import type { z } from 'zod';
import { reason, systemCode } from '../device/errors.js';
import { ControlError } from './errors.js';
import { LineCutter, TOO_LONG } from './lines.js';
import { ControlEvent, ControlResponse, checkSocketPath, RESPONSE_BYTES_MAX } from './protocol.js';

/** How long a client waits for its answer unless told otherwise. */
export const CONTROL_TIMEOUT_MS = 5000;

/**
 * Asks the daemon behind the control socket at `path` and resolves with the method's result.
 *
 * @throws ControlError `ERR_CONTROL_NOT_RUNNING`, `_FORBIDDEN`, `_TIMEOUT`, `_PROTOCOL`, or the code that the daemon answered.
 */
export async function controlRequest(
  path: string,
  method: string,
  params: unknown = undefined,
  timeoutMs: number = CONTROL_TIMEOUT_MS,
): Promise<unknown> {
  checkSocketPath(path);
  const line = await exchange(path, `${JSON.stringify({ id: 1, method, params })}\n`, timeoutMs);
  const response = parseLine(path, line, ControlResponse);
  if ('error' in response) throw new ControlError(response.error.code, response.error.message);
  return response.result;
}

/** What becomes of a stream. */
export interface ControlStreamListener {
  readonly onEvent: (event: unknown) => void;
  /** So many events were left out, because they were not read in time. */
  readonly onDropped?: (count: number) => void;
  /** Ends the stream: {@link controlStream} then resolves. */
  readonly signal?: AbortSignal;
}

/**
 * Asks for a method that streams, and hands over its events until `signal` says so. Resolves then; rejects where the daemon refuses or goes away.
 *
 * @throws ControlError as {@link controlRequest}; `ERR_CONTROL_NOT_RUNNING` also where the daemon ends.
 */
export function controlStream(
  path: string,
  method: string,
  params: unknown,
  { onEvent, onDropped, signal }: ControlStreamListener,
): Promise<void> {
  checkSocketPath(path);
  return new Promise((resolve, reject) => {
    const lines = new LineCutter(RESPONSE_BYTES_MAX);
    const socket = net.connect(path);
    let begun = false;
    const finish = (error: unknown): void => {
      signal?.removeEventListener('abort', abort);
      socket.removeAllListeners();
      socket.on('error', () => {});
      socket.destroy();
      if (error === null) resolve();
      else reject(error);
    };
    const abort = (): void => finish(null);
    const take = (line: string): void => {
      if (begun) {
        const event = parseLine(path, line, ControlEvent);
        if ('event' in event) onEvent(event.event);
        else onDropped?.(event.dropped);
        return;
      }
      const response = parseLine(path, line, ControlResponse);
      if ('error' in response) throw new ControlError(response.error.code, response.error.message);
      begun = true;
    };
    if (signal?.aborted === true) return abort();
    signal?.addEventListener('abort', abort);
    socket.on('error', (cause) => finish(connectFailure(path, cause)));
    socket.on('end', () =>
      finish(new ControlError('ERR_CONTROL_NOT_RUNNING', `the daemon at ${path} has ended the connection`)),
    );
    socket.on('connect', () => socket.write(`${JSON.stringify({ id: 1, method, params })}\n`));
    socket.on('data', (chunk: Buffer) => {
      lines.push(chunk);
      try {
        for (let line = lines.next(); line !== null; line = lines.next()) {
          if (line === TOO_LONG)
            throw new ControlError('ERR_CONTROL_PROTOCOL', `a line from ${path} is too long`);
          take(line);
        }
      } catch (error) {
        finish(error);
      }
    });
  });
}

function parseLine<T>(path: string, line: string, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new ControlError(
      'ERR_CONTROL_PROTOCOL',
      `what answers at ${path} does not speak JSON: is it a dmlog daemon?`,
      { cause },
    );
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new ControlError(
    'ERR_CONTROL_PROTOCOL',
    `the answer from ${path} is no control response: do the versions match?`,
  );
}

function exchange(path: string, request: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const socket = net.connect(path);
    const finish = (error: ControlError | null, line: string): void => {
      clearTimeout(timer);
      socket.removeAllListeners();
      // A late error of a destroyed socket must not become an uncaught exception.
      socket.on('error', () => {});
      socket.destroy();
      if (error === null) resolve(line);
      else reject(error);
    };
    const fail = (error: ControlError): void => finish(error, '');
    const timer = setTimeout(() => {
      const what = `the daemon at ${path} did not answer within ${timeoutMs} ms: it may be stopped or overloaded`;
      fail(new ControlError('ERR_CONTROL_TIMEOUT', what));
    }, timeoutMs);
    socket.on('error', (cause) => fail(connectFailure(path, cause)));
    socket.on('end', () =>
      fail(
        new ControlError(
          'ERR_CONTROL_PROTOCOL',
          `the daemon at ${path} closed the connection without an answer`,
        ),
      ),
    );
    socket.on('connect', () => socket.write(request));
    socket.on('data', (chunk: Buffer) => {
      const end = chunk.indexOf(0x0a);
      chunks.push(end < 0 ? chunk : chunk.subarray(0, end));
      bytes += chunk.length;
      if (end >= 0) finish(null, Buffer.concat(chunks).toString('utf8'));
      else if (bytes > RESPONSE_BYTES_MAX) {
        fail(
          new ControlError(
            'ERR_CONTROL_PROTOCOL',
            `the answer from ${path} is longer than ${RESPONSE_BYTES_MAX} bytes`,
          ),
        );
      }
    });
  });
}

function connectFailure(path: string, cause: Error): ControlError {
  const system = systemCode(cause);
  switch (system) {
    case 'ENOENT':
    case 'ECONNREFUSED':
      return new ControlError(
        'ERR_CONTROL_NOT_RUNNING',
        `no log daemon is running at ${path} (${system}): start it or pass --control-socket`,
        { cause },
      );
    case 'EACCES':
    case 'EPERM':
      return new ControlError(
        'ERR_CONTROL_FORBIDDEN',
        `the control socket ${path} belongs to root: run this as root`,
        { cause },
      );
    default:
      return new ControlError('ERR_CONTROL_PROTOCOL', `cannot talk to ${path}: ${reason(cause)}`, { cause });
  }
}
