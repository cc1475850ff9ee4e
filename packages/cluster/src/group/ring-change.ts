import type { SimulationChances } from './chances.js';
import { RING_SEQ_STEP } from './contract.js';
import type { SimulationCounters } from './counters.js';
import type { SimulatedNode } from './node.js';
import { type Entry, EntryKind, type Process, Ring } from './ring.js';

const ACTIVATE: Entry = {
  kind: EntryKind.ACTIVATE,
  process: { nodeId: 0, pid: 0, group: '' },
  bytes: new Uint8Array(0),
  acceptedIn: null,
  onlyNodes: null,
};

/** Its token goes round: all its nodes are in it, at work, and can hear each other. */
export function wholeRing(ring: Ring, all: readonly SimulatedNode[]): boolean {
  if (ring.tokenLost) return false;
  const nodes = all.filter((node) => ring.nodes.includes(node.nodeId));
  return nodes.every((node) => node.ring === ring && node.active && node.side === nodes[0]!.side);
}

/**
 * A ring of `nodes` forms. Those that come from the same ring first give each other what any of them received of it; then the new ring's order begins,
 * with what they had accepted before, as chance will have it, and with the place at which the ring is announced.
 */
export function formRing(
  nodes: readonly SimulatedNode[],
  all: readonly SimulatedNode[],
  chances: SimulationChances,
  random: () => number,
  counters: SimulationCounters,
): void {
  counters.rings++;
  const companies = companiesOf(nodes);
  for (const company of companies) recover(company, all, chances, random, counters);
  const companions = new Map<number, ReadonlySet<number>>();
  for (const company of companies) {
    for (const node of company)
      companions.set(node.nodeId, companionsOf(node, company, random() < chances.detour, counters));
  }
  const seq = Math.max(...nodes.map((node) => node.ringSeq)) + RING_SEQ_STEP;
  const ring = new Ring(
    { nodeId: nodes[0]!.nodeId, seq },
    nodes.map((node) => node.nodeId),
    companions,
    processLists(nodes, random),
  );
  for (const node of nodes) {
    const company = companies.find((one) => one.includes(node))!.map((one) => one.nodeId);
    const merged = node.ring !== null && company.length < nodes.length;
    if (node.announced !== node.ring) node.detour += ` ${node.ring!.id.nodeId}.${node.ring!.id.seq}`;
    node.ring = ring;
    node.ringSeq = seq;
    if (node.outbox[0]?.kind !== EntryKind.MESSAGE) continue;
    // Totem goes on with the rest of a message that it had begun to send. Who was not there for its beginning throws it away.
    if (merged && random() < chances.straddle) node.outbox[0].onlyNodes ??= new Set(company);
    if (random() < chances.early) sendEarly(node, ring, random, counters);
  }
  ring.append(nodes[0]!.nodeId, ACTIVATE);
}

/** The nodes by the rings that they come from; a node without one is alone. */
function companiesOf(nodes: readonly SimulatedNode[]): SimulatedNode[][] {
  const byRing = new Map<Ring | SimulatedNode, SimulatedNode[]>();
  for (const node of nodes) {
    const key = node.ring ?? node;
    const company = byRing.get(key);
    if (company === undefined) byRing.set(key, [node]);
    else company.push(node);
  }
  return [...byRing.values()];
}

function companionsOf(
  node: SimulatedNode,
  company: readonly SimulatedNode[],
  blind: boolean,
  counters: SimulationCounters,
): ReadonlySet<number> {
  const apart = company.filter((one) => one.announced !== node.announced || one.detour !== node.detour);
  if (blind)
    counters.detoursUnnoticed += apart.filter((one) => node.announced?.nodes.includes(one.nodeId)).length;
  const together = blind ? company : company.filter((one) => !apart.includes(one));
  return new Set(together.map((one) => one.nodeId));
}

/** Everybody of a company delivers all that any of them has received in their ring; except who never announced that ring. */
function recover(
  company: readonly SimulatedNode[],
  all: readonly SimulatedNode[],
  chances: SimulationChances,
  random: () => number,
  counters: SimulationCounters,
): void {
  const { ring } = company[0]!;
  if (ring === null) return;
  const reach = Math.max(...company.map((node) => ring.got(node.nodeId)));
  countLost(ring, reach, company, counters);
  for (const node of company) {
    if (node.announced !== ring && random() < chances.abort) abort(node, ring, reach, random, counters);
    while (ring.delivered(node.nodeId) < reach) {
      if (ring.entry(ring.delivered(node.nodeId)).kind === EntryKind.MESSAGE) counters.recovered++;
      node.deliverNext();
    }
    if (node.announced === ring) continue;
    if (random() < chances.ghost) node.stale = ring.processes;
    counters.ringsNeverSeen++;
    if (all.some((other) => other.announced === ring)) counters.ringsSeenByOthersOnly++;
  }
}

/**
 * The ring broke while the node was synchronising: it forgets that, and takes the rest of the ring's entries without having announced it; or loses them,
 * its own excepted.
 */
function abort(
  node: SimulatedNode,
  ring: Ring,
  reach: number,
  random: () => number,
  counters: SimulationCounters,
): void {
  const lost = random() < 0.5;
  while (ring.delivered(node.nodeId) < reach) {
    const { kind, process } = ring.entry(ring.delivered(node.nodeId));
    if (kind === EntryKind.ACTIVATE || (lost && process.nodeId !== node.nodeId)) node.skipNext();
    else {
      if (kind === EntryKind.MESSAGE) counters.deliveredWithoutRing++;
      node.deliverNext();
    }
  }
}

/** Entries beyond `reach` are not for this company: somebody else delivered them, or nobody did. */
function countLost(
  ring: Ring,
  reach: number,
  company: readonly SimulatedNode[],
  counters: SimulationCounters,
): void {
  for (let place = reach; place < ring.length; place++) {
    const entry = ring.entry(place);
    if (entry.kind !== EntryKind.MESSAGE) continue;
    const delivered = ring.nodes.filter(
      (nodeId) => ring.delivered(nodeId) > place && !company.some((node) => node.nodeId === nodeId),
    );
    if (delivered.length === 0) counters.lostUndelivered++;
    else if (delivered.length === 1 && delivered[0] === entry.process.nodeId)
      counters.deliveredBySenderOnly++;
  }
}

/** What every node tells the others of its own processes; by node, in the order in which it came. */
function processLists(nodes: readonly SimulatedNode[], random: () => number): Process[] {
  const left = [...nodes];
  const lists: Process[] = [];
  while (left.length > 0) {
    const [node] = left.splice(Math.floor(random() * left.length), 1);
    lists.push(...node!.processes.filter((one) => one.nodeId === node!.nodeId));
  }
  return lists;
}

/** Messages from before the change get their places before the ring is announced. */
function sendEarly(
  node: SimulatedNode,
  ring: Ring,
  random: () => number,
  counters: SimulationCounters,
): void {
  do {
    counters.messages++;
    ring.append(node.nodeId, node.outbox.shift()!);
  } while (node.outbox[0]?.kind === EntryKind.MESSAGE && random() < 0.5);
}
