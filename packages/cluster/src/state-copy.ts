import { bitmapBytes } from '@dmlog/bitmap';
import { digestChange } from '@dmlog/log';
import { bootIdText, bootIdWords } from './entries.js';
import type { RingId } from './group/contract.js';
import { LEASE_MAX, LINEAGE_MAX, type NodeState, type Presence, ReplicatedState } from './state.js';
import { TrackedBitmap } from './tracked-bitmap.js';

/** Nodes that a copy has room for, at most and at least; with more of them there is no copy. */
const NODES_MAX = 16;
const NODES_MIN = 4;

/** Large logs have room for fewer nodes: their marks take so many bytes at most, unless that is for fewer than the least. */
const MARK_BYTES_MAX = 64 << 20;

/** Nodes that a copy of a log of so many regions has room for. */
export function copyNodes(regionCount: number): number {
  const bytes = Math.max(bitmapBytes(regionCount), 1);
  return Math.min(NODES_MAX, Math.max(NODES_MIN, Math.floor(MARK_BYTES_MAX / bytes)));
}

/** Words that one step may change without the copy being invalid meanwhile. */
const JOURNAL_PAIRS = 2048;

const CONTROL = { valid: 0, pairs: 1, check: 2 } as const;
const CONTROL_WORDS = 4;
const JOURNAL_WORDS = 2 * JOURNAL_PAIRS;
const AT = {
  digest: 0,
  position: 1,
  hash: 3,
  agreedRing: 5,
  searchFrom: 8,
  writer: 10,
  inSync: 11,
  stale: 12,
  givenUp: 13,
  epoch: 14,
} as const;
/** u32 epoch (0: none), u64 position at its end. */
const FIRST_EPOCH = 16;
const EPOCH_WORDS = 3;
const FIRST_NODE = FIRST_EPOCH + LINEAGE_MAX * EPOCH_WORDS;
/** u32 id, 4 words boot id, flags as in a snapshot, number of marks, number of runs of leases, the runs: first region and length. */
const NODE = { id: 0, bootId: 1, flags: 5, marks: 6, runs: 7, firstRun: 8 } as const;
const NODE_WORDS = NODE.firstRun + 2 * LEASE_MAX;
const HEAD_WORDS = FIRST_NODE + NODES_MAX * NODE_WORDS;
const U32 = 2 ** 32;

/** A state, and the last ring with quorum in which it was agreed on. */
export interface History {
  readonly state: ReplicatedState;
  readonly agreedRing: RingId;
}

/**
 * A copy of a {@link ReplicatedState} in memory that outlives the process: what a restarted daemon goes on with. It moves from one position to the next in one step: what
 * changes is first written into a journal, which counts from the moment that its length is there, and is then carried out. A process that dies leaves the state before or
 * after. Steps that change too much make the copy invalid while they are written.
 *
 * | words            | what                                                                                              |
 * |------------------|---------------------------------------------------------------------------------------------------|
 * | 4                | 1 if valid, pairs in the journal (0 for none), their check, 0                                      |
 * | 4096             | the journal: (index, value) pairs                                                                  |
 * | 16               | digest of all that follows, position, hash, agreed ring, search from, writer, counts of the bitmaps, epoch |
 * | 8 × 3            | the epochs before, and the positions at which they ended; 0: none                                   |
 * | 16 × 136         | nodes: id, boot id, flags, number of marks, leases in runs; id 0: free                              |
 * | (3 + n) bitmaps  | in sync, stale, given up; marks of each of {@link copyNodes} nodes. One that counts 0 is all zero    |
 *
 * Host byte order: it leaves neither the machine nor the boot.
 */
export class StateCopy {
  readonly #control: Uint32Array;
  readonly #journal: Uint32Array;
  readonly #data: Uint32Array;
  readonly #bitmapWords: number;
  readonly #regionCount: number;
  /** Who is in which place, as it was written last. */
  readonly #places: (NodeState | null)[];
  /** Bitmaps that may hold ones. Looking at the others would make memory of holes. */
  readonly #touched: boolean[];
  #state: ReplicatedState | null = null;
  #position = -1;
  #pairs = 0;
  /** Too much for the journal: words are changed in place. */
  #direct = false;
  #digest = 0;

  static bytes(regionCount: number): number {
    const bitmaps = 3 + copyNodes(regionCount);
    return 4 * (CONTROL_WORDS + JOURNAL_WORDS + HEAD_WORDS) + bitmaps * bitmapBytes(regionCount);
  }

  /** `memory`, at a multiple of 4 in its buffer, is all zero, or what an earlier process left. Throws RangeError where it is too small. */
  constructor(memory: Uint8Array, regionCount: number) {
    if (memory.byteLength < StateCopy.bytes(regionCount)) {
      throw new RangeError('the memory is too small for a copy of this state');
    }
    const words = (from: number, count: number) =>
      new Uint32Array(memory.buffer, memory.byteOffset + 4 * from, count);
    this.#regionCount = regionCount;
    this.#places = new Array(copyNodes(regionCount)).fill(null);
    this.#touched = new Array(3 + this.#places.length).fill(false);
    this.#bitmapWords = bitmapBytes(regionCount) / 4;
    this.#control = words(0, CONTROL_WORDS);
    this.#journal = words(CONTROL_WORDS, JOURNAL_WORDS);
    this.#data = words(CONTROL_WORDS + JOURNAL_WORDS, HEAD_WORDS + this.#touched.length * this.#bitmapWords);
  }

  /** What an earlier process left; null where there is nothing, or nothing to be believed. */
  load(): History | null {
    this.#touched.fill(true);
    if (this.#control[CONTROL.valid] !== 1 || !this.#carryOutAgain() || !this.#isWhole()) return null;
    try {
      return this.#decode();
    } catch {
      return null;
    }
  }

  /** Nothing is to be found here any more. */
  drop(): void {
    this.store(this.#control, CONTROL.valid, 0);
    this.#state = null;
  }

  /** Takes over what `state` is now. Cheap where it has not moved on; else as much as has changed. */
  save(state: ReplicatedState, agreedRing: RingId): void {
    if (state === this.#state && state.position === this.#position) return;
    if (state.nodes.size > this.#places.length) return this.drop();
    const isOther = state !== this.#state || this.#control[CONTROL.valid] !== 1;
    this.#pairs = 0;
    this.#direct = false;
    this.#digest = this.#data[AT.digest] as number;
    const places = this.#place(state);
    if (this.#control[CONTROL.valid] !== 1 || !this.#collect(state, agreedRing, places, isOther)) {
      this.#direct = true;
      this.store(this.#control, CONTROL.valid, 0);
      this.#collect(state, agreedRing, places, isOther);
      this.store(this.#data, AT.digest, this.#digest);
      this.store(this.#control, CONTROL.valid, 1);
    } else {
      this.#commit();
    }
    for (const [place, node] of places.entries()) this.#places[place] = node;
    for (const bitmap of bitmapsOf(state)) bitmap.forgetChanges();
    for (const { marks } of state.nodes.values()) marks.forgetChanges();
    this.#state = state;
    this.#position = state.position;
  }

  /** Every change of the memory goes through here, in the order in which a process that dies leaves them. */
  protected store(words: Uint32Array, index: number, value: number): void {
    words[index] = value;
  }

  // Writing

  /** Each node keeps its place. */
  #place(state: ReplicatedState): (NodeState | null)[] {
    const known = this.#places.filter((node) => node !== null);
    if (known.length === state.nodes.size && known.every((node) => state.nodes.get(node.nodeId) === node)) {
      return this.#places;
    }
    const places = this.#places.map((node) =>
      node === null || !state.nodes.has(node.nodeId) ? null : (state.nodes.get(node.nodeId) ?? null),
    );
    for (const node of state.nodes.values()) if (!places.includes(node)) places[places.indexOf(null)] = node;
    return places;
  }

  /** False if the journal has no room for all that has changed. */
  #collect(
    state: ReplicatedState,
    agreedRing: RingId,
    places: readonly (NodeState | null)[],
    isOther: boolean,
  ): boolean {
    this.#put64(AT.position, state.position);
    this.#put(AT.hash, state.hash.high);
    this.#put(AT.hash + 1, state.hash.low);
    this.#put(AT.agreedRing, agreedRing.nodeId);
    this.#put64(AT.agreedRing + 1, agreedRing.seq);
    this.#put64(AT.searchFrom, state.searchFrom);
    this.#put(AT.writer, state.writer);
    this.#put(AT.epoch, state.epoch);
    for (const [i, { epoch, end }] of state.lineage.entries()) {
      this.#put(FIRST_EPOCH + i * EPOCH_WORDS, epoch);
      this.#put64(FIRST_EPOCH + i * EPOCH_WORDS + 1, end);
    }
    for (const [i, bitmap] of bitmapsOf(state).entries()) {
      this.#put(AT.inSync + i, bitmap.count);
      this.#putBitmap(i, bitmap, isOther);
    }
    for (const [place, node] of places.entries()) {
      const isNew = isOther || node !== this.#places[place];
      this.#putNode(place, node, state, isNew);
      if (node !== null) this.#putBitmap(3 + place, node.marks, isNew);
      else if (isNew) this.#putZeros(3 + place);
    }
    return this.#direct || this.#pairs <= JOURNAL_PAIRS;
  }

  #putNode(place: number, node: NodeState | null, state: ReplicatedState, isNew: boolean): void {
    const at = FIRST_NODE + place * NODE_WORDS;
    this.#put(at + NODE.id, node?.nodeId ?? 0);
    if (node === null) return;
    // A text, which takes longer to read than all else here. Another boot is another object.
    if (isNew) {
      for (const [i, word] of bootIdWords(node.bootId).entries()) this.#put(at + NODE.bootId + i, word);
    }
    this.#put(
      at + NODE.flags,
      node.presence |
        (Number(node.returning) << 8) |
        (Number(node.stranger) << 9) |
        (Number(state.needReload.has(node.nodeId)) << 16),
    );
    this.#put(at + NODE.marks, node.marks.count);
    this.#putLeases(at, node.leases);
  }

  /** As runs: most leases follow each other, and they end one by one from the front. */
  #putLeases(at: number, leases: readonly number[]): void {
    let runs = 0;
    for (let i = 0; i < leases.length; ) {
      const first = leases[i++] as number;
      let length = 1;
      while (i < leases.length && leases[i] === first + length) {
        length++;
        i++;
      }
      this.#put(at + NODE.firstRun + 2 * runs, first);
      this.#put(at + NODE.firstRun + 2 * runs + 1, length);
      runs++;
    }
    this.#put(at + NODE.runs, runs);
  }

  #putBitmap(index: number, bitmap: TrackedBitmap, whole: boolean): void {
    const base = HEAD_WORDS + index * this.#bitmapWords;
    const { words32 } = bitmap;
    const changed = whole ? null : bitmap.changedWords;
    if (bitmap.count === 0 && !this.#touched[index]) return;
    if (changed !== null) {
      for (const w of changed) this.#put(base + w, words32[w] as number);
    } else {
      for (let w = 0; w < words32.length && this.#hasRoom; w++) this.#put(base + w, words32[w] as number);
    }
    this.#touched[index] = true;
  }

  #putZeros(index: number): void {
    if (!this.#touched[index]) return;
    const base = HEAD_WORDS + index * this.#bitmapWords;
    for (let w = 0; w < this.#bitmapWords && this.#hasRoom; w++) this.#put(base + w, 0);
  }

  get #hasRoom(): boolean {
    return this.#direct || this.#pairs <= JOURNAL_PAIRS;
  }

  #put64(index: number, value: number): void {
    this.#put(index, value >>> 0);
    this.#put(index + 1, Math.floor(value / U32));
  }

  #put(index: number, value: number): void {
    const before = this.#data[index] as number;
    const now = value >>> 0;
    if (before === now) return;
    if (this.#direct) {
      this.#digest ^= digestChange(index, before, now);
      this.store(this.#data, index, now);
      return;
    }
    // One place is left for the digest.
    if (this.#pairs < JOURNAL_PAIRS - 1) {
      this.store(this.#journal, 2 * this.#pairs, index);
      this.store(this.#journal, 2 * this.#pairs + 1, now);
      this.#pairs++;
    } else {
      this.#pairs = JOURNAL_PAIRS + 1;
    }
  }

  #commit(): void {
    const journal = this.#journal;
    let digest = this.#digest;
    for (let i = 0; i < this.#pairs; i++) {
      const index = journal[2 * i] as number;
      digest ^= digestChange(index, this.#data[index] as number, journal[2 * i + 1] as number);
    }
    this.store(journal, 2 * this.#pairs, AT.digest);
    this.store(journal, 2 * this.#pairs + 1, digest);
    const pairs = this.#pairs + 1;
    this.store(this.#control, CONTROL.check, this.#check(pairs));
    this.store(this.#control, CONTROL.pairs, pairs);
    this.#carryOut(pairs);
  }

  #carryOut(pairs: number): void {
    for (let i = 0; i < pairs; i++)
      this.store(this.#data, this.#journal[2 * i] as number, this.#journal[2 * i + 1] as number);
    this.store(this.#control, CONTROL.pairs, 0);
  }

  #check(pairs: number): number {
    let check = 0x444d4c47;
    for (let i = 0; i < 2 * pairs; i++) {
      check = Math.imul(check ^ (this.#journal[i] as number), 0x9e3779b1);
      check ^= check >>> 15;
    }
    return check >>> 0;
  }

  // Reading

  #carryOutAgain(): boolean {
    const pairs = this.#control[CONTROL.pairs] as number;
    if (pairs === 0) return true;
    if (pairs > JOURNAL_PAIRS || this.#check(pairs) !== this.#control[CONTROL.check]) return false;
    for (let i = 0; i < pairs; i++) if (!((this.#journal[2 * i] as number) < this.#data.length)) return false;
    this.#carryOut(pairs);
    return true;
  }

  #isWhole(): boolean {
    const data = this.#data;
    let digest = 0;
    for (let i = AT.digest + 1; i < HEAD_WORDS; i++) digest ^= digestChange(i, 0, data[i] as number);
    for (let index = 0; index < this.#touched.length; index++) {
      if (this.#countOf(index) === 0) continue;
      const base = HEAD_WORDS + index * this.#bitmapWords;
      for (let i = base; i < base + this.#bitmapWords; i++) digest ^= digestChange(i, 0, data[i] as number);
    }
    return digest >>> 0 === data[AT.digest];
  }

  #countOf(index: number): number {
    if (index < 3) return this.#data[AT.inSync + index] as number;
    const at = FIRST_NODE + (index - 3) * NODE_WORDS;
    return this.#data[at + NODE.id] === 0 ? 0 : (this.#data[at + NODE.marks] as number);
  }

  #decode(): History {
    const data = this.#data;
    const state = new ReplicatedState(this.#regionCount);
    state.position = this.#get64(AT.position);
    state.hash.high = data[AT.hash] as number;
    state.hash.low = data[AT.hash + 1] as number;
    state.searchFrom = this.#get64(AT.searchFrom);
    for (let place = 0; place < this.#places.length; place++) this.#decodeNode(place, state);
    state.writer = data[AT.writer] as number;
    state.epoch = data[AT.epoch] as number;
    for (let at = FIRST_EPOCH; at < FIRST_NODE; at += EPOCH_WORDS) {
      const epoch = data[at] as number;
      if (epoch !== 0) state.lineage.push({ epoch, end: this.#get64(at + 1) });
    }
    const [inSync, stale, givenUp] = [0, 1, 2].map((index) => {
      const bitmap = new TrackedBitmap(this.#regionCount);
      this.#load(index, bitmap);
      return bitmap;
    }) as [TrackedBitmap, TrackedBitmap, TrackedBitmap];
    state.restore(inSync, stale, givenUp);
    return {
      state,
      agreedRing: { nodeId: data[AT.agreedRing] as number, seq: this.#get64(AT.agreedRing + 1) },
    };
  }

  #decodeNode(place: number, state: ReplicatedState): void {
    const at = FIRST_NODE + place * NODE_WORDS;
    const nodeId = this.#data[at + NODE.id] as number;
    if (nodeId === 0) return;
    const node = state.meet(nodeId, bootIdText(this.#data.subarray(at + NODE.bootId, at + NODE.bootId + 4)));
    const flags = this.#data[at + NODE.flags] as number;
    node.presence = (flags & 0xff) as Presence;
    node.returning = (flags & 0x100) !== 0;
    node.stranger = (flags & 0x200) !== 0;
    if ((flags & 0x10000) !== 0) state.needReload.add(nodeId);
    const runs = this.#data[at + NODE.runs] as number;
    for (let i = 0; i < runs && node.leases.length <= LEASE_MAX; i++) {
      const first = this.#data[at + NODE.firstRun + 2 * i] as number;
      const length = Math.min(this.#data[at + NODE.firstRun + 2 * i + 1] as number, LEASE_MAX + 1);
      for (let j = 0; j < length; j++) node.leases.push(first + j);
    }
    if (node.leases.length > LEASE_MAX) throw new Error(`node ${nodeId} has more than ${LEASE_MAX} leases`);
    this.#load(3 + place, node.marks);
  }

  #load(index: number, bitmap: TrackedBitmap): void {
    const count = this.#countOf(index);
    if (count === 0) return;
    const from = HEAD_WORDS + index * this.#bitmapWords;
    const words = this.#data.subarray(from, from + this.#bitmapWords);
    bitmap.load(new Uint8Array(words.buffer, words.byteOffset, words.byteLength));
    if (bitmap.count !== count) throw new Error('a bitmap has another count than was written');
  }

  #get64(index: number): number {
    return (this.#data[index] as number) + (this.#data[index + 1] as number) * U32;
  }
}

function bitmapsOf(state: ReplicatedState): readonly TrackedBitmap[] {
  return [state.inSync, state.stale, state.givenUp];
}
