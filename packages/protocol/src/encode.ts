import * as at from './constants.js';
import { writeAck } from './headers.js';
import type { Reply, Request } from './messages.js';

/** cn_msg.len is a u16. */
const DATA_BYTES_MAX = 0xffff - at.ULOG_HEADER_BYTES;
const NETLINK_ALIGNMENT_BYTES = 4;

/**
 * Writes the ack form (36 bytes) at `offset` and returns the offset after it.
 * RangeError if it does not fit `target`, or if `errno` is negative.
 */
export function encodeAckInto(target: Uint8Array, offset: number, seq: number, errno: number): number {
  assertRoom(target, offset, at.ACK_BYTES);
  if ((errno | 0) !== errno || errno < 0)
    throw new RangeError(`an ack carries a positive errno or 0, not ${errno}`);
  const view = viewOf(target);
  writeAck(view, offset, errno);
  view.setUint32(offset + at.CN_SEQ_OFFSET, seq, true);
  return offset + at.ACK_BYTES;
}

/**
 * Writes a reply of either form at `offset` and returns the offset after it. Padding is written as zero.
 * RangeError if it does not fit `target`, if the uuid is too long or holds NUL, if data exceeds 16204 bytes, or if the
 * error has the wrong sign.
 */
export function encodeReplyInto(target: Uint8Array, offset: number, reply: Reply): number {
  if (reply.kind === 'ack') return encodeAckInto(target, offset, reply.seq, reply.errno);
  if ((reply.error | 0) !== reply.error || reply.error > 0) {
    throw new RangeError(`the error of a full reply is 0 or a negative errno, not ${reply.error}`);
  }
  if (reply.data.length > at.REPLY_DATA_BYTES_MAX) {
    throw new RangeError(
      `a reply carries at most ${at.REPLY_DATA_BYTES_MAX} bytes, not ${reply.data.length}`,
    );
  }
  assertRoom(target, offset, at.FRAME_HEADER_BYTES + reply.data.length);
  return writeFrame(target, offset, reply, 0, reply.error);
}

/**
 * Plays the kernel: writes a request at `offset`, pads it with zeros to a multiple of 4 bytes as netlink does, and returns
 * the offset after the padding. What a frame can hold is written, valid or not, so that refusals can be tested.
 * RangeError if it does not fit `target`, if the uuid is too long or holds NUL, or if data exceeds 65375 bytes.
 */
export function encodeRequestInto(target: Uint8Array, offset: number, request: Request): number {
  if (request.data.length > DATA_BYTES_MAX) {
    throw new RangeError(`a frame carries at most ${DATA_BYTES_MAX} bytes, not ${request.data.length}`);
  }
  const frameBytes = at.FRAME_HEADER_BYTES + request.data.length;
  const datagramBytes = Math.ceil(frameBytes / NETLINK_ALIGNMENT_BYTES) * NETLINK_ALIGNMENT_BYTES;
  assertRoom(target, offset, datagramBytes);
  writeFrame(target, offset, request, request.seq, 0);
  target.fill(0, offset + frameBytes, offset + datagramBytes);
  return offset + datagramBytes;
}

/** `outerSeq` goes to the netlink and connector headers: the request's seq from the kernel, 0 to it. */
function writeFrame(
  target: Uint8Array,
  offset: number,
  body: Request,
  outerSeq: number,
  error: number,
): number {
  assertUuid(body.uuid);
  const view = viewOf(target);
  const dataSize = body.data.length;
  target.fill(0, offset, offset + at.FRAME_HEADER_BYTES);
  view.setUint32(offset, at.FRAME_HEADER_BYTES + dataSize, true);
  view.setUint16(offset + at.NLMSG_TYPE_OFFSET, at.NLMSG_DONE, true);
  view.setUint32(offset + at.NLMSG_SEQ_OFFSET, outerSeq, true);
  view.setUint32(offset + at.CN_IDX_OFFSET, at.CN_IDX_DM, true);
  view.setUint32(offset + at.CN_VAL_OFFSET, at.CN_VAL_DM_USERSPACE_LOG, true);
  view.setUint32(offset + at.CN_SEQ_OFFSET, outerSeq, true);
  view.setUint16(offset + at.CN_LEN_OFFSET, at.ULOG_HEADER_BYTES + dataSize, true);
  view.setUint32(offset + at.LUID_OFFSET, body.luid.low, true);
  view.setUint32(offset + at.LUID_OFFSET + 4, body.luid.high, true);
  for (let i = 0; i < body.uuid.length; i++) target[offset + at.UUID_OFFSET + i] = body.uuid.charCodeAt(i);
  view.setUint32(offset + at.VERSION_OFFSET, body.version, true);
  view.setInt32(offset + at.ERROR_OFFSET, error, true);
  view.setUint32(offset + at.SEQ_OFFSET, body.seq, true);
  view.setUint32(offset + at.REQUEST_TYPE_OFFSET, body.type, true);
  view.setUint32(offset + at.DATA_SIZE_OFFSET, dataSize, true);
  target.set(body.data, offset + at.DATA_OFFSET);
  return offset + at.FRAME_HEADER_BYTES + dataSize;
}

function viewOf(target: Uint8Array): DataView {
  return new DataView(target.buffer, target.byteOffset, target.byteLength);
}

function assertRoom(target: Uint8Array, offset: number, bytes: number): void {
  if (!Number.isInteger(offset) || offset < 0 || offset + bytes > target.length) {
    throw new RangeError(`${bytes} bytes do not fit at ${offset} of a buffer of ${target.length} bytes`);
  }
}

function assertUuid(uuid: string): void {
  if (uuid.length > at.UUID_BYTES_MAX) {
    throw new RangeError(`a uuid has at most ${at.UUID_BYTES_MAX} characters, not ${uuid.length}`);
  }
  for (let i = 0; i < uuid.length; i++) {
    const unit = uuid.charCodeAt(i);
    if (unit === 0 || unit > 0xff) throw new RangeError(`character ${i} of the uuid is not U+0001..U+00FF`);
  }
}
