import { Control, EventKind, INLINE_AT } from './binding.js';
import type { CpgChange, CpgConfchg, CpgMember, CpgReason, CpgRing } from './types.js';

const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
const ADDRESS_BYTES = 12;
const NO_BYTES = Buffer.alloc(0);

/** What a batch is read into: the order of events is decided there. */
export interface EventSink {
  quorum(ring: CpgRing): void;
  message(nodeId: number, pid: number, bytes: Buffer): void;
  confchg(change: CpgConfchg): void;
  ring(ring: CpgRing): void;
  /** Before a message or a confchg is read, and after the last event. What it throws loses no event. */
  settle(eventFollows: boolean): void;
  batchEnd(): void;
}

/**
 * Reads batches: quorum rows first, then events in their order. An event counts as read before it is handed over, so that after an exception
 * {@link resume} goes on with the next one.
 */
export class BatchReader {
  readonly #words: Uint32Array;
  readonly #inline: Buffer;
  readonly #sink: EventSink;
  #bytes: Buffer = NO_BYTES;
  #quorums = 0;
  #events = 0;
  #nextQuorum = 0;
  #nextEvent = 0;
  #unfinished = false;

  /** `control`: the block that is shared with the addon. */
  constructor(control: ArrayBuffer, sink: EventSink) {
    this.#words = new Uint32Array(control, 0, Control.WORDS);
    this.#inline = Buffer.from(control, INLINE_AT);
    this.#sink = sink;
  }

  /** `bytes` null: they are in the control block, until the next batch. */
  read(bytes: Buffer | null, quorums: number, events: number): void {
    this.#bytes = bytes ?? this.#takeInline();
    this.#quorums = quorums;
    this.#events = events;
    this.#nextQuorum = this.#nextEvent = 0;
    this.#unfinished = true;
    this.resume();
  }

  resume(): void {
    while (this.#nextQuorum < this.#quorums) {
      const row = Control.QUORUM_ROWS + this.#nextQuorum++ * Control.ROW_WORDS;
      this.#sink.quorum(decodeRing(this.#bytes, this.#words[row + 3]!, this.#words[row + 1] !== 0));
    }
    while (this.#nextEvent < this.#events) {
      // A ring ends its batch, so only the first event can find one that waits.
      if (this.#nextEvent === 0 && this.#words[Control.EVENT_ROWS] !== EventKind.RING)
        this.#sink.settle(true);
      this.#event(this.#nextEvent++);
    }
    this.#sink.settle(false);
    if (!this.#unfinished) return;
    this.#unfinished = false;
    this.#bytes = NO_BYTES; // a quiet group must not keep its last batch
    this.#sink.batchEnd();
  }

  /** Forgets the rest: the group was closed. */
  drop(): void {
    this.#nextQuorum = this.#quorums;
    this.#nextEvent = this.#events;
    this.#unfinished = false;
  }

  /** Node's pool of small buffers makes this much cheaper than a buffer of its own. */
  #takeInline(): Buffer {
    const bytes = Buffer.allocUnsafe(this.#words[Control.INLINE_BYTES]!);
    this.#inline.copy(bytes);
    return bytes;
  }

  #event(index: number): void {
    const words = this.#words;
    const row = Control.EVENT_ROWS + index * Control.ROW_WORDS;
    const offset = words[row + 3]!;
    switch (words[row]) {
      case EventKind.MESSAGE:
        this.#sink.message(
          words[row + 1]!,
          words[row + 2]!,
          this.#bytes.subarray(offset, offset + words[row + 4]!),
        );
        break;
      case EventKind.CONFCHG:
        this.#sink.confchg(decodeConfchg(this.#bytes, offset));
        break;
      case EventKind.RING:
        this.#sink.ring(decodeRing(this.#bytes, offset, undefined));
        break;
    }
  }
}

/** Host byte order: u32 counts of members, left, joined; then (node, pid, reason) of each, u32. */
export function decodeConfchg(bytes: Buffer, offset: number): CpgConfchg {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset);
  const word = (at: number): number => view.getUint32(at, LITTLE_ENDIAN);
  let at = 12;
  const list = <T>(count: number, make: (nodeId: number, pid: number, reason: number) => T): T[] =>
    Array.from({ length: count }, () => {
      const address = make(word(at), word(at + 4), word(at + 8));
      at += ADDRESS_BYTES;
      return address;
    });
  const member = (nodeId: number, pid: number): CpgMember => ({ nodeId, pid });
  const change = (nodeId: number, pid: number, reason: number): CpgChange => ({
    nodeId,
    pid,
    reason: reason as CpgReason,
  });
  const members = list(word(0), member);
  const left = list(word(4), change);
  const joined = list(word(8), change);
  return { members: members.sort((a, b) => a.nodeId - b.nodeId || a.pid - b.pid), left, joined };
}

/** Host byte order: u32 node id, low and high half of seq, count; then as many node ids. */
export function decodeRing(bytes: Buffer, offset: number, quorate: boolean | undefined): CpgRing {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset);
  const word = (index: number): number => view.getUint32(index * 4, LITTLE_ENDIAN);
  const nodes = Array.from({ length: word(3) }, (_, index) => word(4 + index)).sort((a, b) => a - b);
  return { nodeId: word(0), seq: word(1) + word(2) * 2 ** 32, nodes, quorate };
}
