import { RegionBitmap } from '@dmlog/bitmap';
import { bringAlong } from '../src/bring-along.js';
import { type Entry, EntryType, entry, regionEntries } from '../src/entries.js';
import type { SimulatedMember, SimulatedNetwork } from '../src/group/simulated.js';
import { Member } from '../src/member.js';
import type { Geometry } from '../src/messages.js';
import type { ReplicatedState } from '../src/state.js';

export const REGIONS = 48;

export const GEOMETRY: Geometry = {
  kind: 'core',
  regionCount: REGIONS,
  regionSizeSectors: 8,
  targetSectors: REGIONS * 8,
};

/** A kernel and its daemon on one node, as far as a member is concerned: marks regions, waits for the commit, writes, unmarks. */
export class MemberHost {
  readonly nodeId: number;
  readonly bootId: string;
  readonly network: SimulatedNetwork;
  readonly world: { foundings: number };
  member: Member;
  group: SimulatedMember | null = null;
  /** Regions that this kernel has marked, and that its daemon has not unmarked. */
  readonly held = new RegionBitmap(REGIONS);
  /** Of them: those whose mark was committed; the kernel writes them. */
  readonly writing = new Set<number>();
  /** Of them: those that a group of one committed. A core log's state is gone with its only member. */
  readonly alone = new Set<number>();
  /** Marks on their way: number of the message, position once applied. */
  pending: { regions: number[]; number: number; position: number }[] = [];
  refusedBecause: string | null = null;
  live = false;
  readonly #geometry: Geometry;
  #queue: Uint8Array[] = [];
  #groupSize = 0;

  constructor(
    network: SimulatedNetwork,
    world: { foundings: number },
    nodeId: number,
    boot: number,
    nonce: number,
    geometry = GEOMETRY,
  ) {
    this.network = network;
    this.world = world;
    this.nodeId = nodeId;
    this.#geometry = geometry;
    this.bootId = boot.toString(16).padStart(32, '0');
    this.member = this.#newMember(nonce);
  }

  get state(): ReplicatedState {
    if (this.member.state === null) throw new Error(`node ${this.nodeId} has no state`);
    return this.member.state;
  }

  #newMember(nonce: number): Member {
    return new Member({
      self: { nodeId: this.nodeId, pid: 0 },
      nonce,
      bootId: this.bootId,
      geometry: this.#geometry,
      listener: {
        found: () => {
          // All in sync the first time; whoever founds it again knows nothing.
          const inSync = new RegionBitmap(REGIONS);
          inSync.fill(this.world.foundings === 0);
          this.world.foundings++;
          this.member.found(inSync);
        },
        presence: (state) => this.#presence(state),
        activated: () => {
          for (const one of this.pending) if (one.position > 0) one.position = this.state.position;
        },
        applied: (number) => this.#applied(number),
        bringAlong: (state) => bringAlong(state, this, this.held, [], null),
        refused: (reason) => {
          this.refusedBecause = reason;
        },
      },
    });
  }

  #presence(state: ReplicatedState): Entry[] {
    const fresh = !this.live;
    this.live = true;
    const known = state.nodes.get(this.nodeId)?.marks;
    if (fresh && known !== undefined) {
      for (let r = known.nextOne(0); r >= 0; r = known.nextOne(r + 1)) this.held.set(r);
    }
    const unknown: number[] = [];
    for (let r = this.held.nextOne(0); r >= 0; r = this.held.nextOne(r + 1))
      if (known?.get(r) !== true) unknown.push(r);
    const how = fresh ? entry(EntryType.RESUMED) : entry(EntryType.RECONNECTED, [0]);
    return [how, ...regionEntries(EntryType.MARK, unknown)];
  }

  #applied(number: number): void {
    for (const one of this.pending)
      if (one.number === number && number !== 0) one.position = this.state.position;
    this.settle();
  }

  /** Marks that are committed become writes. */
  settle(): void {
    if (!this.member.operational) return;
    const committed = this.member.committed;
    this.pending = this.pending.filter((one) => {
      if (one.position === 0 || one.position > committed) return true;
      for (const region of one.regions) {
        if (!this.held.get(region)) continue;
        this.writing.add(region);
        if (this.#groupSize <= 1) this.alone.add(region);
      }
      return false;
    });
  }

  join(): void {
    this.group = this.network.join(this.nodeId, 'log', {
      deliver: (sender, bytes) => this.#after(() => this.member.deliver(sender, bytes)),
      confchg: (members, left, joined) => {
        this.#groupSize = members.length;
        this.#after(() => this.member.confchg(members, left, joined));
      },
      ring: (ring, nodes, quorate) => this.#after(() => this.member.ringChanged(ring, nodes, quorate)),
      drain: () => this.flush(),
      died: () => {
        this.group = null;
      },
    });
  }

  #after(event: () => void): void {
    event();
    this.settle();
    this.flush();
  }

  flush(): void {
    this.#queue.push(...this.member.takeOutbox());
    while (this.group !== null && this.#queue.length > 0 && this.group.send(this.#queue[0] as Uint8Array))
      this.#queue.shift();
  }

  /** An operator has the table loaded anew: no write is under way, and the kernel asks about every region again. */
  reload(): void {
    const done: number[] = [];
    for (let r = this.held.nextOne(0); r >= 0; r = this.held.nextOne(r + 1)) done.push(r);
    for (const region of done) this.held.clear(region);
    this.writing.clear();
    this.member.submit([
      ...regionEntries(EntryType.UNMARK, done),
      entry(EntryType.SUSPENDED, [0]),
      entry(EntryType.RESUMED),
    ]);
    this.flush();
  }

  mark(regions: number[]): void {
    const { state } = this.member;
    const fresh = regions.filter((region) => state?.inSync.get(region) === true && this.held.set(region));
    if (fresh.length === 0) return;
    const number = this.member.submit(regionEntries(EntryType.MARK, fresh));
    this.pending.push({ regions: fresh, number, position: 0 });
    this.flush();
  }

  /** The kernel has finished some writes. */
  unmark(regions: number[]): void {
    const done = regions.filter(
      (region) =>
        this.writing.delete(region) && this.held.clear(region) && (this.alone.delete(region) || true),
    );
    if (done.length > 0) this.member.submit(regionEntries(EntryType.UNMARK, done));
    this.flush();
  }
}
