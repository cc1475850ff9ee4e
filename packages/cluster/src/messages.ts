/**
 * What members say to each other. All numbers little-endian.
 *
 * | offset | size | field    | note                                                                          |
 * |      0 |    4 | magic    | "DMC1"                                                                        |
 * |      4 |    2 | version  | {@link MESSAGE_VERSION}                                                       |
 * |      6 |    1 | kind     | {@link MessageKind}                                                           |
 * |      7 |    1 | 0        |                                                                               |
 * |      8 |    4 | checksum | CRC-32 (IEEE) of bytes 4..7, then of everything from offset 12 on                                 |
 * |     12 |    4 | ring     | node id of the ring that the message was sent in …                            |
 * |     16 |    8 |          | … and its seq                                                                 |
 * |     24 |    4 | nonce    | drawn by the sender at its start: tells incarnations apart                    |
 * |     28 |    4 | number   | of the sender's messages, from 1, wraps; a message sent again keeps its number |
 * |     32 |    8 | position | what the sender has applied: evidence that it knows everything up to there    |
 * |     40 |      | payload  | by kind                                                                       |
 *
 * A message is decoded and checked as a whole before any of it is applied.
 */
import { crc32 } from '@dmlog/bitmap';
import { getU16, getU32, getU64, setU16, setU32, setU64 } from './bytes.js';
import type { RingId } from './group/contract.js';

export const MESSAGE_VERSION = 1;
export const HEADER_BYTES = 40;
const MAGIC = 0x31434d44;
const CHECKSUM_AT = 8;

export const MessageKind = {
  /** Who I am and what I have, at every change of the ring and at a join: {@link Hello}. */
  HELLO: 1,
  /** Changes of the state, in order: a list of entries (`entries.ts`). */
  ENTRIES: 2,
  /** What the sender has applied (in the header) and has on disk: {@link Positions}. */
  POSITIONS: 3,
  /** The sender will take a snapshot for the target at this place in the order: {@link Target}. */
  SNAPSHOT_BEGIN: 4,
  /** A piece of it: {@link Target}, u32 index, u32 count, bytes. */
  SNAPSHOT: 5,
  /** The target must not take part: {@link Target}, ASCII text that says why. */
  REFUSAL: 6,
} as const;
export type MessageKind = (typeof MessageKind)[keyof typeof MessageKind];

export interface MessageHeader {
  readonly kind: MessageKind;
  readonly ring: RingId;
  readonly nonce: number;
  readonly number: number;
  readonly position: number;
}

export interface Message extends MessageHeader {
  /** A view into the message. */
  readonly payload: Uint8Array;
}

/** Why bytes are no message. `NEWER`: of a version that this program does not know; the others: damaged or not ours. */
export const Unreadable = { FOREIGN: 'foreign', DAMAGED: 'damaged', NEWER: 'newer' } as const;
export type Unreadable = (typeof Unreadable)[keyof typeof Unreadable];

export function encodeMessage(header: MessageHeader, payload: Uint8Array): Uint8Array {
  const bytes = layOutMessage(header.kind, header.nonce, header.number, payload);
  stamp(bytes, header.ring, header.position);
  return bytes;
}

/** A message without ring, position and checksum: {@link stamp} it before it is sent. */
export function layOutMessage(
  kind: MessageKind,
  nonce: number,
  number: number,
  payload: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.byteLength);
  setU32(bytes, 0, MAGIC);
  setU16(bytes, 4, MESSAGE_VERSION);
  bytes[6] = kind;
  setU32(bytes, 24, nonce);
  setU32(bytes, 28, number);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

/** Gives a message its ring and position, or others: it is sent, or sent again. */
export function stamp(bytes: Uint8Array, ring: RingId, position: number): void {
  setU32(bytes, 12, ring.nodeId);
  setU64(bytes, 16, ring.seq);
  setU64(bytes, 32, position);
  setU32(bytes, 8, checksum(bytes));
}

function checksum(bytes: Uint8Array): number {
  return crc32(bytes, CHECKSUM_AT + 4, bytes.byteLength, crc32(bytes, 4, CHECKSUM_AT));
}

export function decodeMessage(bytes: Uint8Array): Message | Unreadable {
  if (bytes.byteLength < HEADER_BYTES) return Unreadable.FOREIGN;
  if (getU32(bytes, 0) !== MAGIC) return Unreadable.FOREIGN;
  if (getU16(bytes, 4) > MESSAGE_VERSION) return Unreadable.NEWER;
  const kind = bytes[6] as number;
  if (
    getU16(bytes, 4) !== MESSAGE_VERSION ||
    getU32(bytes, 8) !== checksum(bytes) ||
    kind < MessageKind.HELLO ||
    kind > MessageKind.REFUSAL
  ) {
    return Unreadable.DAMAGED;
  }
  return {
    kind: kind as MessageKind,
    ring: { nodeId: getU32(bytes, 12), seq: getU64(bytes, 16) },
    nonce: getU32(bytes, 24),
    number: getU32(bytes, 28),
    position: getU64(bytes, 32),
    payload: bytes.subarray(HEADER_BYTES),
  };
}

export function sameRing(a: RingId, b: RingId): boolean {
  return a.nodeId === b.nodeId && a.seq === b.seq;
}

/** What all logs of one group have in common. */
export interface Geometry {
  readonly kind: 'core' | 'disk';
  /** 1 … 2^32−1. */
  readonly regionCount: number;
  readonly regionSizeSectors: number;
  readonly targetSectors: number;
}

/** A state's identity: equal ones are equal states. */
export interface StateIdentity {
  /** The last ring with quorum in which this state was agreed on. */
  readonly agreedRing: RingId;
  readonly position: number;
  readonly hashHigh: number;
  readonly hashLow: number;
}

export interface Hello {
  /** 32 hexadecimal digits: the kernel's random boot_id without dashes. */
  readonly bootId: string;
  readonly geometry: Geometry;
  /** Digest of the members that the sender introduces itself to, u32: with others, it may have come to a state since. */
  readonly audience: number;
  /** Null: I have no state, and need one. */
  readonly state: StateIdentity | null;
  /** Nodes that I saw leave since the state was agreed on, and why (`LeaveReason`). */
  readonly gone: ReadonlyMap<number, number>;
  /** The other nodes that took part when the state was agreed on. One that the sender was out of touch with may have gone on without it. */
  readonly needs: readonly number[];
  /** Those of `needs`, its first ones, with which the sender has been in a ring with quorum since that ended before it was heard here what it had decided. */
  readonly suspects: readonly number[];
  /** The state is from an earlier life of the sender, who was out of the group since: any of `needs` may have gone on. */
  readonly wasOut: boolean;
  /** The sender waits no longer for those whom it needs. */
  readonly impatient: boolean;
}

/**
 * | offset | size | field                                          |
 * |      0 |   16 | boot id                                        |
 * |     16 |    1 | 1: a state follows at 48                       |
 * |     17 |    1 | 0 core, 1 disk                                 |
 * |     18 |    2 | number of nodes gone                           |
 * |     20 |    4 | regions                                        |
 * |     24 |    8 | sectors per region                             |
 * |     32 |    8 | sectors of the target                          |
 * |     40 |    4 | audience                                       |
 * |     44 |    2 | number of nodes needed                         |
 * |     46 |    2 | 1: impatient, 2: was out of the group          |
 * |     48 |   32 | agreed ring (u32, u64), position u64, hash 2×u32, suspects u32 |
 * |     80 |  5×n | node u32, reason u8                            |
 * |      … |  4×m | node needed u32                                |
 */
export function encodeHello(hello: Hello): Uint8Array {
  const bytes = new Uint8Array(HELLO_BYTES + 5 * hello.gone.size + 4 * hello.needs.length);
  for (let i = 0; i < 16; i++) bytes[i] = Number.parseInt(hello.bootId.slice(2 * i, 2 * i + 2), 16);
  bytes[16] = hello.state === null ? 0 : 1;
  bytes[17] = hello.geometry.kind === 'disk' ? 1 : 0;
  setU16(bytes, 18, hello.gone.size);
  setU32(bytes, 20, hello.geometry.regionCount);
  setU64(bytes, 24, hello.geometry.regionSizeSectors);
  setU64(bytes, 32, hello.geometry.targetSectors);
  setU32(bytes, 40, hello.audience);
  setU16(bytes, 44, hello.needs.length);
  setU16(bytes, 46, Number(hello.impatient) | (Number(hello.wasOut) << 1));
  setU32(bytes, 76, hello.suspects.length);
  if (hello.state !== null) {
    setU32(bytes, 48, hello.state.agreedRing.nodeId);
    setU64(bytes, 52, hello.state.agreedRing.seq);
    setU64(bytes, 60, hello.state.position);
    setU32(bytes, 68, hello.state.hashHigh);
    setU32(bytes, 72, hello.state.hashLow);
  }
  let at = HELLO_BYTES;
  for (const [nodeId, reason] of hello.gone) {
    setU32(bytes, at, nodeId);
    bytes[at + 4] = reason;
    at += 5;
  }
  for (const nodeId of hello.needs) {
    setU32(bytes, at, nodeId);
    at += 4;
  }
  return bytes;
}

const HELLO_BYTES = 80;

/** Null for bytes that are no hello. */
export function decodeHello(bytes: Uint8Array): Hello | null {
  if (bytes.byteLength < HELLO_BYTES) return null;
  const count = getU16(bytes, 18);
  const needed = getU16(bytes, 44);
  const needsAt = HELLO_BYTES + 5 * count;
  if (bytes.byteLength !== needsAt + 4 * needed) return null;
  const gone = new Map<number, number>();
  for (let at = HELLO_BYTES; at < needsAt; at += 5) gone.set(getU32(bytes, at), bytes[at + 4] as number);
  const needs = Array.from({ length: needed }, (_, i) => getU32(bytes, needsAt + 4 * i));
  const bootId = Array.from(bytes.subarray(0, 16), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return {
    bootId,
    geometry: {
      kind: (bytes[17] as number) === 1 ? 'disk' : 'core',
      regionCount: getU32(bytes, 20),
      regionSizeSectors: getU64(bytes, 24),
      targetSectors: getU64(bytes, 32),
    },
    audience: getU32(bytes, 40),
    state:
      (bytes[16] as number) === 0
        ? null
        : {
            agreedRing: { nodeId: getU32(bytes, 48), seq: getU64(bytes, 52) },
            position: getU64(bytes, 60),
            hashHigh: getU32(bytes, 68),
            hashLow: getU32(bytes, 72),
          },
    gone,
    needs,
    suspects: needs.slice(0, getU32(bytes, 76)),
    impatient: (getU16(bytes, 46) & 1) !== 0,
    wasOut: (getU16(bytes, 46) & 2) !== 0,
  };
}

/** What the sender has on stable media; all 0 unless it is the writer of a disk log. */
export interface Positions {
  /** All marks that were ordered up to here are on the image. */
  readonly marks: number;
  /** All clears that were ordered up to here are on the image, too. */
  readonly clears: number;
  /** Writing marks failed that were ordered up to here: who waits for them is told so. */
  readonly failed: number;
}

export const NO_POSITIONS: Positions = { marks: 0, clears: 0, failed: 0 };

export function encodePositions(positions: Positions): Uint8Array {
  const bytes = new Uint8Array(24);
  setU64(bytes, 0, positions.marks);
  setU64(bytes, 8, positions.clears);
  setU64(bytes, 16, positions.failed);
  return bytes;
}

export function decodePositions(bytes: Uint8Array): Positions | null {
  if (bytes.byteLength !== 24) return null;
  return { marks: getU64(bytes, 0), clears: getU64(bytes, 8), failed: getU64(bytes, 16) };
}

/** One incarnation of a member, and which of the sender's snapshots for it: u32 each. */
export interface Target {
  readonly nodeId: number;
  readonly nonce: number;
  readonly attempt: number;
}

const TARGET_BYTES = 12;

export function encodeTarget(target: Target, rest: Uint8Array = new Uint8Array(0)): Uint8Array {
  const bytes = new Uint8Array(TARGET_BYTES + rest.byteLength);
  setU32(bytes, 0, target.nodeId);
  setU32(bytes, 4, target.nonce);
  setU32(bytes, 8, target.attempt);
  bytes.set(rest, TARGET_BYTES);
  return bytes;
}

export function decodeTarget(bytes: Uint8Array): { target: Target; rest: Uint8Array } | null {
  if (bytes.byteLength < TARGET_BYTES) return null;
  const target = {
    nodeId: getU32(bytes, 0),
    nonce: getU32(bytes, 4),
    attempt: getU32(bytes, 8),
  };
  return { target, rest: bytes.subarray(TARGET_BYTES) };
}

/** Bytes of a snapshot in one message. */
export const CHUNK_BYTES = 60_000;

export interface Chunk {
  readonly index: number;
  readonly count: number;
  readonly bytes: Uint8Array;
}

export function encodeChunk(chunk: Chunk): Uint8Array {
  const bytes = new Uint8Array(8 + chunk.bytes.byteLength);
  setU32(bytes, 0, chunk.index);
  setU32(bytes, 4, chunk.count);
  bytes.set(chunk.bytes, 8);
  return bytes;
}

export function decodeChunk(bytes: Uint8Array): Chunk | null {
  if (bytes.byteLength < 8) return null;
  const chunk = { index: getU32(bytes, 0), count: getU32(bytes, 4), bytes: bytes.subarray(8) };
  return chunk.index < chunk.count ? chunk : null;
}
