import { ACK_BYTES, Errno, encodeAckInto } from '@dmlog/protocol';

/** The kernel itself. */
const KERNEL_PORT = 0;

/** Requests before the last one that was seen whose answer may be owed: a FLUSH waits for the log device while other mirrors go on. */
export const SEQS_BEFORE = 1024;

/** Requests after it that may have been on their way to the process that died. One mirror has one request under way. */
export const SEQS_AFTER = 1024;

/**
 * Asks the kernel to repeat what the daemon before this one owed it an answer for. Without this the kernel waits 15 s for it, and the mirror with it.
 *
 * Which requests these are nobody knows; their numbers lie around the last one that was seen. So "again" is said to all of them: a number that no
 * request waits under means nothing to the kernel (`fill_pkg` finds none), and to repeat a request has no effect of its own (design rule 7). The ack form is
 * the right one, as for it alone the kernel keeps in mind how much room the answer has.
 */
export function askAgain(lastSeq: number, send: (bytes: Uint8Array, port: number) => void): void {
  const ack = new Uint8Array(ACK_BYTES);
  for (let distance = -SEQS_BEFORE; distance <= SEQS_AFTER; distance++) {
    encodeAckInto(ack, 0, (lastSeq + distance) >>> 0, Errno.EAGAIN);
    send(ack, KERNEL_PORT);
  }
}
