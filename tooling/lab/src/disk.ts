import { closeSync, existsSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { LabError } from './errors.js';
import { runDirectory } from './run-directory.js';

const UNITS: Readonly<Record<string, number>> = { '': 1, K: 1 << 10, M: 1 << 20, G: 1 << 30 };
const SECTOR_BYTES = 512;
let diskCount = 0;

/**
 * A host file that machines see as `/dev/ubda`…; it survives a power cut and can be booted again. What the host reads while
 * a machine runs lacks what that machine still has in its page cache.
 */
export class Disk {
  readonly sizeBytes: number;
  /** May be attached to several running machines at once: no lock, and each guest has its own page cache (use O_DIRECT). */
  readonly shared: boolean;
  #path: string | undefined;

  constructor(sizeBytes: number, shared: boolean) {
    this.sizeBytes = sizeBytes;
    this.shared = shared;
  }

  get sectors(): number {
    return this.sizeBytes / SECTOR_BYTES;
  }

  /** The host file, made (sparse, zeroes) on first use. */
  get path(): string {
    if (this.#path === undefined) {
      this.#path = `${runDirectory().path}/disk${diskCount++}`;
      const file = openSync(this.#path, 'w');
      ftruncateSync(file, this.sizeBytes);
      closeSync(file);
    }
    if (!existsSync(this.#path)) {
      throw new LabError('ERR_LAB_USAGE', `the disk ${this.#path} is gone: read disks before lab.close()`);
    }
    return this.#path;
  }

  read(offset = 0, length = this.sizeBytes - offset): Buffer {
    this.#check(offset, length);
    const bytes = Buffer.alloc(length);
    const file = openSync(this.path, 'r');
    try {
      let done = 0;
      while (done < length) done += readSync(file, bytes, done, length - done, offset + done);
    } finally {
      closeSync(file);
    }
    return bytes;
  }

  write(offset: number, bytes: Uint8Array): void {
    this.#check(offset, bytes.length);
    const file = openSync(this.path, 'r+');
    try {
      let done = 0;
      while (done < bytes.length) done += writeSync(file, bytes, done, bytes.length - done, offset + done);
    } finally {
      closeSync(file);
    }
  }

  /** Fills the disk with bytes that depend on `seed` alone (xorshift32). */
  randomize(seed: number): void {
    const words = new Uint32Array(this.sizeBytes / 4);
    // xorshift never leaves 0, so 0 is moved away.
    let state = (seed ^ 0x9e3779b9) >>> 0 || 1;
    for (let index = 0; index < words.length; index++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[index] = state;
    }
    this.write(0, new Uint8Array(words.buffer));
  }

  #check(offset: number, length: number): void {
    if (offset >= 0 && length >= 0 && offset + length <= this.sizeBytes) return;
    throw new LabError(
      'ERR_LAB_USAGE',
      `bytes ${offset}..${offset + length} are outside the disk of ${this.sizeBytes} bytes`,
    );
  }
}

/** A new disk: `disk('16M')`, `disk(4096)`. The size is a positive multiple of a sector (512 bytes). */
export function disk(size: string | number, options: { shared?: boolean } = {}): Disk {
  const match = /^(\d+)([KMG]?)$/.exec(String(size));
  const bytes = match === null ? Number.NaN : Number(match[1]) * UNITS[match[2]!]!;
  if (!Number.isSafeInteger(bytes) || bytes === 0 || bytes % SECTOR_BYTES !== 0) {
    throw new LabError(
      'ERR_LAB_USAGE',
      `"${size}" is not a disk size: bytes, or a number with K, M or G, a multiple of 512`,
    );
  }
  return new Disk(bytes, options.shared ?? false);
}

/** Indices of the regions whose bytes differ between two legs, in order. The last region may be cut short by the leg's end. */
export function regionsThatDiffer(
  legA: Disk,
  legB: Disk,
  regionSizeBytes: number,
  regionCount: number,
): number[] {
  const a = legA.read();
  const b = legB.read();
  const differing: number[] = [];
  for (let region = 0; region < regionCount; region++) {
    const start = region * regionSizeBytes;
    const end = start + regionSizeBytes;
    if (!a.subarray(start, end).equals(b.subarray(start, end))) differing.push(region);
  }
  return differing;
}

/** Whether two disks of one size hold the same bytes. */
export function legsEqual(legA: Disk, legB: Disk): boolean {
  return legA.read().equals(legB.read());
}
