/**
 * A running 64-bit digest of everything that was applied, in order: equal digests at equal positions mean equal histories, and so equal states.
 * Not cryptographic: members trust each other.
 */
export class ChainHash {
  /** u32 halves. */
  high = 0x6a09e667;
  low = 0xbb67ae85;

  mixBytes(bytes: Uint8Array): void {
    let { high, low } = this;
    for (let i = 0; i < bytes.length; i++) {
      low = Math.imul(low ^ (bytes[i] as number), 0x01000193);
      high = Math.imul(high ^ low ^ (low >>> 15), 0x85ebca6b);
    }
    this.#store(high, low ^ bytes.length);
  }

  /** Mixes a u32 in. */
  mix(value: number): void {
    const low = Math.imul(this.low ^ value, 0x01000193) ^ (value >>> 16);
    this.#store(Math.imul(this.high ^ low ^ (low >>> 15), 0x85ebca6b), low);
  }

  copyFrom(other: ChainHash): void {
    this.high = other.high;
    this.low = other.low;
  }

  #store(high: number, low: number): void {
    this.high = (high ^ (high >>> 13)) >>> 0;
    this.low = (low ^ (low >>> 16)) >>> 0;
  }
}
