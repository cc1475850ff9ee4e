/**
 * The control protocol: JSON lines over a unix socket. One request is one line, one response is one line, in the same order.
 *
 *     {"id": 1, "method": "status", "params": {}}
 *     {"id": 1, "result": {…}}          or          {"id": 1, "error": {"code": "ERR_…", "message": "…"}}
 *
 * Some methods go on with events, see `ControlStream`.
 */
import { z } from 'zod';
import { ControlError } from './errors.js';

/** Bytes of one request line at most, its newline not counted. Requests are commands: a few hundred bytes. */
export const LINE_BYTES_MAX = 64 * 1024;
/** Bytes of one response that a client accepts: the status of some ten thousand logs. */
export const RESPONSE_BYTES_MAX = 32 * 1024 * 1024;
/** Connections served at once. Each is an operator or a monitor; the bound is for those that forget to close. */
export const CLIENTS_MAX = 32;
/** A connection that asks nothing for so long is closed. */
export const CLIENT_IDLE_MS = 60_000;
/** sun_path holds 108 bytes with its NUL, include/uapi/linux/un.h. Node cuts a longer path without a word. */
export const SOCKET_PATH_BYTES_MAX = 107;

const Id = z.union([z.string().max(128), z.number().int()]);

export const ControlRequest = z.strictObject({
  id: Id,
  method: z.string().min(1).max(64),
  params: z.unknown().optional(),
});
export type ControlRequest = z.infer<typeof ControlRequest>;

export const ControlResponse = z.union([
  z.strictObject({ id: Id.nullable(), error: z.object({ code: z.string(), message: z.string() }) }),
  z.strictObject({ id: Id, result: z.unknown() }),
]);
export type ControlResponse = z.infer<typeof ControlResponse>;

/** What follows the response to a method that streams. */
export const ControlEvent = z.union([
  z.strictObject({ id: Id, event: z.unknown() }),
  z.strictObject({ id: Id, dropped: z.number().int().min(1) }),
]);
export type ControlEvent = z.infer<typeof ControlEvent>;

/** @throws ControlError where the kernel could not take the path as the address of a unix socket. */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes > 0 && bytes <= SOCKET_PATH_BYTES_MAX && !path.includes('\0')) return;
  throw new ControlError(
    'ERR_CONTROL_SOCKET',
    `control socket ${JSON.stringify(path)}: the path has ${bytes} bytes, the kernel takes 1 to ${SOCKET_PATH_BYTES_MAX}; choose a shorter one`,
  );
}
