import type { RegionBitmap } from '@dmlog/bitmap';
import { bodyBytes, KeptState, type LogMemory, type Section } from '@dmlog/log';
import type { Recovery } from './recovery.js';
import { type History, StateCopy } from './state-copy.js';

/** Bitmaps of one node's share, in the order in which they lie in memory. */
const SECTION = { held: 0, young: 1, old: 2, recovered: 3, clearsYoung: 4, clearsOld: 5 } as const;

/** Values of the record. */
const AT = { mirror: 0, handedOut: 1 } as const;
const Mirror = { SUSPENDED: 0, LIVE: 1 } as const;
const NONE = 0xffff_ffff;

function sectionsOf(regionCount: number): Section[] {
  const section = { bits: regionCount, searchZeros: false, searchOnes: true };
  return Object.values(SECTION).map(() => section);
}

/** Bytes of the memory's body for a log of so many regions. */
export function keptReplicaBytes(regionCount: number): number {
  return bodyBytes(sectionsOf(regionCount)) + StateCopy.bytes(regionCount);
}

/**
 * One node's share in a replicated log in memory that outlives the process: what its kernel may be writing, recovers and was promised, changed in place; and a
 * copy of the common state. A daemon that finds it goes on as if it had only been out of the group.
 */
export class KeptReplica {
  /** Regions that this node's kernel may be writing, and its lazy clears. */
  readonly held: RegionBitmap;
  readonly young: RegionBitmap;
  readonly old: RegionBitmap;
  /** Clears that the writer of the image may not have written: see `ImageWriter`. */
  readonly clearsYoung: RegionBitmap;
  readonly clearsOld: RegionBitmap;
  /** The mirror was live when the process before this one died. */
  readonly wasLive: boolean;
  /** The region that the kernel was recovering then; −1 for none. */
  readonly handedOut: number;
  /** The common state then; null in fresh memory. */
  readonly history: History | null;
  readonly copy: StateCopy;
  readonly #recovered: RegionBitmap;
  readonly #kept: KeptState;

  private constructor(kept: KeptState, copy: StateCopy, history: History | null) {
    this.#kept = kept;
    this.copy = copy;
    this.history = history;
    const [mirror, handedOut] = [kept.values[AT.mirror], kept.values[AT.handedOut] as number];
    this.wasLive = history !== null && mirror === Mirror.LIVE;
    this.handedOut = this.wasLive && handedOut !== NONE ? handedOut : -1;
    this.held = kept.bitmap(SECTION.held);
    // A superset of what is held would be released without a mark: damaged generations are forgotten, and the regions stay held.
    const orEmpty = (index: number) => kept.bitmap(index, history !== null && !kept.isWhole(index));
    [this.young, this.old] = [orEmpty(SECTION.young), orEmpty(SECTION.old)];
    this.#recovered = orEmpty(SECTION.recovered);
    [this.clearsYoung, this.clearsOld] = [orEmpty(SECTION.clearsYoung), orEmpty(SECTION.clearsOld)];
  }

  /** In memory that is all zero, as long as {@link keptReplicaBytes} says. */
  static fresh(memory: LogMemory, regionCount: number): KeptReplica {
    const kept = new KeptState(memory, sectionsOf(regionCount));
    kept.sealAfresh();
    const replica = new KeptReplica(kept, copyIn(memory, regionCount), null);
    kept.values[AT.handedOut] = NONE;
    kept.commit();
    return replica;
  }

  /** In memory that an earlier process left; or why that cannot be believed. */
  static found(memory: LogMemory, regionCount: number): KeptReplica | string {
    if (memory.body.byteLength < keptReplicaBytes(regionCount)) return 'it is cut';
    const kept = new KeptState(memory, sectionsOf(regionCount));
    if (!kept.isWhole(SECTION.held)) return 'the record of what the kernel may be writing is damaged';
    const copy = copyIn(memory, regionCount);
    const history = copy.load();
    if (history === null) return 'there is no whole copy of the common state';
    return new KeptReplica(kept, copy, history);
  }

  /** Regions that the kernel had recovered, and the group perhaps was not told. */
  recovered(): number[] {
    const regions: number[] = [];
    for (let r = this.#recovered.nextOne(0); r >= 0; r = this.#recovered.nextOne(r + 1)) regions.push(r);
    return regions;
  }

  /** What changes beside the bitmaps. Cheap where nothing has. */
  note(isLive: boolean, recovery: Recovery): void {
    const { values } = this.#kept;
    const mirror = isLive ? Mirror.LIVE : Mirror.SUSPENDED;
    const handedOut = recovery.handedOut < 0 ? NONE : recovery.handedOut;
    if (values[AT.mirror] !== mirror || values[AT.handedOut] !== handedOut) {
      values[AT.mirror] = mirror;
      values[AT.handedOut] = handedOut;
      this.#kept.commit();
    }
    const recovered = this.#recovered;
    if (recovered.count === 0 && recovery.recovered.size === 0) return;
    for (const region of recovery.recovered) recovered.set(region);
    for (let r = recovered.nextOne(0); r >= 0; r = recovered.nextOne(r + 1)) {
      if (!recovery.recovered.has(r)) recovered.clear(r);
    }
  }
}

function copyIn(memory: LogMemory, regionCount: number): StateCopy {
  const from = bodyBytes(sectionsOf(regionCount));
  return new StateCopy(memory.body.subarray(from), regionCount);
}
