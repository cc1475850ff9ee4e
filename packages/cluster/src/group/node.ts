import { type GroupMember, JoinReason, LeaveReason, type LeftMember } from './contract.js';
import type { SimulationCounters } from './counters.js';
import type { MemberEvent, SimulatedMember } from './member.js';
import { compareMembers, type Entry, EntryKind, type Process, type Ring, sameProcess } from './ring.js';

const NO_BYTES = new Uint8Array(0);

/** Process ids of a node begin here after a crash: they recur. */
export const FIRST_PID = 100;

/** What a node's engine needs of the network. */
export interface NodePort {
  quorate(ring: Ring): boolean;
  /** Its ring is whole, so that what is sent now goes out in it. */
  whole(ring: Ring): boolean;
  readonly counters: SimulationCounters;
}

/**
 * One node: its group engine and the members on it. The engine is corosync's CPG service (exec/cpg.c): it takes the entries of its ring one by one,
 * keeps the list of processes, and queues events for its members.
 */
export class SimulatedNode {
  readonly nodeId: number;
  /** The engine runs. False after a crash too. */
  running = true;
  paused = false;
  /** Nodes with equal numbers can hear each other. */
  side = 0;
  /** The ring that the node takes part in; null: none since its start. */
  ring: Ring | null = null;
  /** The ring that it announced to its members last. */
  announced: Ring | null = null;
  /** Ids of the rings that it was in since then, and never announced. */
  detour = '';
  /** What it heard in a synchronisation that was broken off, and does not forget; `ghost` in chances.ts. */
  stale: readonly Process[] = [];
  /** Highest of all its rings; survives restarts, as corosync's file does. */
  ringSeq = 0;
  /** Accepted, and without a place yet. */
  outbox: Entry[] = [];
  /** Every process that was announced here and has not left, in the order of member lists. */
  processes: Process[] = [];
  /** Those that run on this node, joining and leaving ones too. */
  members: SimulatedMember[] = [];
  nextPid = FIRST_PID;

  readonly #port: NodePort;

  constructor(nodeId: number, port: NodePort) {
    this.nodeId = nodeId;
    this.#port = port;
  }

  /** It takes part in what happens. */
  get active(): boolean {
    return this.running && !this.paused;
  }

  /** It was told of the ring that it is in: what it sends has a place among this ring's messages. */
  get settled(): boolean {
    return this.ring !== null && this.announced === this.ring;
  }

  /** Queues something for the order. */
  accept(kind: EntryKind, process: Process, bytes: Uint8Array = NO_BYTES): void {
    if (kind === EntryKind.MESSAGE && !(this.settled && this.#port.whole(this.ring!)))
      this.#port.counters.acceptedWhileBroken++;
    this.outbox.push({ kind, process, bytes, acceptedIn: this.announced, onlyNodes: null });
  }

  /** Delivers the next entry of its ring. */
  deliverNext(): void {
    const ring = this.ring!;
    const entry = ring.take(this.nodeId);
    switch (entry.kind) {
      case EntryKind.MESSAGE:
        return this.#message(entry, ring);
      case EntryKind.JOIN:
        return this.#joined(entry.process);
      case EntryKind.LEAVE:
        return this.#gone(entry.process, LeaveReason.LEAVE);
      case EntryKind.PROCDOWN:
        return this.#gone(entry.process, LeaveReason.PROCDOWN);
      case EntryKind.ACTIVATE:
        return this.#announce(ring);
    }
  }

  /** The next entry is lost for this node. */
  skipNext(): void {
    const entry = this.ring!.take(this.nodeId);
    if (entry.kind === EntryKind.MESSAGE && this.#listeners(entry.process.group).length > 0)
      this.#port.counters.lostWithoutRing++;
  }

  /** Power off: members and all state but {@link ringSeq} are gone. */
  stop(): void {
    for (const member of this.members) member.end();
    this.running = false;
    this.paused = false;
    this.ring = null;
    this.announced = null;
    this.detour = '';
    this.stale = [];
    this.outbox = [];
    this.processes = [];
    this.members = [];
  }

  /** Tells the members that the quorum of their ring changed. */
  announceQuorum(): void {
    if (this.announced !== null) this.#toAll(this.#ringEvent(this.announced));
  }

  forget(member: SimulatedMember): void {
    this.members = this.members.filter((one) => one !== member);
  }

  #message(entry: Entry, ring: Ring): void {
    const listeners = this.#listeners(entry.process.group);
    if (listeners.length === 0) return;
    const { counters } = this.#port;
    if (entry.onlyNodes !== null && !entry.onlyNodes.has(this.nodeId)) {
      counters.straddlersDropped++;
      return;
    }
    const known = this.processes.some(
      (one) => one.nodeId === entry.process.nodeId && one.group === entry.process.group,
    );
    if (!known) {
      counters.droppedFromUnknownNode++;
      return;
    }
    if (this.announced !== ring) {
      counters.deliveredBeforeAnnouncement++;
      if (!ring.companions.get(this.nodeId)!.has(entry.process.nodeId)) counters.deliveredWithGap++;
    }
    if (!this.#port.quorate(ring)) counters.deliveredWithoutQuorum++;
    if (entry.process.nodeId === this.nodeId && entry.acceptedIn !== ring) counters.deliveredInLaterRing++;
    const sender: GroupMember = { nodeId: entry.process.nodeId, pid: entry.process.pid };
    for (const member of listeners) member.push({ kind: 'message', sender, bytes: entry.bytes });
  }

  #joined(process: Process): void {
    this.#add([process], JoinReason.JOIN);
    const member = this.#local(process);
    if (member === undefined || member.admitted) return;
    // Its first event is the very confchg that the others got, then the ring that it joins in.
    member.admitted = true;
    member.push({
      kind: 'confchg',
      members: this.#list(process.group),
      left: [],
      joined: [{ nodeId: process.nodeId, pid: process.pid, reason: JoinReason.JOIN }],
    });
    if (this.announced !== null) member.push(this.#ringEvent(this.announced));
  }

  #gone(process: Process, reason: LeaveReason): void {
    if (!includes(this.processes, process)) return;
    const member = this.#local(process);
    if (member !== undefined) {
      member.push({ kind: 'left' });
      member.admitted = false;
    }
    this.#remove([process], reason);
  }

  /** cpg_sync_activate: those whom we lost, those who are listed and gone, those who are new; then the ring. */
  #announce(ring: Ring): void {
    const companions = ring.companions.get(this.nodeId)!;
    const lost = this.processes.filter(
      (one) => this.announced?.nodes.includes(one.nodeId) && !companions.has(one.nodeId),
    );
    const left = this.#remove(lost, LeaveReason.NODEDOWN);
    const { counters } = this.#port;
    for (const zombie of this.processes) {
      if (zombie.nodeId === this.nodeId || !ring.nodes.includes(zombie.nodeId)) continue;
      if (includes(ring.processes, zombie)) continue;
      counters.zombiesRemoved++;
      this.#remove([zombie], LeaveReason.PROCDOWN);
    }
    const ghosts = this.stale.filter((one) => !ring.nodes.includes(one.nodeId));
    const fresh = [...ring.processes, ...ghosts].filter((one) => !includes(this.processes, one));
    counters.ghosts += fresh.filter((one) => ghosts.includes(one)).length;
    this.#add(fresh, JoinReason.NODEUP);
    if (left > 0 && fresh.length > 0) counters.leftThenJoined++;
    if (lost.some((one) => includes(fresh, one))) counters.leftAndBack++;
    this.announced = ring;
    this.detour = '';
    this.stale = [];
    this.#toAll(this.#ringEvent(ring));
  }

  /** One confchg for each group concerned. */
  #add(added: readonly Process[], reason: JoinReason): void {
    const fresh = added.filter((one) => !includes(this.processes, one));
    this.processes = [...this.processes, ...fresh].sort(compareMembers);
    for (const group of new Set(fresh.map((one) => one.group))) {
      const joined = fresh
        .filter((one) => one.group === group)
        .map(({ nodeId, pid }) => ({ nodeId, pid, reason }));
      this.#confchg(group, { kind: 'confchg', members: this.#list(group), left: [], joined });
      if (joined.length > 1) this.#port.counters.severalJoined++;
    }
  }

  #remove(removed: readonly Process[], reason: LeaveReason): number {
    this.processes = this.processes.filter((one) => !includes(removed, one));
    for (const group of new Set(removed.map((one) => one.group))) {
      const left: LeftMember[] = removed
        .filter((one) => one.group === group)
        .map(({ nodeId, pid }) => ({ nodeId, pid, reason }));
      this.#confchg(group, { kind: 'confchg', members: this.#list(group), left, joined: [] });
      if (left.length > 1) this.#port.counters.severalLeft++;
    }
    return removed.length;
  }

  #confchg(group: string, event: MemberEvent): void {
    for (const member of this.#listeners(group)) member.push(event);
  }

  #toAll(event: MemberEvent): void {
    for (const member of this.members) if (member.admitted) member.push(event);
  }

  #ringEvent(ring: Ring): MemberEvent {
    return { kind: 'ring', ring: ring.id, nodes: ring.nodes, quorate: this.#port.quorate(ring) };
  }

  #list(group: string): GroupMember[] {
    return this.processes.filter((one) => one.group === group).map(({ nodeId, pid }) => ({ nodeId, pid }));
  }

  #listeners(group: string): SimulatedMember[] {
    return this.members.filter((member) => member.admitted && member.process.group === group);
  }

  #local(process: Process): SimulatedMember | undefined {
    return this.members.find((member) => sameProcess(member.process, process));
  }
}

function includes(list: readonly Process[], process: Process): boolean {
  return list.some((one) => sameProcess(one, process));
}
