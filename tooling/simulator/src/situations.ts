import type { Member } from '@dmlog/cluster';
import { RequestType } from '@dmlog/protocol';
import type { Checks } from './checks.js';
import type { Coverage } from './coverage.js';
import { ThreadState } from './kernel/thread.js';
import type { Machine } from './machine.js';

/** Counts the rare situations that nobody brings about on purpose: they come of several things at once. */
export class Situations {
  readonly #machines: readonly Machine[];
  readonly #checks: Checks;
  readonly #coverage: Coverage;
  /** Keeper of the image, as the newest members had it last; 0: none. */
  #writer = 0;
  #writerRingSeq = 0;
  /** Nodes on one side of the network, where it fell apart, and who wrote since. */
  #side: readonly number[] = [];
  #wrote: readonly [Set<number>, Set<number>] = [new Set(), new Set()];

  constructor(machines: readonly Machine[], checks: Checks, coverage: Coverage) {
    this.#machines = machines;
    this.#checks = checks;
    this.#coverage = coverage;
  }

  /** `happened`: something did; else only time went on. */
  afterStep(happened: boolean): void {
    if (happened) this.#lookAtWriter();
  }

  /** A request that marks regions. */
  marks(machine: Machine, regions: readonly number[]): void {
    for (const { state } of this.#checks.replicasOf(machine)) {
      if (state !== null && regions.some((region) => state.stale.get(region)))
        this.#coverage.saw('stale region marked before its recovery');
    }
  }

  /** The network fell into these nodes and the others; none: it is whole. */
  partitioned(side: readonly number[]): void {
    this.#side = side;
    this.#wrote = [new Set(), new Set()];
  }

  /** Data of the machine has reached a leg. */
  wrote({ nodeId }: Machine): void {
    const [here, there] = this.#wrote;
    (this.#side.includes(nodeId) ? here : there).add(nodeId);
    if (here.size > 0 && there.size > 0) this.#coverage.saw('writes on both sides of a partition');
  }

  /** The machine, its daemon or its group engine dies. */
  death(machine: Machine): void {
    const { nodeId } = machine;
    for (const { member, state } of this.#checks.replicasOf(machine)) {
      if (member === null || state === null) continue;
      if ((state.nodes.get(nodeId)?.leases.length ?? 0) > 0) this.#coverage.saw('lease held at a death');
      if (member.writer === nodeId && this.#aFlushWaits)
        this.#coverage.saw('flush pending at the death of the writer');
    }
    for (const other of this.#machines) {
      if (other !== machine && this.#membersOf(other).some(({ donor }) => donor === nodeId))
        this.#coverage.saw('sender of a snapshot died half way');
    }
  }

  /** A member is about to join. */
  join(): void {
    const joins = this.#machines.some((machine) =>
      this.#membersOf(machine).some(({ phase }) => phase === 'joining'),
    );
    if (joins) this.#coverage.saw('join during a join');
  }

  /** The machine whose member is sending a snapshot, if one does. */
  get sender(): Machine | undefined {
    const donors = this.#machines.flatMap((machine) => this.#membersOf(machine).map(({ donor }) => donor));
    return this.#machines.find(({ nodeId }) => donors.includes(nodeId));
  }

  get #aFlushWaits(): boolean {
    return this.#machines.some(({ kernel }) =>
      kernel.threads.some(
        ({ state, request }) => state === ThreadState.WAITS && request?.type === RequestType.FLUSH,
      ),
    );
  }

  #lookAtWriter(): void {
    for (const machine of this.#machines) {
      for (const { member } of this.#checks.replicasOf(machine)) {
        // Whoever has the office is the first to know.
        if (member === null || member.writer !== machine.nodeId || member.phase !== 'active') continue;
        const { seq } = member.agreedRing;
        if (member.writer === this.#writer || seq < this.#writerRingSeq || !member.operational) continue;
        this.#writerRingSeq = seq;
        const before = this.#writer;
        this.#writer = member.writer;
        if (before === 0) return;
        this.#coverage.saw(
          this.#isActive(before, member)
            ? 'the writer handed its office to a joiner'
            : 'the office of the writer was taken over',
        );
        return;
      }
    }
  }

  /** Whether the node is in the member's ring. */
  #isActive(nodeId: number, { agreedRing }: Member): boolean {
    return this.#machines.some(
      (machine) =>
        machine.nodeId === nodeId &&
        this.#membersOf(machine).some(
          (one) =>
            one.phase === 'active' &&
            one.agreedRing.seq === agreedRing.seq &&
            one.agreedRing.nodeId === agreedRing.nodeId,
        ),
    );
  }

  #membersOf(machine: Machine): readonly Member[] {
    return this.#checks.replicasOf(machine).flatMap(({ member }) => (member === null ? [] : [member]));
  }
}
