import { CN_IDX_DM, CN_VAL_DM_USERSPACE_LOG, FRAME_HEADER_BYTES, NLMSG_DONE } from './constants.js';

/** Why a byte string is no frame. Stable small integers: they are counted in metrics and kept in logs. */
export const DecodeCode = {
  OK: 0,
  /** Fewer bytes than the headers need. */
  TRUNCATED: 1,
  /** Offset or length is not a non-negative integer, or leaves the arena. A bug of the caller, not of the sender. */
  BAD_RANGE: 2,
  /** nlmsg_len is smaller than the headers or larger than the datagram. */
  BAD_NETLINK_LENGTH: 3,
  /** nlmsg_type is not NLMSG_DONE: a netlink control message. */
  BAD_NETLINK_TYPE: 4,
  /** The connector message is not of dm-log-userspace: process events, for example. */
  BAD_CONNECTOR_ID: 5,
  /** cn_msg.len is not 160 + data_size, or does not fit nlmsg_len. */
  BAD_CONNECTOR_LENGTH: 6,
  /** No NUL in the 129 bytes of the uuid. */
  BAD_UUID: 7,
  /** A protocol version that this package does not know. */
  BAD_VERSION: 8,
  /** A request type that this package does not know. */
  BAD_TYPE: 9,
  /** data_size is wrong for the request type. */
  BAD_PAYLOAD: 10,
} as const;
export type DecodeCode = (typeof DecodeCode)[keyof typeof DecodeCode];

const names: readonly string[] = Object.keys(DecodeCode);

const messages: readonly string[] = [
  'the frame is sound',
  `fewer bytes than the headers need (${FRAME_HEADER_BYTES}, or 36 for an ack)`,
  'offset or length leaves the arena; this is a bug of the caller',
  'nlmsg_len is smaller than the headers or larger than the datagram',
  `nlmsg_type is not NLMSG_DONE (${NLMSG_DONE})`,
  `the connector id is not ${CN_IDX_DM}/${CN_VAL_DM_USERSPACE_LOG}: not a dm-log-userspace message`,
  'cn_msg.len is not 160 + data_size, or exceeds nlmsg_len',
  'the uuid has no NUL within 129 bytes',
  'the protocol version is not 1, 2 or 3; use a release that knows this kernel',
  'the request type is not 1 to 17; use a release that knows this kernel',
  'data_size is wrong for the request type',
];

/** `BAD_UUID` for 7; `UNKNOWN(99)` for a number that is no code. */
export function decodeCodeName(code: number): string {
  return names[code] ?? `UNKNOWN(${code})`;
}

/** One sentence for logs. */
export function decodeCodeMessage(code: number): string {
  return messages[code] ?? `unknown decode code ${code}`;
}

/** Thrown by `decodeRequest` and `decodeReply`. Match on `code`, then on `decodeCode`. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError';
  /** Stable: renaming it is a breaking change. */
  readonly code = 'ERR_DECODE';
  readonly decodeCode: DecodeCode;
  /** Byte in the frame at which the offending field stands. */
  readonly fieldOffset: number;
  /** Bytes of the refused frame. */
  readonly frameBytes: number;

  constructor(decodeCode: DecodeCode, fieldOffset: number, frameBytes: number) {
    super(
      `cannot decode a frame of ${frameBytes} bytes: ${decodeCodeMessage(decodeCode)} ` +
        `(${decodeCodeName(decodeCode)} at byte ${fieldOffset})`,
    );
    this.decodeCode = decodeCode;
    this.fieldOffset = fieldOffset;
    this.frameBytes = frameBytes;
  }
}
