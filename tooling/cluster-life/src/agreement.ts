import type { Stated } from './daemon-types.js';

/** Positions of one ring that are remembered at most: members are never so far apart. */
const POSITIONS_MAX = 50_000;
const RINGS_MAX = 12;

interface Known {
  readonly digest: string;
  readonly by: string;
  isShared: boolean;
}

/** Two members that were not alike after a ring. */
interface Difference {
  readonly key: string;
  readonly text: string;
  /** Those of the two that have gone on from there to a later ring. */
  readonly wentOn: Set<string>;
  readonly members: readonly [string, string];
}

/**
 * Members of one history that were at one position were in one state. A member that loses the others may still get messages of the ring that they left, and
 * nobody else does: the two differ, and this history of it must end there. So a difference is a failure when both have gone on from it.
 */
export class Agreement {
  /** Positions that two members or more have stated. */
  compared = 0;
  stated = 0;
  /** Differences that came to nothing, because a member's history ended. */
  abandoned = 0;
  /** Of each log and ring, in the order they came: by position, what was said of it first. */
  readonly #rings = new Map<string, Map<number, Known>>();
  /** By member and log, where it was last. */
  readonly #last = new Map<string, string>();
  readonly #differences = new Set<Difference>();

  /** Throws when members differ that must not. */
  add(by: string, { uuid, ring, position, digest, isContinued }: Stated): void {
    this.stated++;
    const key = `${uuid} ${ring}`;
    const last = this.#last.get(`${by} ${uuid}`);
    this.#last.set(`${by} ${uuid}`, key);
    if (last !== undefined && (last !== key || !isContinued)) this.#moved(by, last, isContinued);
    const positions = this.#positionsOf(key);
    const known = positions.get(position);
    if (known === undefined) {
      positions.set(position, { digest, by, isShared: false });
      if (positions.size > POSITIONS_MAX) positions.delete(positions.keys().next().value as number);
      return;
    }
    if (known.digest !== digest) {
      const text = `${uuid} after ring ${ring} at position ${position}: ${known.by} says ${known.digest}, ${by} says ${digest}`;
      if (known.by === by && isContinued) throw new Error(text);
      this.#differences.add({ key, text, wentOn: new Set(), members: [known.by, by] });
      return;
    }
    if (known.isShared || known.by === by) return;
    known.isShared = true;
    this.compared++;
  }

  /** Everything is at rest: throws where members differ that have not moved since. */
  finish(): void {
    for (const { text } of this.#differences) throw new Error(text);
  }

  #moved(by: string, from: string, isContinued: boolean): void {
    for (const difference of this.#differences) {
      if (difference.key !== from || !difference.members.includes(by)) continue;
      if (isContinued) difference.wentOn.add(by);
      else {
        this.abandoned++;
        this.#differences.delete(difference);
        continue;
      }
      if (difference.wentOn.size === 2) throw new Error(`both went on: ${difference.text}`);
    }
  }

  #positionsOf(key: string): Map<number, Known> {
    const found = this.#rings.get(key);
    if (found !== undefined) return found;
    const positions = new Map<number, Known>();
    this.#rings.set(key, positions);
    if (this.#rings.size > RINGS_MAX) this.#rings.delete(this.#rings.keys().next().value as string);
    return positions;
  }
}
