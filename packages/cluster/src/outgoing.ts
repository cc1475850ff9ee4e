import { type Entry, encodeEntries, packEntries } from './entries.js';
import type { RingId } from './group/contract.js';
import { layOutMessage, MessageKind, stamp } from './messages.js';

interface Unsettled {
  readonly number: number;
  readonly bytes: Uint8Array;
}

/** A member's messages on their way out. Its changes are kept until they were applied, and sent again in every ring that it goes on in. */
export class Outgoing {
  readonly #nonce: number;
  readonly #counters: { sent: number };
  #lastNumber = 0;
  #unsettled: Unsettled[] = [];
  #outbox: Uint8Array[] = [];

  constructor(nonce: number, counters: { sent: number }) {
    this.#nonce = nonce;
    this.#counters = counters;
  }

  /** Number of the last change. */
  get lastNumber(): number {
    return this.#lastNumber;
  }

  /** Numbers the changes and keeps them; returns them as messages that have not been stamped. */
  number(entries: readonly Entry[]): Uint8Array[] {
    return packEntries(entries).map((pack) => {
      this.#lastNumber = (this.#lastNumber + 1) >>> 0 || 1;
      const bytes = this.message(MessageKind.ENTRIES, encodeEntries(pack), this.#lastNumber);
      this.#unsettled.push({ number: this.#lastNumber, bytes });
      return bytes;
    });
  }

  message(kind: MessageKind, payload: Uint8Array, number = 0): Uint8Array {
    return layOutMessage(kind, this.#nonce, number, payload);
  }

  /** `position`: what the sender has applied; 0 if it takes no part. */
  send(bytes: Uint8Array, ring: RingId, position: number): void {
    stamp(bytes, ring, position);
    this.#counters.sent++;
    this.#outbox.push(bytes.slice());
  }

  sendUnsettled(ring: RingId, position: number): void {
    for (const { bytes } of this.#unsettled) this.send(bytes, ring, position);
  }

  /** One's own message was applied; true if it was the change that was waited for. */
  settle(number: number): boolean {
    if (this.#unsettled[0]?.number !== number) return false;
    this.#unsettled.shift();
    return true;
  }

  /** Takes out what is to be sent, oldest first. */
  take(): Uint8Array[] {
    const outbox = this.#outbox;
    this.#outbox = [];
    return outbox;
  }
}
