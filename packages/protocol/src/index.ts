/**
 * The dm-log-userspace wire protocol: netlink connector frames to requests and replies, read and answered in place.
 *
 * A daemon makes one {@link FrameView} over its receive arena and points it at datagram after datagram; nothing is copied
 * or allocated. {@link decodeRequest}, {@link decodeReply} and the `encode…Into` functions copy: they serve tests, tools and whoever
 * plays the kernel. Whatever the bytes, a frame decodes or is refused with a {@link DecodeCode}.
 *
 * @example
 * ```ts
 * import { DecodeCode, FrameView, RequestType, encodeRequestInto } from '@dmlog/protocol';
 *
 * const arena = new Uint8Array(1024);
 * const data = new Uint8Array(8); // region 0
 * const luid = { low: 1, high: 0 };
 * const length = encodeRequestInto(arena, 0, { type: RequestType.IN_SYNC, version: 3, seq: 1, luid, uuid: 'LVM-a', data });
 *
 * const frame = new FrameView(arena);
 * if (frame.decode(0, length) === DecodeCode.OK && frame.type === RequestType.IN_SYNC) {
 *   const replyLength = frame.replyValue(frame.region(0) === 0 ? 1 : 0); // 204 bytes, at 0
 *   console.log(arena.subarray(0, replyLength));
 * }
 * ```
 *
 * @packageDocumentation
 */
export {
  ACK_BYTES,
  DATA_OFFSET,
  DEVICE_NAME_BYTES_MAX,
  Errno,
  FRAME_HEADER_BYTES,
  KERNEL_BUFFER_BYTES,
  KERNEL_FRAME_BYTES_MAX,
  REGION_BYTES,
  REGIONS_PER_REQUEST_MAX,
  REPLY_DATA_BYTES_MAX,
  REQUEST_DATA_BYTES_MAX,
  RequestType,
  requestTypeName,
  ULOG_HEADER_BYTES,
  UUID_BYTES_MAX,
  VERSION_DEVICE_NAME,
  VERSION_INTEGRATED_FLUSH,
  VERSION_MAX,
  VERSION_MIN,
} from './constants.js';
export { DecodeCode, DecodeError, decodeCodeMessage, decodeCodeName } from './decode-error.js';
export { encodeAckInto, encodeReplyInto, encodeRequestInto } from './encode.js';
export { FrameView, NO_REPLY_BYTES } from './frame-view.js';
export {
  type AckReply,
  decodeReply,
  decodeRequest,
  type FullReply,
  type Luid,
  type Reply,
  type Request,
} from './messages.js';
export {
  parseTrace,
  TRACE_FORMAT,
  type Trace,
  TraceError,
  type TraceHeader,
  type TraceRecord,
} from './trace.js';
export { type UuidKey, uuidKey } from './uuid.js';
