import { assertU64, latin1Text, setU64, u64Number, utf8Text } from './bytes.js';
import * as at from './constants.js';
import { DecodeCode } from './decode-error.js';
import { nulIndex, writeAck, writeReplyHeaders } from './headers.js';
import { errorReplyBytesOf, PAYLOAD_INVALID, payloadRegionCount, replyBytesOf } from './payload.js';
import type { UuidKey } from './uuid.js';

/** Returned by the `reply…` methods where no request stands that could be answered: send nothing. */
export const NO_REPLY_BYTES = 0;

/**
 * Reads requests, and writes the replies over them, in an arena that the caller owns.
 *
 * Make one view per arena and point it at frame after frame with {@link FrameView.decode}: neither that, nor reading the
 * fields, nor the replies with numbers allocate anything. Text is made only by {@link FrameView.uuidText} and
 * {@link FrameView.text}. Fields are valid until the next `decode`; what stands in the payload (`region`, `inSync`,
 * `text`) only until a reply is written over it.
 *
 * No byte outside `[offset, offset + length)` is read by `decode` or decides anything. Replies write at most to
 * `offset + replyBytesMax` and to the arena's end, and throw a RangeError instead of writing past either.
 */
export class FrameView {
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly arenaBytes: number;
  private readonly replyBytesMax: number;

  /**
   * A request header stands here, so that an error can be answered: always after `OK`; after a refusal, true when all of
   * seq, luid and uuid stood inside the frame. `type`, `version`, `seq`, the luid and the uuid are then set, `dataSize` and
   * `regionCount` are 0. While it is false, all fields are 0 and every `reply…` returns 0: silence.
   */
  answerable = false;
  /** Start of the frame in the arena. */
  offset = 0;
  /** {@link at.RequestType}: the low 8 bits of request_type. */
  type = 0;
  version = 0;
  /** u32 */
  seq = 0;
  /** Bytes of payload. */
  dataSize = 0;
  /** u32 halves of the luid. */
  luidLow = 0;
  luidHigh = 0;
  /** Position in the arena, and length in bytes without the NUL. */
  uuidOffset = 0;
  uuidLength = 0;
  /** Position of the payload in the arena. */
  dataOffset = 0;
  /** Regions in the payload: MARK, CLEAR and FLUSH any number, types with one region 1, others 0. */
  regionCount = 0;

  /**
   * @param arena - where the frames stand; kept, never copied
   * @param replyBytesMax - room for one reply, counted from the frame's start; a transport's slot size. Default: the arena
   */
  constructor(arena: Uint8Array, replyBytesMax: number = arena.length) {
    this.bytes = arena;
    this.view = new DataView(arena.buffer, arena.byteOffset, arena.byteLength);
    this.arenaBytes = arena.byteLength;
    this.replyBytesMax = replyBytesMax;
  }

  /**
   * Points the view at the datagram in `[offset, offset + length)`. Never throws, whatever the numbers and the bytes.
   *
   * The datagram may be longer than the frame (netlink pads to 4): nlmsg_len and the lengths inside decide. Kernels before
   * 3.14 counted that padding in nlmsg_len, so the connector message may also end before it.
   */
  decode(offset: number, length: number): DecodeCode {
    if (
      offset >>> 0 !== offset ||
      length >>> 0 !== length ||
      offset + length > this.arenaBytes ||
      length < at.FRAME_HEADER_BYTES
    ) {
      return this.refuseRange(offset, length);
    }
    const view = this.view;
    const frameBytes = view.getUint32(offset, true);
    if (frameBytes < at.FRAME_HEADER_BYTES || frameBytes > length) {
      return this.refuse(DecodeCode.BAD_NETLINK_LENGTH);
    }
    if (view.getUint16(offset + at.NLMSG_TYPE_OFFSET, true) !== at.NLMSG_DONE) {
      return this.refuse(DecodeCode.BAD_NETLINK_TYPE);
    }
    if (
      view.getUint32(offset + at.CN_IDX_OFFSET, true) !== at.CN_IDX_DM ||
      view.getUint32(offset + at.CN_VAL_OFFSET, true) !== at.CN_VAL_DM_USERSPACE_LOG
    ) {
      return this.refuse(DecodeCode.BAD_CONNECTOR_ID);
    }
    this.answerable = true;
    this.offset = offset;
    this.type = view.getUint32(offset + at.REQUEST_TYPE_OFFSET, true) & at.REQUEST_TYPE_MASK;
    this.version = view.getUint32(offset + at.VERSION_OFFSET, true);
    this.seq = view.getUint32(offset + at.SEQ_OFFSET, true);
    this.luidLow = view.getUint32(offset + at.LUID_OFFSET, true);
    this.luidHigh = view.getUint32(offset + at.LUID_OFFSET + 4, true);
    this.uuidOffset = offset + at.UUID_OFFSET;
    this.dataOffset = offset + at.DATA_OFFSET;
    this.dataSize = 0;
    this.regionCount = 0;
    const uuidLength = nulIndex(view, offset + at.UUID_OFFSET);
    this.uuidLength = uuidLength < 0 ? at.UUID_BYTES_MAX : uuidLength;
    return uuidLength < 0 ? DecodeCode.BAD_UUID : this.decodeBody(offset, frameBytes);
  }

  private decodeBody(offset: number, frameBytes: number): DecodeCode {
    const version = this.version;
    if (version < at.VERSION_MIN || version > at.VERSION_MAX) return DecodeCode.BAD_VERSION;
    const type = this.type;
    if (type < at.REQUEST_TYPE_MIN || type > at.REQUEST_TYPE_MAX) return DecodeCode.BAD_TYPE;
    const view = this.view;
    const connectorBytes = view.getUint16(offset + at.CN_LEN_OFFSET, true);
    const dataSize = view.getUint32(offset + at.DATA_SIZE_OFFSET, true);
    if (connectorBytes !== at.ULOG_HEADER_BYTES + dataSize || at.ACK_BYTES + connectorBytes > frameBytes) {
      return DecodeCode.BAD_CONNECTOR_LENGTH;
    }
    const regionCount = payloadRegionCount(type, version, dataSize);
    if (regionCount === PAYLOAD_INVALID) return DecodeCode.BAD_PAYLOAD;
    this.dataSize = dataSize;
    this.regionCount = regionCount;
    return DecodeCode.OK;
  }

  private refuseRange(offset: number, length: number): DecodeCode {
    const inside = offset >>> 0 === offset && length >>> 0 === length && offset + length <= this.arenaBytes;
    return this.refuse(inside ? DecodeCode.TRUNCATED : DecodeCode.BAD_RANGE);
  }

  private refuse(code: DecodeCode): DecodeCode {
    this.answerable = false;
    this.offset = 0;
    this.type = 0;
    this.version = 0;
    this.seq = 0;
    this.dataSize = 0;
    this.luidLow = 0;
    this.luidHigh = 0;
    this.uuidOffset = 0;
    this.uuidLength = 0;
    this.dataOffset = 0;
    this.regionCount = 0;
    return code;
  }

  /** Region `index` of the payload. Infinity when the u64 is 2^53 or more, or when there is no such index. */
  region(index: number): number {
    if (index >>> 0 !== index || index >= this.regionCount) return Number.POSITIVE_INFINITY;
    const position = this.dataOffset + index * at.REGION_BYTES;
    return u64Number(this.view.getUint32(position, true), this.view.getUint32(position + 4, true));
  }

  /** SET_REGION_SYNC: whether the second word, an s64, is anything but 0. False for all other types. */
  inSync(): boolean {
    if (this.type !== at.RequestType.SET_REGION_SYNC || this.dataSize !== 2 * at.REGION_BYTES) return false;
    const position = this.dataOffset + at.REGION_BYTES;
    return (this.view.getUint32(position, true) | this.view.getUint32(position + 4, true)) !== 0;
  }

  /** The uuid, one character per byte. Allocates: for logs and for the first sight of a log. */
  uuidText(): string {
    return latin1Text(this.bytes, this.uuidOffset, this.uuidLength);
  }

  /** The payload as UTF-8 without its last NUL: the constructor string of CTR. Allocates. */
  text(): string {
    return utf8Text(this.bytes, this.dataOffset, this.dataSize - (this.nulTerminated ? 1 : 0));
  }

  /** The payload ends in NUL: on CTR the mark of a kernel that reconnects, which has no room for a device name. */
  get nulTerminated(): boolean {
    return this.dataSize > 0 && this.bytes[this.dataOffset + this.dataSize - 1] === 0;
  }

  /** Whether the uuid, without NUL, is the key's. Compares words: every request is looked up by its uuid. */
  uuidEquals(key: UuidKey): boolean {
    const length = this.uuidLength;
    const { bytes, words } = key;
    if (!this.answerable || bytes.length !== length) return false;
    const start = this.uuidOffset;
    const whole = length >>> 2;
    const view = this.view;
    for (let i = 0; i < whole; i++) if (view.getUint32(start + 4 * i, true) !== words[i]) return false;
    for (let i = 4 * whole; i < length; i++) if (this.bytes[start + i] !== bytes[i]) return false;
    return true;
  }

  /** Bytes of data that the kernel expects in a successful reply: 0, 8 or 16 by type. Texts count as 0. */
  expectedReplyBytes(): number {
    return replyBytesOf(this.type);
  }

  /**
   * The ack form: enough wherever nothing is returned. Returns 36.
   * @param errno - positive, or 0 for success
   */
  replyAck(errno: number): number {
    if (!this.answerable) return NO_REPLY_BYTES;
    if ((errno | 0) !== errno || errno < 0)
      throw new RangeError(`an ack carries a positive errno or 0, not ${errno}`);
    writeAck(this.view, this.offset, errno);
    this.view.setUint32(this.offset + at.CN_SEQ_OFFSET, this.seq, true);
    return at.ACK_BYTES;
  }

  /** The full form without data. Returns 196. @param error - 0 or a negative errno */
  replyEmpty(error: number): number {
    if (!this.answerable) return NO_REPLY_BYTES;
    assertError(error);
    return writeReplyHeaders(this.view, this.offset, error, 0);
  }

  /** The full form with one u64. Returns 204. @param value - integer 0..2^53 */
  replyValue(value: number): number {
    if (!this.answerable) return NO_REPLY_BYTES;
    assertU64(value);
    this.assertRoom(8);
    setU64(this.view, this.dataOffset, value);
    return writeReplyHeaders(this.view, this.offset, 0, 8);
  }

  /** The full form with two u64: GET_RESYNC_WORK, IS_REMOTE_RECOVERING. Returns 212. Both are integers 0..2^53. */
  replyPair(first: number, second: number): number {
    if (!this.answerable) return NO_REPLY_BYTES;
    assertU64(first);
    assertU64(second);
    this.assertRoom(16);
    setU64(this.view, this.dataOffset, first);
    setU64(this.view, this.dataOffset + 8, second);
    return writeReplyHeaders(this.view, this.offset, 0, 16);
  }

  /**
   * The full form with `bytes` as data: the device name of CTR (NUL included, version 2 and later, first CTR of a log only:
   * see `nulTerminated`), or the text of STATUS. Returns 196 + their number. RangeError if that leaves the room for a reply.
   */
  replyBytes(bytes: Uint8Array): number {
    if (!this.answerable) return NO_REPLY_BYTES;
    this.assertRoom(bytes.length);
    this.bytes.set(bytes, this.dataOffset);
    return writeReplyHeaders(this.view, this.offset, 0, bytes.length);
  }

  /**
   * The full form with a negative errno and, as data, as many zeros as a success would have carried: the kernel takes
   * data_size as the room for a repeated answer, so after -ESRCH with 0 the repeat would fail (dm-log-userspace-transfer.c,
   * `fill_pkg`); for the text of STATUS_INFO, 64. IN_SYNC must never be answered so: stay silent instead.
   * @param error - negative errno
   */
  replyError(error: number): number {
    if (!this.answerable) return NO_REPLY_BYTES;
    assertError(error);
    if (error === 0) throw new RangeError('an error reply needs a negative errno, not 0');
    const dataSize = errorReplyBytesOf(this.type);
    this.assertRoom(dataSize);
    for (let i = 0; i < dataSize; i += 4) this.view.setUint32(this.dataOffset + i, 0, true);
    return writeReplyHeaders(this.view, this.offset, error, dataSize);
  }

  private assertRoom(dataSize: number): void {
    const replyBytes = at.FRAME_HEADER_BYTES + dataSize;
    if (
      dataSize > at.REPLY_DATA_BYTES_MAX ||
      replyBytes > this.replyBytesMax ||
      this.offset + replyBytes > this.arenaBytes
    ) {
      throw new RangeError(
        `a reply of ${replyBytes} bytes does not fit at ${this.offset}: the arena has ${this.arenaBytes} bytes, ` +
          `one reply at most ${Math.min(this.replyBytesMax, at.FRAME_HEADER_BYTES + at.REPLY_DATA_BYTES_MAX)}`,
      );
    }
  }
}

function assertError(error: number): void {
  if ((error | 0) !== error || error > 0)
    throw new RangeError(`the error of a full reply is 0 or a negative errno, not ${error}`);
}
