import { encodeReplyInto, RequestType } from '@dmlog/protocol';

/** Bytes of a full reply with two numbers, and room to spare. */
const FRAME_BYTES = 256;

/**
 * Answers an earlier GET_RESYNC_WORK: a full reply, as it returns something. The kernel finds its request by the body's `seq` alone (dm-log-userspace-transfer.c,
 * `fill_pkg`), so luid and uuid stay empty.
 */
export function latePairs(
  send: (bytes: Uint8Array, port: number) => void,
): (seq: number, port: number, first: number, second: number) => void {
  const frame = new Uint8Array(FRAME_BYTES);
  const data = new Uint8Array(16);
  const words = new DataView(data.buffer);
  return (seq, port, first, second) => {
    words.setUint32(0, first, true);
    words.setUint32(8, second, true);
    const end = encodeReplyInto(frame, 0, {
      kind: 'full',
      type: RequestType.GET_RESYNC_WORK,
      version: 3,
      seq,
      luid: { low: 0, high: 0 },
      uuid: '',
      data,
      error: 0,
    });
    send(frame.subarray(0, end), port);
  };
}
