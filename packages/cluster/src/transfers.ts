import type { RingId } from './group/contract.js';
import {
  CHUNK_BYTES,
  decodeChunk,
  decodeTarget,
  encodeChunk,
  encodeTarget,
  type Message,
  MessageKind,
  type Target,
} from './messages.js';
import { decodeSnapshot, encodeSnapshot, type Snapshot, type Waiting } from './snapshot.js';
import type { ReplicatedState } from './state.js';

/** Something that was ordered: a message with changes, or that a member left and why. */
export type Ordered = { readonly nodeId: number } & (
  | { readonly message: Message }
  | { readonly leftBecause: number }
);

/** A snapshot that has arrived whole, and what was ordered since it was taken. */
export interface Arrived {
  readonly state: ReplicatedState;
  readonly agreedRing: RingId;
  readonly kept: readonly Ordered[];
}

/**
 * Snapshots between members (design rule 18). The donor first puts a SNAPSHOT_BEGIN in order and takes the snapshot where that is delivered; the joiner keeps what
 * is ordered after that place, and applies it to the snapshot once all pieces are there. If the donor is lost, the next one begins again.
 */
export class Transfers {
  /** Joiners without a state, in the order of their hellos. */
  readonly waiting = new Map<number, Waiting>();
  readonly #nodeId: number;
  readonly #nonce: number;
  readonly #emit: (kind: MessageKind, payload: Uint8Array) => void;
  #attempts = 0;
  #donor = 0;
  #attempt = 0;
  #pieces: Uint8Array[] = [];
  #kept: Ordered[] = [];

  constructor(nodeId: number, nonce: number, emit: (kind: MessageKind, payload: Uint8Array) => void) {
    this.#nodeId = nodeId;
    this.#nonce = nonce;
    this.#emit = emit;
  }

  reset(): void {
    this.waiting.clear();
    this.#forget();
  }

  left(nodeId: number): void {
    this.waiting.delete(nodeId);
    if (nodeId === this.#donor) this.#forget();
  }

  // The donor's side

  begin({ nodeId, nonce }: Waiting): void {
    this.#attempts++;
    this.#emit(MessageKind.SNAPSHOT_BEGIN, encodeTarget({ nodeId, nonce, attempt: this.#attempts }));
  }

  /** One's own SNAPSHOT_BEGIN was delivered: sends the pieces. False if the joiner is gone. */
  take(payload: Uint8Array, snapshot: Snapshot): boolean {
    const target = decodeTarget(payload)?.target;
    if (target === undefined || this.waiting.get(target.nodeId)?.nonce !== target.nonce) return false;
    const bytes = encodeSnapshot(snapshot);
    const count = Math.ceil(bytes.byteLength / CHUNK_BYTES);
    for (let index = 0; index < count; index++) {
      const piece = bytes.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES);
      this.#emit(MessageKind.SNAPSHOT, encodeTarget(target, encodeChunk({ index, count, bytes: piece })));
    }
    return true;
  }

  refuse(nodeId: number, nonce: number, reason: string): void {
    this.#emit(
      MessageKind.REFUSAL,
      encodeTarget(
        { nodeId, nonce, attempt: 0 },
        Uint8Array.from(reason, (character) => character.charCodeAt(0) & 0x7f),
      ),
    );
  }

  // The joiner's side

  /** True if the payload announces a snapshot for this member: what is ordered from now on is kept. */
  expect(donor: number, payload: Uint8Array): boolean {
    const target = this.#forMe(payload)?.target;
    if (target === undefined) return false;
    this.#forget();
    this.#donor = donor;
    this.#attempt = target.attempt;
    return true;
  }

  /** A snapshot was announced, and has not arrived. */
  get isExpecting(): boolean {
    return this.#donor !== 0;
  }

  /** Who sends it; 0: nobody. */
  get donor(): number {
    return this.#donor;
  }

  keep(nodeId: number, message: Message): void {
    if (this.#donor !== 0)
      this.#kept.push({ nodeId, message: { ...message, payload: message.payload.slice() } });
  }

  keepLeave(nodeId: number, leftBecause: number): void {
    if (this.#donor !== 0) this.#kept.push({ nodeId, leftBecause });
  }

  /** Null while pieces are missing; a text if they make no snapshot. */
  piece(donor: number, payload: Uint8Array, regionCount: number): Arrived | string | null {
    const mine = this.#forMe(payload);
    if (mine === null || donor !== this.#donor || mine.target.attempt !== this.#attempt) return null;
    const chunk = decodeChunk(mine.rest);
    if (chunk === null || chunk.index !== this.#pieces.length)
      return this.#failed('a piece of the snapshot is missing');
    this.#pieces.push(chunk.bytes.slice());
    if (this.#pieces.length < chunk.count) return null;
    try {
      const { state, agreedRing } = this.#assemble(regionCount);
      const kept = this.#kept;
      this.#forget();
      return { state, agreedRing, kept };
    } catch (error) {
      return this.#failed(error instanceof Error ? error.message : String(error));
    }
  }

  /** Why this member must not take part, if the payload says so. */
  refusal(payload: Uint8Array): string | null {
    const mine = this.#forMe(payload);
    return mine === null ? null : String.fromCharCode(...mine.rest);
  }

  #assemble(regionCount: number): Snapshot {
    const length = this.#pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const piece of this.#pieces) {
      bytes.set(piece, at);
      at += piece.byteLength;
    }
    const snapshot = decodeSnapshot(bytes, regionCount);
    for (const waiting of snapshot.waiting) {
      if (waiting.nodeId !== this.#nodeId) this.waiting.set(waiting.nodeId, waiting);
    }
    return snapshot;
  }

  #failed(reason: string): string {
    this.#forget();
    return reason;
  }

  #forget(): void {
    this.#donor = 0;
    this.#pieces = [];
    this.#kept = [];
  }

  #forMe(payload: Uint8Array): { target: Target; rest: Uint8Array } | null {
    const decoded = decodeTarget(payload);
    const forMe = decoded?.target.nodeId === this.#nodeId && decoded.target.nonce === this.#nonce;
    return forMe ? decoded : null;
  }
}
