import { RegionBitmap } from '@dmlog/bitmap';
import { ChainHash } from './chain-hash.js';
import { TrackedBitmap } from './tracked-bitmap.js';

/** How a node's kernel stands to the log. */
export const Presence = {
  /** Its daemon takes part, its mirror is live. */
  LIVE: 1,
  /** Its daemon takes part, its mirror is suspended: no write and no recovery is under way there. */
  SUSPENDED: 2,
  /** Its daemon does not take part, or has not caught up yet; its kernel may still be writing. */
  ABSENT: 3,
} as const;
export type Presence = (typeof Presence)[keyof typeof Presence];

/** One node that the log knows. */
export interface NodeState {
  readonly nodeId: number;
  /** Boot id of its kernel, 32 hexadecimal digits. */
  readonly bootId: string;
  presence: Presence;
  /** It was taken for dead and brings marks along. */
  returning: boolean;
  /** It takes part, and nothing was known of its kernel when it came. */
  stranger: boolean;
  /** Regions that its kernel may be writing, or wrote a moment ago. */
  readonly marks: TrackedBitmap;
  /** Regions that it alone may recover, in the order they were leased. */
  leases: number[];
}

/** Regions that a node has leased at most. */
export const LEASE_MAX = 64;

/** Epochs that a state remembers besides its own. */
export const LINEAGE_MAX = 8;

/** Regions that {@link ReplicatedState.hasWork} looks at. */
const LOOKS_MAX = 256;

/** What changes beside the state, for those who keep a disk image of it. Called while an ordered message is applied. */
export interface StateWatcher {
  /** The region was clean and is dirty now. */
  dirtied(region: number): void;
  /** The region was dirty and is clean now. */
  cleaned(region: number): void;
  /** A node that was taken for dead is back. */
  returned(): void;
  /** A node that is not the writer has written the image. */
  wroteLate(): void;
}

const NOBODY: StateWatcher = { dirtied() {}, cleaned() {}, returned() {}, wroteLate() {} };

/**
 * What all members of a log agree on: a deterministic state machine. Members that applied the same messages in the same order hold equal states,
 * and equal {@link position} and {@link hash} say so.
 *
 * A region is *in sync* when kernels are told so; *stale* when they are told so although the legs may differ (a dead node was writing it, or a leg
 * failed): nobody may say "not in sync" of it while a kernel believes otherwise, so it waits until every kernel's table was reloaded, which
 * {@link needReload} counts down. *Given up* is a region that could not be recovered: kernels write it on one leg only, each by its own
 * region hash, so nobody may recover it before all were reloaded either. *Work* is what may be leased.
 *
 * Invariants:
 * 1. `clean` = in sync, not stale, and marked by no node.
 * 2. `work` = not in sync and not given up. Stale regions are in sync; given-up ones are not.
 * 3. A leased region is work, and is in one node's leases, once.
 * 4. Stale regions without marks exist only while `needReload` is not empty; given-up regions, too.
 */
export class ReplicatedState {
  readonly regionCount: number;
  readonly inSync: TrackedBitmap;
  readonly stale: TrackedBitmap;
  readonly givenUp: TrackedBitmap;
  readonly work: RegionBitmap;
  /** In the kernel's bit order: the disk image's bitmap. */
  readonly clean: RegionBitmap;
  readonly leased: RegionBitmap;
  readonly nodes = new Map<number, NodeState>();
  /** Nodes whose kernel may still believe that a stale region is in sync, or writes a given-up one. */
  readonly needReload = new Set<number>();
  /** Ordered messages applied since the log was founded. */
  position = 0;
  readonly hash = new ChainHash();
  /** Who went on from where when the ring that it was last agreed on in began, u32: histories that part have another one each from there on. See {@link begins}. */
  epoch = 0;
  /** The epochs before, the latest last, and the position at which each ended. */
  readonly lineage: { readonly epoch: number; readonly end: number }[] = [];
  /** Where regions that were clean were given up last: kernels may write them on one leg without a FLUSH. Known to those who were there; not part of a snapshot. */
  givenUpAt = 0;
  /** Where the search for work goes on. */
  searchFrom = 0;
  /** The participant that keeps the disk image and brings joiners the state; 0 while there is none. It stays that until it goes or hands over: an image never has two. */
  writer = 0;
  /** The writer has its office from one that said it writes no more: the state knows all that is on the image. Not part of a snapshot: it matters to the writer alone. */
  handedOver = false;
  watcher: StateWatcher = NOBODY;

  /** A state in which nothing is in sync. */
  constructor(regionCount: number) {
    this.regionCount = regionCount;
    this.inSync = new TrackedBitmap(regionCount, { searchOnes: false });
    this.stale = new TrackedBitmap(regionCount, { searchZeros: false });
    this.givenUp = new TrackedBitmap(regionCount, { searchZeros: false });
    this.work = new RegionBitmap(regionCount, { searchZeros: false });
    this.clean = new RegionBitmap(regionCount, { searchOnes: false, searchZeros: false });
    this.leased = new RegionBitmap(regionCount, { searchZeros: false });
    this.work.fill(true);
  }

  /** Begins with the regions of `inSync` in sync and clean; only before the first message. */
  begin(inSync: RegionBitmap): void {
    this.inSync.copyFrom(inSync);
    this.clean.copyFrom(inSync);
    this.work.fill(true);
    this.work.andNot(inSync);
  }

  /** A ring begins with this state, and with these lives of members (their nonces): nobody else goes on from here, or his history is another one. */
  begins(nonces: readonly number[]): void {
    if (this.epoch !== 0) this.lineage.push({ epoch: this.epoch, end: this.position });
    if (this.lineage.length > LINEAGE_MAX) this.lineage.shift();
    for (const nonce of nonces) this.hash.mix(nonce);
    this.epoch = this.hash.low || 1;
  }

  /** Whether `earlier` is a state that this one has been in, as far as is known: its beginning in the same epoch, or in one of the last before. */
  continues(earlier: ReplicatedState): boolean {
    if (earlier.epoch === this.epoch) return earlier.position <= this.position;
    const known = this.lineage.find(({ epoch }) => epoch === earlier.epoch);
    return known !== undefined && earlier.position <= known.end;
  }

  /** Takes over what a snapshot says; marks and leases of the nodes are set already. Throws an Error where they contradict each other. */
  restore(inSync: RegionBitmap, stale: RegionBitmap, givenUp: RegionBitmap): void {
    this.inSync.copyFrom(inSync);
    this.stale.copyFrom(stale);
    this.givenUp.copyFrom(givenUp);
    this.clean.copyFrom(inSync);
    this.clean.andNot(stale);
    this.work.fill(true);
    this.work.andNot(inSync);
    this.work.andNot(givenUp);
    for (const node of this.nodes.values()) {
      this.clean.andNot(node.marks);
      for (const region of node.leases) {
        if (!this.work.get(region) || !this.leased.set(region)) {
          throw new Error(`node ${node.nodeId} has region ${region} leased, which nobody could lease`);
        }
      }
    }
  }

  /** Regions whose legs agree, as far as anybody knows. */
  get inSyncCount(): number {
    return this.inSync.count - this.stale.count;
  }

  /**
   * The first region that the node's kernel must go on asking about: kernels never ask again about regions below the hint (facts: in_sync_hint). Given-up regions
   * do not hold back a kernel that has to be reloaded before they are work again.
   */
  syncHint(nodeId: number): number {
    const firsts = [this.work.nextOne(0), this.stale.nextOne(0)];
    if (!this.needReload.has(nodeId)) firsts.push(this.givenUp.nextOne(0));
    return Math.min(...firsts.map((region) => (region < 0 ? this.regionCount : region)));
  }

  isMarked(region: number): boolean {
    for (const node of this.nodes.values()) if (node.marks.get(region)) return true;
    return false;
  }

  /** The node that has the region leased, or 0. */
  lessee(region: number): number {
    if (!this.leased.get(region)) return 0;
    for (const node of this.nodes.values()) if (node.leases.includes(region)) return node.nodeId;
    return 0;
  }

  // Messages of a node. Regions are in range: the codec saw to that.

  mark(node: NodeState, regions: ArrayLike<number>): void {
    for (let i = 0; i < regions.length; i++) this.#markOne(node, regions[i] as number);
  }

  /**
   * The node's kernel may have marked regions that nobody knows of (its daemon died and left no state): every region that it can take for in sync counts as marked
   * by it, until its table is reloaded.
   */
  markAll(node: NodeState): void {
    for (let r = 0; r < this.regionCount; r++) if (this.inSync.get(r)) this.#markOne(node, r);
    this.needReload.add(node.nodeId);
  }

  unmark(node: NodeState, regions: ArrayLike<number>): void {
    for (let i = 0; i < regions.length; i++) this.#unmarkOne(node, regions[i] as number);
  }

  unmarkAll(node: NodeState): void {
    for (let r = node.marks.nextOne(0); r >= 0; r = node.marks.nextOne(r + 1)) this.#unmarkOne(node, r);
  }

  /** The node has recovered regions that are leased to it. They stay marked by it until its kernel and the legs' caches are done with them. */
  synced(node: NodeState, regions: ArrayLike<number>): void {
    for (let i = 0; i < regions.length; i++) {
      const region = regions[i] as number;
      if (!this.#takeLease(node, region)) continue;
      this.work.clear(region);
      this.inSync.set(region);
      node.marks.set(region);
    }
  }

  /** A write to one leg failed, or a recovery did. */
  failed(node: NodeState, regions: ArrayLike<number>): void {
    for (let i = 0; i < regions.length; i++) {
      const region = regions[i] as number;
      this.#takeLease(node, region);
      this.#distrust(region);
    }
    this.#askForReloads();
  }

  /** Leases up to `want` regions altogether to the node; `wish` first if it can be had, −1 for none. */
  lease(node: NodeState, want: number, wish: number): void {
    if (node.presence !== Presence.LIVE) return;
    const limit = Math.min(want, LEASE_MAX);
    if (wish >= 0 && node.leases.length < limit && this.#canLease(wish)) this.#giveLease(node, wish);
    let wrapped = false;
    let region = this.work.nextOne(Math.min(this.searchFrom, this.regionCount));
    const begin = this.searchFrom;
    // Bounded: what cannot be leased is marked or leased already, and each region is looked at once.
    while (node.leases.length < limit) {
      if (region < 0 || (wrapped && region >= begin)) {
        if (wrapped || begin === 0) break;
        wrapped = true;
        region = this.work.nextOne(0);
        continue;
      }
      if (this.#canLease(region)) this.#giveLease(node, region);
      this.searchFrom = region + 1;
      region = this.searchFrom >= this.regionCount ? -1 : this.work.nextOne(this.searchFrom);
    }
  }

  /** Whether somebody who asks now might be leased a region. Looks at a bounded number of them: "perhaps" is a yes. */
  hasWork(): boolean {
    let region = this.work.nextOne(0);
    for (let looked = 0; region >= 0; looked++) {
      if (looked > LOOKS_MAX || this.#canLease(region)) return true;
      region = this.work.nextOne(region + 1);
    }
    return false;
  }

  release(node: NodeState): void {
    for (const region of node.leases) this.leased.clear(region);
    if (node.leases.length > 0) this.searchFrom = 0;
    node.leases = [];
  }

  /** The node's daemon has the state. Until it says how its mirror stands, that counts as suspended. */
  ready(node: NodeState, stranger = false): void {
    node.presence = Presence.SUSPENDED;
    node.returning = false;
    node.stranger = stranger;
    if (this.writer === 0) this.#electWriter();
  }

  /** The node's mirror is live with a table loaded since, or one that wrote nothing on one leg: its kernel believes nothing that it did not ask for. */
  resumed(node: NodeState): void {
    node.presence = Presence.LIVE;
    node.stranger = false;
    this.#reloaded(node.nodeId);
  }

  /**
   * The node's mirror is suspended; what its daemon could not clear stays in doubt. That is no reload where its kernel writes one leg only of some region: it does so again
   * when the same table is resumed (facts: such an entry of the region hash stays until the table is reloaded).
   */
  suspended(node: NodeState, writesOneLeg: boolean): void {
    this.release(node);
    node.presence = Presence.SUSPENDED;
    this.#orphan(node);
    if (!writesOneLeg) this.#reloaded(node.nodeId);
  }

  /** The node's daemon is back, or has lost its log, or a table that writes one leg is resumed: its kernel goes on with what it believed before. */
  reconnected(node: NodeState): void {
    node.presence = Presence.LIVE;
    if (node.stranger) this.distrustAll();
    node.stranger = false;
    if (this.stale.count + this.givenUp.count > 0) this.needReload.add(node.nodeId);
  }

  /**
   * A member came back from a history of its own: nothing is believed that one of the two doubts. Its kernel marked `region`; if this history took the node
   * for dead meanwhile, the region may have been recovered under its hands. End with {@link broughtAll}.
   */
  bringMark(node: NodeState, region: number): void {
    this.#markOne(node, region);
    if (node.returning) this.#distrust(region);
  }

  /** `region` is not in sync in that history. */
  bringDoubt(region: number): void {
    if (this.inSync.get(region)) this.#distrust(region);
  }

  /**
   * The member's kernel may take `region` for in sync: it does not ask whether somebody recovers it, and what it is told of it now makes it write one leg. Nobody may
   * recover it before that kernel was reloaded.
   */
  bringBelief(region: number): void {
    if (this.work.get(region)) this.#distrust(region);
  }

  /**
   * The member's kernel may be recovering `region`, or writes it on one leg only: nobody may recover it before that kernel was reloaded, nor read the other leg. Kernels
   * that took it for in sync may write it on one leg from now on, as nobody recovers it.
   */
  bringGivenUp(region: number): void {
    if (!this.inSync.clear(region)) return this.#distrust(region);
    this.stale.clear(region);
    if (this.clean.clear(region)) {
      this.givenUpAt = this.position;
      this.watcher.dirtied(region);
    }
    this.givenUp.set(region);
  }

  /**
   * Somebody may have gone on from here, and his kernel may have written and recovered what this state does not know of. What was in sync still is to every kernel: none of them could be
   * told otherwise without the reload of those that are known here.
   */
  doubtAll(): void {
    for (let r = 0; r < this.regionCount; r++) this.#distrust(r);
    this.#askForReloads();
  }

  broughtAll(): void {
    this.#askForReloads();
  }

  /** `region` is dirty on the image for a reason that no member knows: the dead writer had marks of a dead node. End with {@link broughtAll}. */
  foundDirty(region: number): void {
    if (this.inSync.get(region) && !this.isMarked(region)) this.#distrust(region);
  }

  /** The participant that the writer is to hand over to: the one with the lowest node id (design rule 17); 0 if that is the writer itself. */
  get heir(): number {
    const lowest = this.#lowestParticipant();
    return this.writer === 0 || lowest === this.writer ? 0 : lowest;
  }

  /** The writer writes no more. */
  handOver(node: NodeState): void {
    if (node.nodeId !== this.writer) return;
    this.#electWriter();
    this.handedOver = true;
  }

  // Nodes

  /** The node takes part: known already, or new. Another boot id means that the kernel we knew is dead. */
  meet(nodeId: number, bootId: string, returning = false): NodeState {
    if (returning) this.watcher.returned();
    const known = this.nodes.get(nodeId);
    if (known?.bootId === bootId) return known;
    if (known !== undefined) this.nodeDown(nodeId);
    const node: NodeState = {
      nodeId,
      bootId,
      presence: Presence.ABSENT,
      returning,
      stranger: false,
      marks: new TrackedBitmap(this.regionCount, { searchZeros: false }),
      leases: [],
    };
    this.nodes.set(nodeId, node);
    return node;
  }

  /** The node's daemon is gone; its kernel may be writing and recovering: marks and leases stay. A suspended kernel does neither, but may be resumed with what it believes. */
  daemonDown(nodeId: number): void {
    const node = this.nodes.get(nodeId);
    if (node === undefined) return;
    if (node.presence === Presence.SUSPENDED && !this.needReload.has(nodeId)) return this.nodeLeft(nodeId);
    node.presence = Presence.ABSENT;
    if (this.writer === nodeId) this.#electWriter();
  }

  /** The node's kernel is gone, or taken for gone: its marks are orphans, its leases return. */
  nodeDown(nodeId: number): void {
    const node = this.nodes.get(nodeId);
    if (node === undefined) return;
    this.release(node);
    this.#orphan(node);
    this.nodes.delete(nodeId);
    if (this.writer === nodeId) this.#electWriter();
    this.#reloaded(nodeId);
  }

  /** The node has given the log up in good order. */
  nodeLeft(nodeId: number): void {
    this.nodeDown(nodeId);
  }

  /** Throws when an invariant does not hold. For tests and the simulator: costs a step per region and node. */
  checkInvariants(): void {
    const leases = new Set<number>();
    for (const node of this.nodes.values()) {
      for (const region of node.leases) {
        if (leases.has(region)) throw new Error(`invariant 3: region ${region} is leased twice`);
        leases.add(region);
      }
    }
    if (leases.size !== this.leased.count) {
      throw new Error(`invariant 3: ${leases.size} leases, ${this.leased.count} regions are called leased`);
    }
    for (let r = 0; r < this.regionCount; r++) this.#checkRegion(r, leases);
  }

  #checkRegion(region: number, leases: ReadonlySet<number>): void {
    const inSync = this.inSync.get(region);
    const stale = this.stale.get(region);
    const marked = this.isMarked(region);
    if (this.clean.get(region) !== (inSync && !stale && !marked)) {
      throw new Error(
        `invariant 1: region ${region}: clean is ${this.clean.get(region)}, in sync ${inSync}, stale ${stale}, marked ${marked}`,
      );
    }
    if (this.work.get(region) !== (!inSync && !this.givenUp.get(region))) {
      throw new Error(`invariant 2: region ${region}: work is ${this.work.get(region)}, in sync ${inSync}`);
    }
    if ((stale && !inSync) || (this.givenUp.get(region) && inSync)) {
      throw new Error(
        `invariant 2: region ${region}: stale ${stale}, given up ${this.givenUp.get(region)}, in sync ${inSync}`,
      );
    }
    if (leases.has(region) && !(this.leased.get(region) && this.work.get(region))) {
      throw new Error(`invariant 3: region ${region} is leased, but is no work`);
    }
    if (this.needReload.size === 0 && ((stale && !marked) || this.givenUp.get(region))) {
      throw new Error(`invariant 4: region ${region} waits for reloads, but no node is waited for`);
    }
  }

  #electWriter(): void {
    this.writer = this.#lowestParticipant();
    this.handedOver = false;
  }

  #lowestParticipant(): number {
    let lowest = 0;
    for (const { nodeId, presence } of this.nodes.values()) {
      if (presence !== Presence.ABSENT && (lowest === 0 || nodeId < lowest)) lowest = nodeId;
    }
    return lowest;
  }

  #markOne(node: NodeState, region: number): void {
    if (!node.marks.set(region)) return;
    if (this.clean.clear(region)) this.watcher.dirtied(region);
  }

  #unmarkOne(node: NodeState, region: number): void {
    if (!node.marks.clear(region) || !this.inSync.get(region) || this.isMarked(region)) return;
    if (!this.stale.get(region)) {
      this.clean.set(region);
      this.watcher.cleaned(region);
    } else if (this.needReload.size === 0) this.#demote(region);
  }

  /** The legs may differ: in sync regions become stale, others are given up. */
  #distrust(region: number): void {
    if (this.inSync.get(region)) {
      this.stale.set(region);
      if (this.clean.clear(region)) this.watcher.dirtied(region);
    } else if (this.work.clear(region)) {
      this.#dropLease(region);
      this.givenUp.set(region);
    }
  }

  /** Kernels may believe, and may have written, what this state does not know: any region may be in sync for them, and any be written on one leg. */
  distrustAll(): void {
    for (let r = 0; r < this.regionCount; r++) this.bringGivenUp(r);
    this.#askForReloads();
  }

  /** Marks without an owner. What is not in sync is work anyway. */
  #orphan(node: NodeState): void {
    const { marks } = node;
    let found = false;
    for (let r = marks.nextOne(0); r >= 0; r = marks.nextOne(r + 1)) {
      marks.clear(r);
      if (!this.inSync.get(r)) continue;
      this.stale.set(r);
      found = true;
    }
    if (found) this.#askForReloads(node.nodeId);
  }

  /** Every kernel at work has to be reloaded before what is in doubt can be recovered. */
  #askForReloads(except = 0): void {
    for (const node of this.nodes.values()) {
      if (node.presence !== Presence.SUSPENDED && node.nodeId !== except) this.needReload.add(node.nodeId);
    }
    this.#afterReload();
  }

  #reloaded(nodeId: number): void {
    this.needReload.delete(nodeId);
    this.#afterReload();
  }

  #afterReload(): void {
    if (this.needReload.size > 0 || this.stale.count + this.givenUp.count === 0) return;
    for (let r = this.stale.nextOne(0); r >= 0; r = this.stale.nextOne(r + 1)) {
      if (!this.isMarked(r)) this.#demote(r);
    }
    for (let r = this.givenUp.nextOne(0); r >= 0; r = this.givenUp.nextOne(r + 1)) {
      this.givenUp.clear(r);
      this.work.set(r);
    }
    this.searchFrom = 0;
  }

  /** A stale region becomes work: no kernel believes it in sync any more, and none writes it. */
  #demote(region: number): void {
    this.stale.clear(region);
    this.inSync.clear(region);
    this.work.set(region);
    this.searchFrom = 0;
  }

  #canLease(region: number): boolean {
    return this.work.get(region) && !this.leased.get(region) && !this.isMarked(region);
  }

  #giveLease(node: NodeState, region: number): void {
    node.leases.push(region);
    this.leased.set(region);
  }

  /** False if the node does not have the region leased: a late or repeated message. */
  #takeLease(node: NodeState, region: number): boolean {
    const at = node.leases.indexOf(region);
    if (at < 0) return false;
    node.leases.splice(at, 1);
    this.leased.clear(region);
    return true;
  }

  #dropLease(region: number): void {
    if (!this.leased.get(region)) return;
    for (const node of this.nodes.values()) this.#takeLease(node, region);
  }
}
