import { NO_POSITIONS, type Positions } from './messages.js';

/** What is known of others and of the image, and so what cannot get lost any more (design rule 14). Positions are of one history, in one ring. */
export class Evidence {
  /** What the image has for certain. */
  disk: Positions = NO_POSITIONS;
  /** The same, as this member as the writer knows it. */
  ownDisk: Positions = NO_POSITIONS;
  readonly #stated = new Map<number, number>();

  /** The node has applied everything up to `position`. */
  state(nodeId: number, position: number): void {
    if (position > (this.#stated.get(nodeId) ?? 0)) this.#stated.set(nodeId, position);
  }

  drop(nodeId: number): void {
    this.#stated.delete(nodeId);
  }

  dropAll(): void {
    this.#stated.clear();
  }

  /** The history is another one: nothing is known of its image. */
  newHistory(): void {
    this.disk = NO_POSITIONS;
    this.ownDisk = NO_POSITIONS;
  }

  writerSays(positions: Positions): void {
    this.disk = {
      marks: Math.max(this.disk.marks, positions.marks),
      clears: Math.max(this.disk.clears, positions.clears),
      failed: positions.failed,
    };
  }

  /** Changes ordered up to here are known to another member, unless this one is `alone`, and on the image, if there is one. */
  committed(alone: boolean, hasImage: boolean): number {
    let elsewhere = alone ? Number.POSITIVE_INFINITY : 0;
    for (const position of this.#stated.values()) if (position > elsewhere) elsewhere = position;
    return hasImage ? Math.min(elsewhere, this.disk.marks) : elsewhere;
  }
}
