/**
 * A state as bytes, for a joiner. All numbers little-endian.
 *
 * | part          | content                                                                                             |
 * |---------------|-----------------------------------------------------------------------------------------------------|
 * | head, 64 byte | u32 "DMS1", u32 regions, u64 position, 2×u32 hash, u32 + u64 agreed ring, u64 search from, u32 nodes, u32 waiting, u32 writer, u32 epoch, 4 bytes 0 |
 * | lineage       | u32 number of epochs before, for each: u32 epoch, u64 position at its end                           |
 * | three bitmaps | in sync, stale, given up: u32 length, then the compact form of `@dmlog/bitmap`, which has its own checksum |
 * | per node      | u32 id, 16 bytes boot id, u8 presence, u8 (1 returning, 2 stranger), u8 needs a reload, u8 0, u32 leases, the leases, u32 length, its marks |
 * | per waiting   | u32 node id, u32 nonce, 16 bytes boot id: joiners that still wait for a state                       |
 */

import { RegionBitmap } from '@dmlog/bitmap';
import { getU32, getU64, setU32, setU64 } from './bytes.js';
import { bootIdText, bootIdWords } from './entries.js';
import type { RingId } from './group/contract.js';

import { LEASE_MAX, LINEAGE_MAX, type Presence, ReplicatedState } from './state.js';

const MAGIC = 0x31534d44;
const HEAD_BYTES = 64;

/** A joiner that has said hello and has no state yet. */
export interface Waiting {
  readonly nodeId: number;
  readonly nonce: number;
  readonly bootId: string;
}

export interface Snapshot {
  readonly state: ReplicatedState;
  readonly agreedRing: RingId;
  readonly waiting: readonly Waiting[];
}

export function encodeSnapshot(snapshot: Snapshot): Uint8Array {
  const { state, agreedRing, waiting } = snapshot;
  const writer = new Writer();
  const head = writer.room(HEAD_BYTES);
  setU32(head, 0, MAGIC);
  setU32(head, 4, state.regionCount);
  setU64(head, 8, state.position);
  setU32(head, 16, state.hash.high);
  setU32(head, 20, state.hash.low);
  setU32(head, 24, agreedRing.nodeId);
  setU64(head, 28, agreedRing.seq);
  setU64(head, 36, state.searchFrom);
  setU32(head, 44, state.nodes.size);
  setU32(head, 48, waiting.length);
  setU32(head, 52, state.writer);
  setU32(head, 56, state.epoch);
  writer.u32(state.lineage.length);
  for (const { epoch, end } of state.lineage) {
    writer.u32(epoch);
    setU64(writer.room(8), 0, end);
  }
  for (const bitmap of [state.inSync, state.stale, state.givenUp]) writer.blob(bitmap.serialize());
  for (const node of state.nodes.values()) {
    writer.u32(node.nodeId);
    writer.words(bootIdWords(node.bootId));
    writer.u32(
      node.presence |
        (Number(node.returning) << 8) |
        (Number(node.stranger) << 9) |
        (Number(state.needReload.has(node.nodeId)) << 16),
    );
    writer.u32(node.leases.length);
    writer.words(node.leases);
    writer.blob(node.marks.serialize());
  }
  for (const { nodeId, nonce, bootId } of waiting) {
    writer.u32(nodeId);
    writer.u32(nonce);
    writer.words(bootIdWords(bootId));
  }
  return writer.bytes();
}

/** Throws an Error that says what is wrong with the bytes. */
export function decodeSnapshot(bytes: Uint8Array, regionCount: number): Snapshot {
  const reader = new Reader(bytes);
  const head = reader.take(HEAD_BYTES);
  if (getU32(head, 0) !== MAGIC) throw new Error('the snapshot does not begin with "DMS1"');
  if (getU32(head, 4) !== regionCount) {
    throw new Error(`the snapshot is of ${getU32(head, 4)} regions, this log has ${regionCount}`);
  }
  const lineage = Array.from({ length: reader.count(LINEAGE_MAX) }, () => ({
    epoch: reader.u32(),
    end: getU64(reader.take(8), 0),
  }));
  const [inSync, stale, givenUp] = [0, 1, 2].map(() => reader.bitmap(regionCount)) as [
    RegionBitmap,
    RegionBitmap,
    RegionBitmap,
  ];
  const state = new ReplicatedState(regionCount);
  state.position = getU64(head, 8);
  state.hash.high = getU32(head, 16);
  state.hash.low = getU32(head, 20);
  state.searchFrom = getU64(head, 36);
  for (let left = getU32(head, 44); left > 0; left--) readNode(reader, state);
  state.writer = getU32(head, 52);
  state.epoch = getU32(head, 56);
  state.lineage.push(...lineage);
  state.restore(inSync, stale, givenUp);
  const waiting: Waiting[] = [];
  for (let left = getU32(head, 48); left > 0; left--) {
    waiting.push({ nodeId: reader.u32(), nonce: reader.u32(), bootId: bootIdText(reader.words(4)) });
  }
  if (!reader.atEnd) throw new Error('the snapshot is longer than it says');
  return { state, agreedRing: { nodeId: getU32(head, 24), seq: getU64(head, 28) }, waiting };
}

function readNode(reader: Reader, state: ReplicatedState): void {
  const node = state.meet(reader.u32(), bootIdText(reader.words(4)));
  const flags = reader.u32();
  node.presence = (flags & 0xff) as Presence;
  node.returning = (flags & 0x100) !== 0;
  node.stranger = (flags & 0x200) !== 0;
  if ((flags & 0x10000) !== 0) state.needReload.add(node.nodeId);
  const leases = reader.u32();
  if (leases > LEASE_MAX) throw new Error(`the snapshot gives node ${node.nodeId} ${leases} leases`);
  node.leases = [...reader.words(leases)];
  node.marks.copyFrom(reader.bitmap(state.regionCount));
}

class Writer {
  readonly #parts: Uint8Array[] = [];
  #length = 0;

  room(length: number): Uint8Array {
    const part = new Uint8Array(length);
    this.#push(part);
    return part;
  }

  u32(value: number): void {
    setU32(this.room(4), 0, value);
  }

  words(values: readonly number[]): void {
    const bytes = this.room(4 * values.length);
    for (const [i, value] of values.entries()) setU32(bytes, 4 * i, value);
  }

  blob(bytes: Uint8Array): void {
    this.u32(bytes.byteLength);
    this.#push(bytes);
  }

  bytes(): Uint8Array {
    const all = new Uint8Array(this.#length);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.byteLength;
    }
    return all;
  }

  #push(part: Uint8Array): void {
    this.#parts.push(part);
    this.#length += part.byteLength;
  }
}

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.byteLength;
  }

  take(length: number): Uint8Array {
    if (this.#at + length > this.#bytes.byteLength) throw new Error('the snapshot is cut short');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  u32(): number {
    return getU32(this.take(4), 0);
  }

  /** A number of things, `max` at most. */
  count(max: number): number {
    const count = this.u32();
    if (count > max) throw new Error(`the snapshot counts ${count} where ${max} is the most`);
    return count;
  }

  words(count: number): Uint32Array {
    const bytes = this.take(4 * count);
    return Uint32Array.from({ length: count }, (_, i) => getU32(bytes, 4 * i));
  }

  bitmap(regionCount: number): RegionBitmap {
    return RegionBitmap.deserialize(this.take(this.u32()), { regionCount });
  }
}
