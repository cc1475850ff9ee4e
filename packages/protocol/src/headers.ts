import * as at from './constants.js';

/** Index of the first NUL in the 129 bytes at `start`, or −1. Four bytes at a time: this is the longest loop of a decode. */
export function nulIndex(view: DataView, start: number): number {
  for (let i = 0; i < at.UUID_BYTES_MAX; i += 4) {
    const word = view.getInt32(start + i, true);
    // The classic zero-byte test: exact for "is there one", so the byte itself is looked up below.
    if (((word - 0x01010101) & ~word & 0x80808080) === 0) continue;
    if ((word & 0xff) === 0) return i;
    if ((word & 0xff00) === 0) return i + 1;
    return (word & 0xff0000) === 0 ? i + 2 : i + 3;
  }
  return view.getUint8(start + at.UUID_BYTES_MAX) === 0 ? at.UUID_BYTES_MAX : -1;
}

/**
 * Writes an ack at `offset`, all but its cn seq, which is the caller's: V8 boxes a seq of 2^31 and more (16 bytes) when it is passed
 * to a function that it does not inline.
 */
export function writeAck(view: DataView, offset: number, errno: number): void {
  view.setUint32(offset, at.ACK_BYTES, true);
  view.setUint32(offset + at.NLMSG_TYPE_OFFSET, at.NLMSG_DONE, true);
  view.setUint32(offset + at.NLMSG_SEQ_OFFSET, 0, true);
  view.setUint32(offset + at.NLMSG_PID_OFFSET, 0, true);
  view.setUint32(offset + at.CN_IDX_OFFSET, at.CN_IDX_DM, true);
  view.setUint32(offset + at.CN_VAL_OFFSET, at.CN_VAL_DM_USERSPACE_LOG, true);
  view.setUint32(offset + at.CN_ACK_OFFSET, errno, true);
  view.setUint32(offset + at.CN_LEN_OFFSET, 0, true);
}

/** Turns the request headers at `offset` into those of a full reply; luid, uuid, version, seq and type stay. Returns its length. */
export function writeReplyHeaders(view: DataView, offset: number, error: number, dataSize: number): number {
  const frameBytes = at.FRAME_HEADER_BYTES + dataSize;
  view.setUint32(offset, frameBytes, true);
  view.setUint32(offset + at.NLMSG_TYPE_OFFSET, at.NLMSG_DONE, true);
  view.setUint32(offset + at.NLMSG_SEQ_OFFSET, 0, true);
  view.setUint32(offset + at.NLMSG_PID_OFFSET, 0, true);
  view.setUint32(offset + at.CN_SEQ_OFFSET, 0, true);
  view.setUint32(offset + at.CN_ACK_OFFSET, 0, true);
  view.setUint32(offset + at.CN_LEN_OFFSET, at.ULOG_HEADER_BYTES + dataSize, true);
  view.setInt32(offset + at.ERROR_OFFSET, error, true);
  view.setUint32(offset + at.DATA_SIZE_OFFSET, dataSize, true);
  return frameBytes;
}
