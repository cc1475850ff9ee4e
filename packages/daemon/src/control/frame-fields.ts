import { FRAME_HEADER_BYTES, UUID_BYTES_MAX } from '@dmlog/protocol';

/** Where the fields stand in a datagram, as `FrameView` of @dmlog/protocol reads them: here they are read before, or without, its checks. */
const OFFSETS = {
  connectorSeq: 24,
  connectorBytes: 32,
  luidLow: 36,
  luidHigh: 40,
  seq: 184,
  type: 188,
  region: 196,
} as const;
/** Behind the headers of netlink and connector, and the luid. */
const UUID_OFFSET = 44;

/** A field of the datagram at `offset`. Whatever the bytes: what lies past their end counts as 0. */
export function u32(bytes: Uint8Array, offset: number, field: keyof typeof OFFSETS): number {
  const at = offset + OFFSETS[field];
  const byte = (i: number): number => bytes[at + i] ?? 0;
  return (byte(0) | (byte(1) << 8) | (byte(2) << 16) | (byte(3) << 24)) >>> 0;
}

/** The number of the request that a reply answers: the body's, or, of a reply without one, the connector's. */
export function seqOfReply(bytes: Uint8Array): number {
  const isAck = (u32(bytes, 0, 'connectorBytes') & 0xffff) === 0;
  return u32(bytes, 0, isAck ? 'connectorSeq' : 'seq');
}

/** The uuid of the request at `offset`, up to its NUL. */
export function uuidOf(bytes: Uint8Array, offset: number): string {
  const field = bytes.subarray(
    offset + UUID_OFFSET,
    offset + Math.min(FRAME_HEADER_BYTES, UUID_OFFSET + UUID_BYTES_MAX),
  );
  const end = field.indexOf(0);
  return String.fromCharCode(...(end < 0 ? field : field.subarray(0, end)));
}
