import { latin1Text } from './bytes.js';
import * as at from './constants.js';
import { DecodeCode, DecodeError } from './decode-error.js';
import { FrameView } from './frame-view.js';
import { nulIndex } from './headers.js';

/** A u64 id as two u32: it is a kernel pointer and does not fit a double. */
export interface Luid {
  readonly low: number;
  readonly high: number;
}

/** A request, copied out of its frame. For tests, tools and the simulator; a daemon reads with {@link FrameView}. */
export interface Request {
  /** The low 8 bits of request_type. */
  readonly type: number;
  readonly version: number;
  /** u32 */
  readonly seq: number;
  readonly luid: Luid;
  /** At most 128 characters of U+0001..U+00FF, one byte each. */
  readonly uuid: string;
  readonly data: Uint8Array;
}

/** An empty connector message: success or failure without data. */
export interface AckReply {
  readonly kind: 'ack';
  /** seq of the request that is answered. */
  readonly seq: number;
  /** 0 or a positive errno. */
  readonly errno: number;
}

/** The request echoed, with error and data. */
export interface FullReply extends Request {
  readonly kind: 'full';
  /** 0 or a negative errno. */
  readonly error: number;
}

export type Reply = AckReply | FullReply;

/** Copies a request out of `frame`. Throws {@link DecodeError}, never returns half a request. */
export function decodeRequest(frame: Uint8Array): Request {
  const view = new FrameView(frame);
  const code = view.decode(0, frame.length);
  if (code !== DecodeCode.OK) throw new DecodeError(code, fieldOffsetOf(code, frame.length), frame.length);
  return {
    type: view.type,
    version: view.version,
    seq: view.seq,
    luid: { low: view.luidLow, high: view.luidHigh },
    uuid: view.uuidText(),
    data: frame.slice(view.dataOffset, view.dataOffset + view.dataSize),
  };
}

/** Copies a reply of either form out of `frame`, as the kernel would take it. Throws {@link DecodeError}. */
export function decodeReply(frame: Uint8Array): Reply {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const refuse = (code: DecodeCode): never => {
    throw new DecodeError(code, fieldOffsetOf(code, frame.length), frame.length);
  };
  if (frame.length < at.ACK_BYTES) return refuse(DecodeCode.TRUNCATED);
  const frameBytes = view.getUint32(at.NLMSG_LEN_OFFSET, true);
  if (frameBytes < at.ACK_BYTES || frameBytes > frame.length) return refuse(DecodeCode.BAD_NETLINK_LENGTH);
  if (view.getUint16(at.NLMSG_TYPE_OFFSET, true) !== at.NLMSG_DONE)
    return refuse(DecodeCode.BAD_NETLINK_TYPE);
  if (
    view.getUint32(at.CN_IDX_OFFSET, true) !== at.CN_IDX_DM ||
    view.getUint32(at.CN_VAL_OFFSET, true) !== at.CN_VAL_DM_USERSPACE_LOG
  ) {
    return refuse(DecodeCode.BAD_CONNECTOR_ID);
  }
  const connectorBytes = view.getUint16(at.CN_LEN_OFFSET, true);
  if (connectorBytes === 0) {
    return {
      kind: 'ack',
      seq: view.getUint32(at.CN_SEQ_OFFSET, true),
      errno: view.getUint32(at.CN_ACK_OFFSET, true),
    };
  }
  if (frameBytes < at.FRAME_HEADER_BYTES) return refuse(DecodeCode.BAD_CONNECTOR_LENGTH);
  const dataSize = view.getUint32(at.DATA_SIZE_OFFSET, true);
  if (connectorBytes !== at.ULOG_HEADER_BYTES + dataSize || at.ACK_BYTES + connectorBytes > frameBytes) {
    return refuse(DecodeCode.BAD_CONNECTOR_LENGTH);
  }
  const uuidLength = nulIndex(view, at.UUID_OFFSET);
  if (uuidLength < 0) return refuse(DecodeCode.BAD_UUID);
  const version = view.getUint32(at.VERSION_OFFSET, true);
  if (version < at.VERSION_MIN || version > at.VERSION_MAX) return refuse(DecodeCode.BAD_VERSION);
  const type = view.getUint32(at.REQUEST_TYPE_OFFSET, true) & at.REQUEST_TYPE_MASK;
  if (type < at.REQUEST_TYPE_MIN || type > at.REQUEST_TYPE_MAX) return refuse(DecodeCode.BAD_TYPE);
  return {
    kind: 'full',
    type,
    version,
    seq: view.getUint32(at.SEQ_OFFSET, true),
    luid: { low: view.getUint32(at.LUID_OFFSET, true), high: view.getUint32(at.LUID_OFFSET + 4, true) },
    uuid: latin1Text(frame, at.UUID_OFFSET, uuidLength),
    error: view.getInt32(at.ERROR_OFFSET, true),
    data: frame.slice(at.DATA_OFFSET, at.DATA_OFFSET + dataSize),
  };
}

/** Where in a frame the field stands that `code` complains about. */
function fieldOffsetOf(code: DecodeCode, frameBytes: number): number {
  switch (code) {
    case DecodeCode.TRUNCATED:
      return frameBytes;
    case DecodeCode.BAD_NETLINK_TYPE:
      return at.NLMSG_TYPE_OFFSET;
    case DecodeCode.BAD_CONNECTOR_ID:
      return at.CN_IDX_OFFSET;
    case DecodeCode.BAD_CONNECTOR_LENGTH:
      return at.CN_LEN_OFFSET;
    case DecodeCode.BAD_UUID:
      return at.UUID_OFFSET;
    case DecodeCode.BAD_VERSION:
      return at.VERSION_OFFSET;
    case DecodeCode.BAD_TYPE:
      return at.REQUEST_TYPE_OFFSET;
    case DecodeCode.BAD_PAYLOAD:
      return at.DATA_SIZE_OFFSET;
    default:
      return at.NLMSG_LEN_OFFSET;
  }
}
