import type { Stated } from './daemon-types.js';

/** Positions of one ring that are remembered at most: members are never so far apart. */
const POSITIONS_MAX = 50_000;
const RINGS_MAX = 12;

/** Members that were at one position after one ring must have been in one state. */
export class Agreement {
  /** Positions that two members or more have stated. */
  compared = 0;
  stated = 0;
  /** Of each log and ring, in the order they came: by position, the digest and who said so first. */
  readonly #rings = new Map<string, Map<number, { digest: string; by: string; isShared: boolean }>>();

  add(by: string, { uuid, ring, position, digest }: Stated): void {
    this.stated++;
    const key = `${uuid} ${ring}`;
    let positions = this.#rings.get(key);
    if (positions === undefined) {
      positions = new Map();
      this.#rings.set(key, positions);
      this.#forgetRings();
    }
    const known = positions.get(position);
    if (known === undefined) {
      positions.set(position, { digest, by, isShared: false });
      if (positions.size > POSITIONS_MAX) positions.delete(positions.keys().next().value as number);
      return;
    }
    if (known.digest !== digest) {
      throw new Error(
        `${uuid} after ring ${ring} at position ${position}: ${known.by} says ${known.digest}, ${by} says ${digest}`,
      );
    }
    if (known.isShared || known.by === by) return;
    known.isShared = true;
    this.compared++;
  }

  #forgetRings(): void {
    if (this.#rings.size > RINGS_MAX) this.#rings.delete(this.#rings.keys().next().value as string);
  }
}
