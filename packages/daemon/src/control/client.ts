import net from 'node:net';
import { reason, systemCode } from '../device/errors.js';
import { ControlError } from './errors.js';
import { ControlResponse, checkSocketPath, RESPONSE_BYTES_MAX } from './protocol.js';

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
  const response = parseResponse(path, line);
  if ('error' in response) throw new ControlError(response.error.code, response.error.message);
  return response.result;
}

function parseResponse(path: string, line: string): ControlResponse {
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
  const parsed = ControlResponse.safeParse(value);
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
