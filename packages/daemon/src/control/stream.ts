/** Bytes that may wait for a client that does not read; what comes after is left out and counted. */
export const STREAM_BACKLOG_BYTES_MAX = 4 << 20;

/**
 * What a method returns that answers with events instead of one result:
 *
 *     {"id": 1, "result": null}              the stream has begun
 *     {"id": 1, "event": {…}}                as often as something happens
 *     {"id": 1, "dropped": 17}               so many events were left out here, because the client did not read
 *
 * It goes on until the client closes the connection. Nothing else can be asked on it.
 */
export class ControlStream {
  /** Called once; `emit` may be called until what it returned is called, which happens once too. */
  readonly start: (emit: (event: unknown) => void) => () => void;

  constructor(start: (emit: (event: unknown) => void) => () => void) {
    this.start = start;
  }
}
