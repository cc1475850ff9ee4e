import type { Machine } from './machine.js';
import type { Mirror } from './mirror.js';

/**
 * Writes of machines that were out of touch when they ended. Nothing keeps such a machine from the disks (no fencing, see docs/cluster-protocol.md), and
 * nobody reads what it wrote before it is back: that is a cluster filesystem's care. When it is back, they are writes as all others.
 */
export class LooseWrites {
  readonly #authors = new Map<Mirror, Map<number, Machine>>();

  /** A write has ended; `author` is null where its machine was in touch. */
  ended(mirror: Mirror, region: number, author: Machine | null): void {
    const authors = this.#authors.get(mirror) ?? new Map<number, Machine>();
    this.#authors.set(mirror, authors);
    if (author === null) authors.delete(region);
    else authors.set(region, author);
  }

  /** Whose last write to the region was loose; null: it was not. */
  authorOf(mirror: Mirror, region: number): Machine | null {
    return this.#authors.get(mirror)?.get(region) ?? null;
  }
}
