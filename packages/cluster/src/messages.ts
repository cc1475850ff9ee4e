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
import type { RingId } from './group/contract.js';

export const MESSAGE_VERSION = 1;
export const HEADER_BYTES = 40;
const MAGIC = 0x31434d44;
const CHECKSUM_AT = 8;
const U32 = 2 ** 32;

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
  const bytes = new Uint8Array(HEADER_BYTES + payload.byteLength);
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC, true);
  view.setUint16(4, MESSAGE_VERSION, true);
  view.setUint8(6, header.kind);
  view.setUint32(24, header.nonce, true);
  view.setUint32(28, header.number, true);
  bytes.set(payload, HEADER_BYTES);
  stamp(bytes, header.ring, header.position);
  return bytes;
}

/** Gives an encoded message another ring and position: it is sent again. */
export function stamp(bytes: Uint8Array, ring: RingId, position: number): void {
  const view = viewOf(bytes);
  view.setUint32(12, ring.nodeId, true);
  setU64(view, 16, ring.seq);
  setU64(view, 32, position);
  view.setUint32(8, checksum(bytes), true);
}

function checksum(bytes: Uint8Array): number {
  return crc32(bytes, CHECKSUM_AT + 4, bytes.byteLength, crc32(bytes, 4, CHECKSUM_AT));
}

export function decodeMessage(bytes: Uint8Array): Message | Unreadable {
  if (bytes.byteLength < HEADER_BYTES) return Unreadable.FOREIGN;
  const view = viewOf(bytes);
  if (view.getUint32(0, true) !== MAGIC) return Unreadable.FOREIGN;
  if (view.getUint16(4, true) > MESSAGE_VERSION) return Unreadable.NEWER;
  const kind = view.getUint8(6);
  if (
    view.getUint16(4, true) !== MESSAGE_VERSION ||
    view.getUint32(8, true) !== checksum(bytes) ||
    kind < MessageKind.HELLO ||
    kind > MessageKind.REFUSAL
  ) {
    return Unreadable.DAMAGED;
  }
  return {
    kind: kind as MessageKind,
    ring: { nodeId: view.getUint32(12, true), seq: getU64(view, 16) },
    nonce: view.getUint32(24, true),
    number: view.getUint32(28, true),
    position: getU64(view, 32),
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
  const view = viewOf(bytes);
  for (let i = 0; i < 16; i++) bytes[i] = Number.parseInt(hello.bootId.slice(2 * i, 2 * i + 2), 16);
  view.setUint8(16, hello.state === null ? 0 : 1);
  view.setUint8(17, hello.geometry.kind === 'disk' ? 1 : 0);
  view.setUint16(18, hello.gone.size, true);
  view.setUint32(20, hello.geometry.regionCount, true);
  setU64(view, 24, hello.geometry.regionSizeSectors);
  setU64(view, 32, hello.geometry.targetSectors);
  view.setUint32(40, hello.audience, true);
  view.setUint16(44, hello.needs.length, true);
  view.setUint16(46, Number(hello.impatient) | (Number(hello.wasOut) << 1), true);
  view.setUint32(76, hello.suspects.length, true);
  if (hello.state !== null) {
    view.setUint32(48, hello.state.agreedRing.nodeId, true);
    setU64(view, 52, hello.state.agreedRing.seq);
    setU64(view, 60, hello.state.position);
    view.setUint32(68, hello.state.hashHigh, true);
    view.setUint32(72, hello.state.hashLow, true);
  }
  let at = HELLO_BYTES;
  for (const [nodeId, reason] of hello.gone) {
    view.setUint32(at, nodeId, true);
    view.setUint8(at + 4, reason);
    at += 5;
  }
  for (const nodeId of hello.needs) {
    view.setUint32(at, nodeId, true);
    at += 4;
  }
  return bytes;
}

const HELLO_BYTES = 80;

/** Null for bytes that are no hello. */
export function decodeHello(bytes: Uint8Array): Hello | null {
  if (bytes.byteLength < HELLO_BYTES) return null;
  const view = viewOf(bytes);
  const count = view.getUint16(18, true);
  const needed = view.getUint16(44, true);
  const needsAt = HELLO_BYTES + 5 * count;
  if (bytes.byteLength !== needsAt + 4 * needed) return null;
  const gone = new Map<number, number>();
  for (let at = HELLO_BYTES; at < needsAt; at += 5) gone.set(view.getUint32(at, true), view.getUint8(at + 4));
  const needs = Array.from({ length: needed }, (_, i) => view.getUint32(needsAt + 4 * i, true));
  const bootId = Array.from(bytes.subarray(0, 16), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return {
    bootId,
    geometry: {
      kind: view.getUint8(17) === 1 ? 'disk' : 'core',
      regionCount: view.getUint32(20, true),
      regionSizeSectors: getU64(view, 24),
      targetSectors: getU64(view, 32),
    },
    audience: view.getUint32(40, true),
    state:
      view.getUint8(16) === 0
        ? null
        : {
            agreedRing: { nodeId: view.getUint32(48, true), seq: getU64(view, 52) },
            position: getU64(view, 60),
            hashHigh: view.getUint32(68, true),
            hashLow: view.getUint32(72, true),
          },
    gone,
    needs,
    suspects: needs.slice(0, view.getUint32(76, true)),
    impatient: (view.getUint16(46, true) & 1) !== 0,
    wasOut: (view.getUint16(46, true) & 2) !== 0,
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
  const view = viewOf(bytes);
  setU64(view, 0, positions.marks);
  setU64(view, 8, positions.clears);
  setU64(view, 16, positions.failed);
  return bytes;
}

export function decodePositions(bytes: Uint8Array): Positions | null {
  if (bytes.byteLength !== 24) return null;
  const view = viewOf(bytes);
  return { marks: getU64(view, 0), clears: getU64(view, 8), failed: getU64(view, 16) };
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
  const view = viewOf(bytes);
  view.setUint32(0, target.nodeId, true);
  view.setUint32(4, target.nonce, true);
  view.setUint32(8, target.attempt, true);
  bytes.set(rest, TARGET_BYTES);
  return bytes;
}

export function decodeTarget(bytes: Uint8Array): { target: Target; rest: Uint8Array } | null {
  if (bytes.byteLength < TARGET_BYTES) return null;
  const view = viewOf(bytes);
  const target = {
    nodeId: view.getUint32(0, true),
    nonce: view.getUint32(4, true),
    attempt: view.getUint32(8, true),
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
  const view = viewOf(bytes);
  view.setUint32(0, chunk.index, true);
  view.setUint32(4, chunk.count, true);
  bytes.set(chunk.bytes, 8);
  return bytes;
}

export function decodeChunk(bytes: Uint8Array): Chunk | null {
  if (bytes.byteLength < 8) return null;
  const view = viewOf(bytes);
  const chunk = { index: view.getUint32(0, true), count: view.getUint32(4, true), bytes: bytes.subarray(8) };
  return chunk.index < chunk.count ? chunk : null;
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** `value` is an integer below 2^53. */
export function setU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % U32, true);
  view.setUint32(at + 4, Math.floor(value / U32), true);
}

/** Inexact above 2^53, where no position or seq ever comes to. */
export function getU64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * U32;
}
