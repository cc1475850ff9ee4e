import { writeSync } from 'node:fs';

/** As a shell tells of a filter whose reader has gone: 128 + SIGPIPE. */
const READER_GONE = 141;

/**
 * Writes all of `text` to standard output (1) or error (2). Synchronous: a reader that is slow slows this down instead of filling memory, and nothing is lost at the
 * end. A reader that has gone (`| head`) ends the process without a word, as it ends any filter. For commands, not for a daemon that serves.
 */
export function writeAll(fd: 1 | 2, text: string | Uint8Array): void {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  for (let at = 0; at < bytes.byteLength; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      const { code } = error as { code?: string };
      // The other end of a pipe that does not block us: it reads when it can.
      if (code === 'EAGAIN') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
      else if (code === 'EPIPE') process.exit(READER_GONE);
      else throw error;
    }
  }
}
