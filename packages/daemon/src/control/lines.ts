export const TOO_LONG = Symbol('the line exceeds its bound');

/** Cuts a byte stream into lines, with a bound: what is kept never exceeds the longest line. */
export class LineCutter {
  readonly #bytesMax: number;
  #kept: Buffer = Buffer.alloc(0);

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  push(chunk: Buffer): void {
    this.#kept = this.#kept.length === 0 ? chunk : Buffer.concat([this.#kept, chunk]);
  }

  /** The next whole line without its newline; null where more bytes are needed; TOO_LONG where the line exceeds the bound. */
  next(): string | null | typeof TOO_LONG {
    const end = this.#kept.indexOf(0x0a);
    if (end > this.#bytesMax || (end < 0 && this.#kept.length > this.#bytesMax)) return TOO_LONG;
    if (end < 0) return null;
    const line = this.#kept.toString('utf8', 0, end);
    this.#kept = this.#kept.subarray(end + 1);
    return line;
  }
}
