import { type Entry, EntryType, entry, regionEntries } from './entries.js';
import type { Recovery } from './recovery.js';
import { Presence, type ReplicatedState } from './state.js';

/** A kernel that is being suspended waits this long for other nodes to recover what it wants to write. */
const PATIENCE_MS = 3000;

/** Leases of a kernel that has not asked for work for so long are given back. */
const LEASE_IDLE_MS = 5000;

/** How long one node's kernel waits for recoveries, and others for its own: no write waits for a recovery that nobody will do. */
export class Patience {
  /** The kernel has stopped recovery, to be suspended. */
  #stopped = false;
  /** Since when a write waits and the kernel has not asked for work; −1 otherwise. */
  #idleSinceMs = -1;
  /** The kernel last had to do with recovery. */
  #lastWorkMs = 0;
  /** Leases are from an earlier life of this daemon: the kernel may be recovering any one of them. It is not if it asks for work. */
  #leasesInherited = false;
  /** Regions that were given up since the kernel last asked, and when. */
  readonly #givenUp = new Map<number, number>();

  /** A write waits, and time has to pass. */
  get isTried(): boolean {
    return this.#idleSinceMs >= 0;
  }

  asksForWork(nowMs: number): void {
    this.#idleSinceMs = -1;
    this.#leasesInherited = false;
    this.#lastWorkMs = nowMs;
    if (this.#givenUp.size > 0) this.#givenUp.clear();
  }

  recovers(nowMs: number): void {
    this.#lastWorkMs = nowMs;
  }

  stopsRecovery(): void {
    this.#stopped = true;
  }

  resumes(): void {
    this.#stopped = false;
    this.#idleSinceMs = -1;
  }

  /** The state is another one, with leases of which this daemon knows nothing. */
  inherits(nowMs: number): void {
    this.#leasesInherited = true;
    this.#lastWorkMs = nowMs;
  }

  /**
   * A write to `region`, which is not in sync, came. A kernel that is being suspended asks for no more work and waits for all its writes: if nobody else gets to the
   * region soon, the entries that give it up are returned, and the write is let through once they were applied.
   */
  impatience(state: ReplicatedState, nodeId: number, region: number, nowMs: number): Entry[] {
    if (this.#idleSinceMs < 0) this.#idleSinceMs = nowMs;
    const patient = !this.#stopped || isLiveElsewhere(state, nodeId);
    if (patient && nowMs < this.#idleSinceMs + PATIENCE_MS) return [];
    const last = this.#givenUp.get(region);
    // Again, if it has become work again meanwhile.
    if (last !== undefined && nowMs < last + PATIENCE_MS) return [];
    this.#givenUp.set(region, nowMs);
    return [entry(EntryType.FAILED, [region])];
  }

  /** A kernel that does not recover must not keep others from it. What it may still be recovering is not to be touched by anybody before a reload. */
  dropIdleLeases(leases: readonly number[], recovery: Recovery, nowMs: number): Entry[] {
    if (leases.length === 0 || recovery.handedOut >= 0 || recovery.recovered.size > 0) return [];
    if (nowMs < this.#lastWorkMs + LEASE_IDLE_MS) return [];
    this.#lastWorkMs = nowMs;
    return this.#leasesInherited ? regionEntries(EntryType.FAILED, leases) : [entry(EntryType.RELEASE)];
  }
}

function isLiveElsewhere(state: ReplicatedState, self: number): boolean {
  for (const { nodeId, presence } of state.nodes.values()) {
    if (presence === Presence.LIVE && nodeId !== self) return true;
  }
  return false;
}
