import { type SimulationChances, WILD_NETWORK } from './chances.js';
import type { GroupHandlers, RingId } from './contract.js';
import { SimulationCounters } from './counters.js';
import { checkGroupName } from './group-name.js';
import { type MemberLimits, type MemberPort, SimulatedMember } from './member.js';
import { FIRST_PID, SimulatedNode } from './node.js';
import { EntryKind, type Process, type Ring, sameProcess } from './ring.js';
import { formRing, wholeRing } from './ring-change.js';

export interface SimulatedNetworkInit {
  /** Node ids, 1 to 2^32-1. */
  readonly nodes: readonly number[];
  /** The only source of chance: a number in [0, 1). The same numbers and calls give the same run. */
  readonly random: () => number;
  /** A ring has quorum with more than half of these. Default: the number of nodes. */
  readonly expectedVotes?: number;
  readonly chances?: Partial<SimulationChances>;
  /** Default 1,047,552, as corosync has it. */
  readonly maxMessageBytes?: number;
  /** Own messages under way at which `send` refuses. Default 64. */
  readonly undeliveredMax?: number;
  /** Entries that one visit of the token lets a node send, at most. Default 4. */
  readonly tokenEntriesMax?: number;
}

export interface SimulatedJoinOptions {
  /** Default: a number that this node has not used since its start. */
  readonly pid?: number;
}

/** Who does something: a member reads, a node delivers or sends, nodes form a ring. */
type Doer = SimulatedMember | SimulatedNode | SimulatedNode[];
type Act = (who: Doer) => void;

/**
 * Corosync's CPG on several nodes, in one process: synchronous, without clock, timers or promises. Nothing happens but by {@link step}.
 *
 * What may fail: nodes crash, pause and come back; the network falls apart and heals; processes and engines die; each at any moment between two
 * steps. What is modelled, from the sources and measurements of corosync 3.1.7: one order per ring; agreed, not safe delivery; the token as the
 * right to send; recovery of what any survivor got; the synchronisation that ends with confchg and ring; and the ways in which that goes wrong
 * ({@link SimulationChances}, {@link SimulationCounters}). Not modelled: join and leave messages that are cut by a merge, a ring id that recurs.
 */
export class SimulatedNetwork {
  readonly counters = new SimulationCounters();
  readonly #random: () => number;
  readonly #chances: SimulationChances;
  readonly #limits: MemberLimits;
  readonly #tokenEntriesMax: number;
  readonly #acts: Readonly<Record<'read' | 'deliver' | 'send' | 'changeRing', Act>>;
  readonly #nodes: SimulatedNode[];
  /** Members of dead engines that have not read their `died`. */
  readonly #orphans = new Set<SimulatedMember>();
  #expectedVotes: number;
  /** What can happen now: the first {@link #count} of these. */
  readonly #enabled: { act: Act; who: Doer }[] = [];
  #count = 0;
  /** Nodes that can hear each other and are not in one ring, for each side. Null: to be found anew. */
  #unstable: SimulatedNode[][] | null = null;
  /** Nothing can happen since the last step, as far as this network knows. */
  #quiet = false;

  constructor(init: SimulatedNetworkInit) {
    this.#random = init.random;
    this.#chances = { ...WILD_NETWORK, ...init.chances };
    this.#limits = {
      maxMessageBytes: init.maxMessageBytes ?? 1_047_552,
      undeliveredMax: init.undeliveredMax ?? 64,
    };
    this.#tokenEntriesMax = init.tokenEntriesMax ?? 4;
    this.#expectedVotes = init.expectedVotes ?? init.nodes.length;
    this.#acts = {
      read: (who) => (who as SimulatedMember).read(),
      deliver: (who) => this.#deliver(who as SimulatedNode),
      send: (who) => this.#send(who as SimulatedNode, 1 + this.#draw(this.#tokenEntriesMax)),
      changeRing: (who) => this.#changeRing(who as SimulatedNode[]),
    };
    const port = {
      counters: this.counters,
      quorate: (ring: Ring) => this.#quorate(ring),
      whole: (ring: Ring) => wholeRing(ring, this.#nodes),
    };
    this.#nodes = [...init.nodes].sort((a, b) => a - b).map((nodeId) => new SimulatedNode(nodeId, port));
  }

  /** Joins; what that means for this and the other members comes by {@link step}. Throws when the node or its engine is down. */
  join(
    nodeId: number,
    group: string,
    handlers: GroupHandlers,
    options: SimulatedJoinOptions = {},
  ): SimulatedMember {
    this.#quiet = false;
    checkGroupName(group);
    const node = this.#node(nodeId);
    if (!node.running) throw new Error(`node ${nodeId} has no group engine: start it first`);
    const pid = options.pid ?? node.nextPid++;
    const process: Process = { nodeId, pid, group };
    if (node.members.some((member) => sameProcess(member.process, process)))
      throw new Error(`process ${pid} of node ${nodeId} is in group ${group} already`);
    if (this.#nodes.some((one) => one.processes.some((known) => sameProcess(known, process))))
      this.counters.reusedPids++;
    const port: MemberPort = {
      send: (member, bytes) => this.#accept(node, member, EntryKind.MESSAGE, bytes),
      leave: (member) => this.#accept(node, member, EntryKind.LEAVE),
      gone: (member) => {
        this.#accept(node, member, EntryKind.PROCDOWN);
        node.forget(member);
      },
    };
    const member = new SimulatedMember(process, handlers, port, this.#limits, this.counters);
    node.members.push(member);
    node.accept(EntryKind.JOIN, process);
    return member;
  }

  /** One thing happens, drawn from all that can. False: nothing is left to happen. */
  step(): boolean {
    if (this.#quiet) return false;
    this.#count = 0;
    for (const node of this.#nodes) if (node.active) this.#collect(node);
    const changes = this.#collectRingChanges();
    const others = this.#count - changes;
    if (this.#count === 0) {
      this.#quiet = true;
      return false;
    }
    const change = changes > 0 && (others === 0 || this.#random() < this.#chances.ringChange);
    const { act, who } = this.#enabled[change ? others + this.#draw(changes) : this.#draw(others)]!;
    act(who);
    return true;
  }

  /** Steps until nothing is left, at most `maxSteps` times. Returns the steps taken; fewer than `maxSteps` means quiet. */
  run(maxSteps: number): number {
    for (let steps = 0; steps < maxSteps; steps++) if (!this.step()) return steps;
    return maxSteps;
  }

  /** The network falls into these parts. Nodes that are not named form one more part. */
  partition(parts: readonly (readonly number[])[]): void {
    this.#quiet = false;
    for (const node of this.#nodes) {
      node.side = parts.findIndex((part) => part.includes(node.nodeId)) + 1;
    }
    this.#breakRings();
  }

  heal(): void {
    this.partition([]);
  }

  /** The whole host is gone: its members never hear of it, the others see NODEDOWN. */
  crashNode(nodeId: number): void {
    const node = this.#node(nodeId);
    node.stop();
    node.nextPid = FIRST_PID;
    for (const member of this.#orphans) if (member.process.nodeId === nodeId) member.end();
    this.#breakRings();
  }

  /** A host comes back, or its engine: empty. After a crash the process ids begin anew. */
  restartNode(nodeId: number): void {
    const node = this.#node(nodeId);
    if (node.running) throw new Error(`node ${nodeId} is running`);
    node.running = true;
    this.#breakRings();
  }

  /**
   * The group engine of a node ends, its processes stay. Its members lose what they have not read, and die. The others see NODEDOWN; with `cleanly`
   * and a whole ring, PROCDOWN first.
   */
  killEngine(nodeId: number, cleanly = false): void {
    const node = this.#node(nodeId);
    const { members, ring } = node;
    if (cleanly && node.active && node.settled && wholeRing(ring!, this.#nodes)) {
      for (const member of members) node.accept(EntryKind.PROCDOWN, member.process);
      this.#send(node, node.outbox.length);
      const heirs = ring!.nodes.filter((one) => one !== nodeId);
      if (heirs.length > 0) ring!.giveAll(heirs[this.#draw(heirs.length)]!);
    }
    node.members = [];
    node.stop();
    for (const member of members) {
      member.engineDied(new Error(`the group engine of node ${nodeId} is gone: join again when it is back`));
      this.#orphans.add(member);
    }
    this.#breakRings();
  }

  /** The process of a member ends without a word. Same as its `close()`. */
  killMember(member: SimulatedMember): void {
    void member.close();
  }

  /** A host stands still. The others see it down, if it does for long enough: when a ring forms without it. */
  pauseNode(nodeId: number): void {
    this.#node(nodeId).paused = true;
    this.#breakRings();
  }

  resumeNode(nodeId: number): void {
    this.#node(nodeId).paused = false;
    this.#breakRings();
  }

  /** A member stops reading its events; nobody else notices. */
  pauseMember(member: SimulatedMember): void {
    this.#quiet = false;
    member.paused = true;
  }

  resumeMember(member: SimulatedMember): void {
    this.#quiet = false;
    member.paused = false;
  }

  /** The ring of a node breaks and forms anew, though nobody was away: what too busy hosts do to themselves. */
  loseToken(nodeId: number): void {
    const { ring } = this.#node(nodeId);
    if (ring === null) return;
    ring.tokenLost = true;
    this.#breakRings();
  }

  /** Rings whose quorum this changes are announced again. */
  setExpectedVotes(votes: number): void {
    this.#quiet = false;
    const before = this.#nodes.map((node) => node.announced !== null && this.#quorate(node.announced));
    this.#expectedVotes = votes;
    this.#nodes.forEach((node, index) => {
      if (node.announced !== null && this.#quorate(node.announced) !== before[index]) node.announceQuorum();
    });
  }

  /** Members that have not ended, of one node or of all. */
  members(nodeId?: number): SimulatedMember[] {
    return this.#nodes
      .filter((node) => nodeId === undefined || node.nodeId === nodeId)
      .flatMap((node) => node.members)
      .filter((member) => member.state !== 'ended');
  }

  /** The ring that the node is in; null if it is in none, or in one that falls apart, whether its nodes have noticed or not. */
  wholeRingOf(nodeId: number): RingId | null {
    const { ring } = this.#node(nodeId);
    return ring !== null && wholeRing(ring, this.#nodes) ? ring.id : null;
  }

  /** `down`: no engine. */
  nodeState(nodeId: number): 'running' | 'paused' | 'down' {
    const node = this.#node(nodeId);
    return !node.running ? 'down' : node.paused ? 'paused' : 'running';
  }

  #enable(act: Act, who: Doer): void {
    const slot = this.#enabled[this.#count];
    if (slot === undefined) this.#enabled.push({ act, who });
    else {
      slot.act = act;
      slot.who = who;
    }
    this.#count++;
  }

  /** What this node and its members can do now. */
  #collect(node: SimulatedNode): void {
    for (const member of node.members) {
      if (member.state === 'ended') node.forget(member);
      else if (member.readable) this.#enable(this.#acts.read, member);
    }
    const { ring } = node;
    if (ring === null) return;
    if (ring.delivered(node.nodeId) < this.#available(node)) this.#enable(this.#acts.deliver, node);
    const mayOrder = ring.lastSender === undefined || ring.lastSender === node.nodeId;
    if (node.outbox.length > 0 && node.settled && mayOrder) this.#enable(this.#acts.send, node);
  }

  /** Returns how many it added. */
  #collectRingChanges(): number {
    for (const member of this.#orphans) {
      if (member.state === 'ended') this.#orphans.delete(member);
      else if (member.readable) this.#enable(this.#acts.read, member);
    }
    this.#unstable ??= this.#findUnstable();
    for (const nodes of this.#unstable) this.#enable(this.#acts.changeRing, nodes);
    return this.#unstable.length;
  }

  #findUnstable(): SimulatedNode[][] {
    const sides = new Set(this.#nodes.map(({ side }) => side));
    return [...sides]
      .map((side) => this.#nodes.filter((node) => node.active && node.side === side))
      .filter((nodes) => nodes.length > 0 && !stable(nodes));
  }

  #deliver(node: SimulatedNode): void {
    node.deliverNext();
    const ring = node.ring!;
    this.#shake(ring);
    if (ring.delivered(node.nodeId) % 256 === 0)
      ring.trim(ring.nodes.filter((nodeId) => this.#node(nodeId).ring === ring));
  }

  /** The token visits the node. */
  #send(node: SimulatedNode, entries: number): void {
    const ring = node.ring!;
    for (const entry of node.outbox.splice(0, entries)) {
      if (entry.kind === EntryKind.MESSAGE) this.counters.messages++;
      ring.append(node.nodeId, entry);
    }
    if (ring.lastSender === node.nodeId) ring.lastSender = null;
    this.#shake(ring);
  }

  /** A ring that is announced to some only may break. */
  #shake(ring: Ring): void {
    if (ring.lastSender !== undefined) return;
    let announced = 0;
    for (const node of this.#nodes) if (node.announced === ring) announced++;
    if (announced === 0 || announced === ring.nodes.length || this.#random() >= this.#chances.unstable)
      return;
    ring.tokenLost = true;
    this.#breakRings();
  }

  #changeRing(reachable: SimulatedNode[]): void {
    let nodes = reachable;
    if (nodes.length > 1 && this.#random() < this.#chances.partialRing) {
      const some = nodes.filter(() => this.#random() < 0.5);
      if (some.length > 0 && some.length < nodes.length && !stable(some)) {
        nodes = some;
        this.counters.partialRings++;
      }
    }
    formRing(nodes, this.#nodes, this.#chances, this.#random, this.counters);
    this.#breakRings();
  }

  /** Places of its ring that the node can have: what it or anybody it can hear has received. */
  #available(node: SimulatedNode): number {
    const ring = node.ring!;
    let available = ring.got(node.nodeId);
    for (const other of this.#nodes) {
      if (other.ring === ring && other.active && other.side === node.side)
        available = Math.max(available, ring.got(other.nodeId));
    }
    return available;
  }

  /** After every fault: in a ring that is not whole any more, the token is with one node and goes no further. */
  #breakRings(): void {
    this.#quiet = false;
    this.#unstable = null;
    for (const ring of new Set(this.#nodes.map((node) => node.ring))) {
      if (ring === null) continue;
      if (wholeRing(ring, this.#nodes)) ring.lastSender = undefined;
      else if (ring.lastSender === undefined) ring.lastSender = ring.nodes[this.#draw(ring.nodes.length)]!;
    }
  }

  /** What the member of a dead engine sends is lost. */
  #accept(node: SimulatedNode, member: SimulatedMember, kind: EntryKind, bytes?: Uint8Array): void {
    this.#quiet = false;
    if (node.members.includes(member)) node.accept(kind, member.process, bytes);
  }

  #quorate(ring: Ring): boolean {
    return ring.nodes.length * 2 > this.#expectedVotes;
  }

  #node(nodeId: number): SimulatedNode {
    const node = this.#nodes.find((one) => one.nodeId === nodeId);
    if (node === undefined) throw new RangeError(`there is no node ${nodeId}`);
    return node;
  }

  /** A whole number from 0 to `below` - 1. */
  #draw(below: number): number {
    return Math.floor(this.#random() * below);
  }
}

/** These nodes are one ring, and nobody else belongs to it. */
function stable(nodes: readonly SimulatedNode[]): boolean {
  const { ring } = nodes[0]!;
  return (
    ring !== null &&
    !ring.tokenLost &&
    ring.nodes.length === nodes.length &&
    nodes.every((node) => node.ring === ring)
  );
}
