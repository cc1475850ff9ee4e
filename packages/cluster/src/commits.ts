import type { ReplicatedState } from './state.js';

/** Changes of this node that are on their way at most, for bounded memory; past it requests are dropped and the kernel repeats them. */
const PENDING_MAX = 4096;

interface Pending {
  readonly number: number;
  /** Regions that the change marks. */
  readonly regions: readonly number[];
  /** Where it was applied; 0 before. */
  position: number;
}

interface Waiter {
  readonly seq: number;
  readonly port: number;
  readonly number: number;
}

/**
 * Requests that are answered when what this node has put in order before them cannot be lost any more (design rule 14). Changes are numbered as they are
 * submitted and are applied in that order.
 */
export class Commits {
  #pending: Pending[] = [];
  #waiters: Waiter[] = [];

  /** True if a request that comes now has nothing to wait for. */
  get isEmpty(): boolean {
    return this.#pending.length === 0;
  }

  get waiting(): number {
    return this.#waiters.length;
  }

  /** A change that later requests wait for. */
  add(number: number, regions: readonly number[]): void {
    this.#pending.push({ number, regions, position: 0 });
  }

  /** Later requests wait until what was ordered up to `position` is committed, whoever ordered it. Only where nothing is pending. */
  awaitPosition(position: number): void {
    this.#pending.push({ number: 0, regions: [], position });
  }

  /** The request waits for every change so far. False when there is no room. */
  wait(seq: number, port: number): boolean {
    const last = this.#pending.at(-1);
    if (last === undefined || this.#waiters.length >= PENDING_MAX) return false;
    this.#waiters.push({ seq, port, number: last.number });
    return true;
  }

  applied(number: number, position: number): void {
    for (const one of this.#pending) if (one.number === number && one.position === 0) one.position = position;
  }

  /**
   * The state is another one: what was applied before is part of it since `position`; and so is what was only submitted if the member is another one, too
   * (`all`), because a new member tells of all marks when it joins.
   */
  replaced(position: number, all: boolean): void {
    for (const one of this.#pending) if (all || one.position > 0) one.position = position;
  }

  /** Another member goes on with the state that this one left, and `number` tells all marks anew: everything waits for that. */
  toldAgain(number: number): void {
    const regions = this.#pending.flatMap((one) => one.regions);
    this.#pending = [{ number, regions, position: 0 }];
    this.#waiters = this.#waiters.map(({ seq, port }) => ({ seq, port, number }));
  }

  /**
   * Takes out what is committed: applied, at or before `committed`, and not being recovered by another node (it will be done soon; until then a write would race with
   * the recovery). Calls `answer` for each request that has nothing left to wait for.
   */
  settle(
    state: ReplicatedState,
    nodeId: number,
    committed: number,
    answer: (seq: number, port: number) => void,
  ): void {
    let settled = 0;
    for (const one of this.#pending) {
      if (one.position === 0 || one.position > committed || recoveredElsewhere(state, nodeId, one.regions))
        break;
      settled++;
    }
    if (settled === 0) return;
    this.#pending.splice(0, settled);
    const next = this.#pending[0]?.number;
    // Numbers wrap: what waits for a change that is still pending is found by identity, not by order.
    const open = new Set(this.#pending.map(({ number }) => number));
    const waiters = this.#waiters;
    this.#waiters = next === undefined ? [] : waiters.filter(({ number }) => open.has(number));
    for (const { seq, port, number } of waiters)
      if (next === undefined || !open.has(number)) answer(seq, port);
  }

  /** Fails every request that waits for a change at or before `position`. The changes themselves stay: they are applied, and may be written later. */
  fail(position: number, answer: (seq: number, port: number) => void): void {
    const failed = new Set(
      this.#pending.filter((one) => one.position > 0 && one.position <= position).map(({ number }) => number),
    );
    if (failed.size === 0) return;
    const waiters = this.#waiters;
    this.#waiters = waiters.filter(({ number }) => !failed.has(number));
    for (const { seq, port, number } of waiters) if (failed.has(number)) answer(seq, port);
  }

  /** Takes all waiters out, committed or not. */
  drop(answer: (seq: number, port: number) => void): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { seq, port } of waiters) answer(seq, port);
  }
}

function recoveredElsewhere(state: ReplicatedState, nodeId: number, regions: readonly number[]): boolean {
  if (state.leased.count === 0) return false;
  return regions.some((region) => {
    const lessee = state.lessee(region);
    return lessee !== 0 && lessee !== nodeId;
  });
}
