import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, statSync, unlinkSync } from 'node:fs';
import type { LogMemory } from '@dmlog/log';
import { reason } from '../device/errors.js';
import type { Logger } from '../logging.js';
import type { MappingBinding } from './binding.js';
import { HEAD_BYTES, IDENTITY_AREA_BYTES, type LogIdentity } from './format.js';

/** The runtime state of one log: a file in the runtime directory whose bytes are the log's memory. */
export class StateFile {
  readonly path: string;
  readonly identity: LogIdentity;
  readonly #binding: MappingBinding;
  readonly #logger: Logger;
  /** What is mapped now. */
  #memory: ArrayBuffer | null = null;

  constructor(path: string, identity: LogIdentity, binding: MappingBinding, logger: Logger) {
    this.path = path;
    this.identity = identity;
    this.#binding = binding;
    this.#logger = logger;
  }

  /**
   * Memory for the log's first RESUME: a `MemoryHome`. Null, and no file any more, where there is none to be had: a file that says
   * less than the kernel was told is worse than no file. Bound: logs are handed this.
   */
  readonly allocate = (bodyBytes: number): LogMemory | null => {
    try {
      // Whatever an earlier attempt left goes first: the body must be all zero.
      return this.#map(HEAD_BYTES + bodyBytes, true);
    } catch (error) {
      this.#logger.error(
        { uuid: this.identity.uuid, path: this.path, bytes: HEAD_BYTES + bodyBytes, err: error },
        'the state of this log cannot be kept in the runtime directory: after a restart of the daemon none of its regions will be taken to be in sync; enlarge that file system, then reload the table',
      );
      this.discard();
      return null;
    }
  };

  /** What the last process left, or why it cannot be read. */
  load(): LogMemory | string {
    try {
      return this.#map(null, false);
    } catch (error) {
      return reason(error);
    }
  }

  /** A copy of what is there at the moment, to be tried out: another process may be changing it. Null where there is more than `bytesMax`, or nothing. */
  copy(bytesMax: number): LogMemory | null {
    if (statSync(this.path).size > bytesMax) return null;
    const bytes = new Uint8Array(readFileSync(this.path));
    if (bytes.byteLength <= HEAD_BYTES) return null;
    return { control: bytes.slice(IDENTITY_AREA_BYTES, HEAD_BYTES), body: bytes.slice(HEAD_BYTES) };
  }

  /** The log is gone, or its state must not be believed. Its memory is given back: the log must not be asked any more. */
  discard(): void {
    if (this.#memory !== null) this.#binding.unmap(this.#memory);
    this.#memory = null;
    try {
      unlinkSync(this.path);
    } catch (error) {
      this.#logger.debug({ path: this.path, err: error }, 'the state of a log was gone already');
    }
  }

  /** `bytes` null: as long as the file is. */
  #map(bytes: number | null, emptied: boolean): LogMemory {
    const fd = openSync(this.path, 'r+');
    try {
      if (emptied) ftruncateSync(fd, HEAD_BYTES);
      const size = bytes ?? fstatSync(fd).size;
      if (size < HEAD_BYTES) throw new Error(`it is cut: ${size} bytes`);
      const memory = this.#binding.map(fd, size);
      this.#memory = memory;
      return {
        control: new Uint8Array(memory, IDENTITY_AREA_BYTES, HEAD_BYTES - IDENTITY_AREA_BYTES),
        body: new Uint8Array(memory, HEAD_BYTES, size - HEAD_BYTES),
      };
    } finally {
      closeSync(fd);
    }
  }
}
