import { RequestType } from '@dmlog/protocol';
import type { View } from './daemon-types.js';
import type { Mirror } from './mirror.js';

/** An answer to one of these says that the group knows of a change, or gives a region out. */
const CHANGES: ReadonlySet<number> = new Set([
  RequestType.MARK_REGION,
  RequestType.FLUSH,
  RequestType.SET_REGION_SYNC,
  RequestType.GET_RESYNC_WORK,
  RequestType.RESUME,
]);

interface Watched {
  readonly isCut: boolean;
  readonly isPaused: boolean;
  readonly isWithoutCorosync: boolean;
  readonly views: ReadonlyMap<string, View | null>;
}

/** Sees to it that without quorum nothing is answered that changes the state: between the daemon's word that it has none and the moment before somebody heals it. */
export class QuorumWatch {
  /** Requests that were made while it was certain that there is no quorum. */
  checked = 0;
  /** How often somebody healed something. */
  epoch = 0;
  readonly #fail: (text: string) => void;
  /** While the node is certainly without quorum; a new object each time. */
  #without: object | null = null;

  constructor(fail: (text: string) => void) {
    this.#fail = fail;
  }

  /** The daemon's views are new, and were asked for in `epoch`. */
  look(epoch: number, { isCut, isPaused, isWithoutCorosync, views }: Watched): void {
    if (!(isCut || isPaused || isWithoutCorosync) || this.#without !== null || epoch !== this.epoch) return;
    const all = [...views.values()];
    if (all.length > 0 && all.every((view) => view !== null && !view.quorate)) this.#without = {};
  }

  /** Quorum may come back from now on. */
  heals(): void {
    this.epoch++;
    this.#without = null;
  }

  asked(_mirror: Mirror): unknown {
    return this.#without;
  }

  answered(mirror: Mirror, type: number, asked: unknown): void {
    if (asked === null || asked !== this.#without) return;
    this.checked++;
    if (CHANGES.has(type)) this.#fail(`request ${type} to ${mirror.uuid} was answered without quorum`);
  }
}
