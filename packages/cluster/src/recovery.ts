import type { ClusterEffects } from './cluster-effects.js';
import { type Entry, EntryType, entry, regionEntries } from './entries.js';
import { LEASE_MAX, type ReplicatedState } from './state.js';

/** So many recovered regions are announced together, unless something else is sent before. */
const ANNOUNCED_TOGETHER = 16;

/** With so few leased regions left, more are asked for. */
const LEASE_AGAIN_AT = 16;

const ASKERS_MAX = 64;

/**
 * Recovery as one node's kernel sees it: hands out regions that are leased to the node, one at a time, and announces what was recovered (design rule 21). Everything
 * that is ordered is the caller's to send.
 */
export class Recovery {
  /** The region that the kernel recovers, −1 for none. A repeated question gets it again. */
  handedOut = -1;
  /** Regions that the kernel has recovered and the state does not show yet. */
  readonly recovered = new Set<number>();
  #toAnnounce: number[] = [];
  /** Number of the LEASE on its way, 0 for none. */
  #leaseNumber = 0;
  #wish = -1;
  #askers: { seq: number; port: number }[] = [];

  get hasNews(): boolean {
    return this.#toAnnounce.length > 0;
  }

  /** A kernel wants to write this region: it should be recovered soon. */
  wishFor(region: number): void {
    this.#wish = region;
  }

  /** GET_RESYNC_WORK. Answers, or keeps the question until the LEASE that is submitted was applied. */
  ask(
    state: ReplicatedState,
    nodeId: number,
    seq: number,
    port: number,
    effects: ClusterEffects,
    submit: (entries: readonly Entry[]) => number,
  ): void {
    const region = this.#next(state, nodeId);
    if (region >= 0) {
      this.#leaseMore(state, nodeId, submit);
      return effects.pair(1, region);
    }
    if (!state.hasWork() || this.#askers.length >= ASKERS_MAX) return effects.pair(0, 0);
    if (this.#leaseNumber === 0) this.#lease(submit);
    this.#askers.push({ seq, port });
    effects.later();
  }

  /** One's own message `number` was applied. */
  applied(state: ReplicatedState, nodeId: number, number: number, effects: ClusterEffects): void {
    if (this.recovered.size > 0) this.#forgetUnleased(state, nodeId);
    if (number === 0 || number !== this.#leaseNumber) return;
    this.#leaseNumber = 0;
    this.#answer(this.#next(state, nodeId), effects);
  }

  /** What is in sync is known to all; what is not leased any more was given up by somebody. */
  #forgetUnleased(state: ReplicatedState, nodeId: number): void {
    const leases = state.nodes.get(nodeId)?.leases ?? [];
    for (const region of this.recovered) if (!leases.includes(region)) this.recovered.delete(region);
  }

  /** SET_REGION_SYNC with success; true if the region was leased to the node, and so is in sync now. */
  done(state: ReplicatedState, nodeId: number, region: number): boolean {
    if (this.handedOut === region) this.handedOut = -1;
    const leased = state.nodes.get(nodeId)?.leases.includes(region) === true;
    if (!leased || this.recovered.has(region)) return leased;
    this.recovered.add(region);
    this.#toAnnounce.push(region);
    return true;
  }

  /** The kernel could not recover the region. */
  failed(region: number): void {
    if (this.handedOut === region) this.handedOut = -1;
    this.recovered.delete(region);
  }

  /** Entries that announce what was recovered, if that is worth a message, or `now`. */
  announcement(state: ReplicatedState, nodeId: number, now: boolean): Entry[] {
    const left = (state.nodes.get(nodeId)?.leases.length ?? 0) - this.recovered.size;
    if (!now && this.#toAnnounce.length < ANNOUNCED_TOGETHER && left > 0) return [];
    const regions = this.#toAnnounce;
    this.#toAnnounce = [];
    return regionEntries(EntryType.SYNCED, regions);
  }

  /** The kernel has stopped recovery: what was handed out does not come back. True if leases are to be given back. */
  stop(state: ReplicatedState | null, nodeId: number, effects: ClusterEffects): boolean {
    this.handedOut = -1;
    this.#answer(-1, effects);
    return (state?.nodes.get(nodeId)?.leases.length ?? 0) > 0;
  }

  /** Takes over what an earlier process left: the kernel goes on recovering `handedOut`, and has recovered `recovered`. */
  restore(handedOut: number, recovered: readonly number[]): void {
    this.handedOut = handedOut;
    for (const region of recovered) this.recovered.add(region);
    this.announceAgain();
  }

  /** The group was lost, or left by an earlier process: what was said last may not have been heard. The state decides what of it still holds. */
  announceAgain(): void {
    this.#leaseNumber = 0;
    this.#toAnnounce = [...this.recovered];
  }

  /** The group is gone: nobody leases anything for now. */
  interrupt(effects: ClusterEffects): void {
    this.#answer(-1, effects);
    this.announceAgain();
  }

  /** The state is a later one of the same history: what is leased to this node no more was given up, or is known to be in sync. */
  keepLeased(state: ReplicatedState, nodeId: number): void {
    const leases = state.nodes.get(nodeId)?.leases ?? [];
    this.#forgetUnleased(state, nodeId);
    if (!leases.includes(this.handedOut)) this.handedOut = -1;
    this.announceAgain();
  }

  /** What the kernel may be recovering, or has recovered without the group's knowing. */
  get underWay(): number[] {
    return this.handedOut < 0 ? [...this.recovered] : [...this.recovered, this.handedOut];
  }

  /** The state was replaced: what is not in it was not announced in time, and is not believed. What was handed out may still come back. */
  forget(effects: ClusterEffects): void {
    this.recovered.clear();
    this.#toAnnounce = [];
    this.#leaseNumber = 0;
    this.#answer(-1, effects);
  }

  #next(state: ReplicatedState, nodeId: number): number {
    if (this.handedOut >= 0) return this.handedOut;
    const leases = state.nodes.get(nodeId)?.leases ?? [];
    const free = (region: number) => !this.recovered.has(region);
    const wished = leases.includes(this.#wish) && free(this.#wish) ? this.#wish : undefined;
    this.handedOut = wished ?? leases.find(free) ?? -1;
    return this.handedOut;
  }

  #leaseMore(state: ReplicatedState, nodeId: number, submit: (entries: readonly Entry[]) => number): void {
    const leases = state.nodes.get(nodeId)?.leases ?? [];
    const left = leases.length - this.recovered.size;
    const others = state.work.count - state.leased.count;
    if (this.#leaseNumber === 0 && left <= LEASE_AGAIN_AT && others > 0) this.#lease(submit);
  }

  #lease(submit: (entries: readonly Entry[]) => number): void {
    this.#leaseNumber = submit([entry(EntryType.LEASE, [LEASE_MAX, this.#wish + 1])]);
  }

  #answer(region: number, effects: ClusterEffects): void {
    for (const { seq, port } of this.#askers) {
      effects.pairs.push({ seq, port, first: region < 0 ? 0 : 1, second: Math.max(region, 0) });
    }
    this.#askers = [];
  }
}
