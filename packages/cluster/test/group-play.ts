import { expect } from 'vitest';
import {
  type GroupMember,
  type SimulatedMember,
  SimulatedNetwork,
  type SimulatedNetworkInit,
} from '../src/group/index.js';
import { randomFrom } from './group-random.js';

/** What one member delivered between two rings that it was told of. */
export interface Segment {
  readonly ring: string;
  readonly messages: string[];
  /** Of those, the messages that were stamped with this very ring. */
  readonly stamped: string[];
  /** Who left between this ring and the next. */
  readonly left: Set<string>;
}

/** One life of one member. */
export interface Life {
  readonly name: string;
  readonly member: SimulatedMember;
  readonly segments: Segment[];
  members: readonly GroupMember[];
  sent: number;
  died: boolean;
}

export interface Play {
  readonly network: SimulatedNetwork;
  readonly lives: Life[];
  /** Everything that happened, for replays. */
  readonly log: string[];
}

const STEPS_MAX = 200_000;
export const numbers = (member: GroupMember) => `${member.nodeId}.${member.pid}`;

/** Random sends and faults on three to five nodes; then all is healed and brought to rest. */
export function play(
  seed: number,
  chances: NonNullable<SimulatedNetworkInit['chances']>,
  steps = 1500,
): Play {
  const random = randomFrom(seed);
  const nodes = [1, 2, 3, 4, 5].slice(0, 3 + Math.floor(random() * 3));
  const network = new SimulatedNetwork({ nodes, random, chances, undeliveredMax: 8 });
  const lives: Life[] = [];
  const log: string[] = [];
  const one = <T>(list: readonly T[]): T | undefined => list[Math.floor(random() * list.length)];
  const inState = (state: string) => nodes.filter((nodeId) => network.nodeState(nodeId) === state);
  const join = (nodeId: number) => lives.push(live(network, nodeId, lives.length, log));
  for (const nodeId of nodes) join(nodeId);

  const faults: (() => void)[] = [
    () => network.partition([nodes.filter(() => random() < 0.5)]),
    () => network.partition([nodes.filter(() => random() < 0.3), nodes.filter(() => random() < 0.5)]),
    () => network.heal(),
    () => network.heal(),
    () => network.heal(),
    () => inState('running').length > 1 && network.crashNode(one(inState('running'))!),
    () => inState('running').length > 1 && network.killEngine(one(inState('running'))!, random() < 0.5),
    () => inState('running').length > 1 && network.pauseNode(one(inState('running'))!),
    () => inState('paused').forEach((nodeId) => void network.resumeNode(nodeId)),
    () => inState('paused').forEach((nodeId) => void network.resumeNode(nodeId)),
    () => restart(network, inState('down'), join),
    () => restart(network, inState('down'), join),
    () => network.members().length > 1 && network.killMember(one(network.members())!),
    () => network.members().length > 1 && one(network.members())!.leaveNow(),
    () => inState('running').length > 0 && join(one(inState('running'))!),
    () => network.pauseMember(one(network.members())!),
    () => network.members().forEach((member) => void network.resumeMember(member)),
    () => network.loseToken(one(nodes)!),
    () => network.setExpectedVotes(nodes.length - 1 + Math.floor(random() * 3)),
  ];
  const faultChance = random() < 0.5 ? 0.01 : 0.05;
  const sendChance = 0.1 + random() * 0.5;
  for (let step = 0; step < steps; step++) {
    if (random() < faultChance && network.members().length > 0) one(faults)!();
    if (random() < sendChance) sendOne(one(lives.filter((life) => life.member.state === 'joined')));
    network.step();
  }
  network.heal();
  network.setExpectedVotes(nodes.length);
  for (const nodeId of inState('paused')) network.resumeNode(nodeId);
  for (const { member } of lives) network.resumeMember(member);
  restart(network, inState('down'), join);
  expect(network.run(STEPS_MAX), 'it comes to rest').toBeLessThan(STEPS_MAX);
  return { network, lives, log };
}

function restart(network: SimulatedNetwork, down: readonly number[], join: (nodeId: number) => void): void {
  for (const nodeId of down) {
    network.restartNode(nodeId);
    join(nodeId);
  }
}

function sendOne(life: Life | undefined): void {
  const ring = life?.segments.at(-1)?.ring;
  if (life === undefined || ring === undefined) return;
  const text = `${life.name}:${life.sent} ${ring}`;
  if (life.member.send(Uint8Array.from(text, (character) => character.charCodeAt(0)))) life.sent++;
}

function live(network: SimulatedNetwork, nodeId: number, index: number, log: string[]): Life {
  const segments: Segment[] = [];
  const left: string[] = [];
  const member = network.join(nodeId, 'g', {
    deliver: (_sender, bytes) => {
      const text = String.fromCharCode(...bytes);
      const [message, stamp] = text.split(' ') as [string, string];
      const segment = segments.at(-1)!;
      segment.messages.push(message);
      if (stamp === segment.ring) segment.stamped.push(message);
      log.push(`${life.name} ${text}`);
    },
    confchg: (members, gone, joined) => {
      life.members = members;
      left.push(...gone.map(numbers));
      log.push(`${life.name} confchg ${members.map(numbers)} ${JSON.stringify([gone, joined])}`);
    },
    ring: (ring, _nodes, quorate) => {
      for (const gone of left.splice(0)) segments.at(-1)?.left.add(gone);
      const id = `${ring.nodeId}.${ring.seq}`;
      if (segments.at(-1)?.ring !== id)
        segments.push({ ring: id, messages: [], stamped: [], left: new Set() });
      log.push(`${life.name} ring ${id} ${quorate}`);
    },
    drain: () => log.push(`${life.name} drain`),
    died: () => {
      life.died = true;
      log.push(`${life.name} died`);
    },
  });
  const life: Life = { name: `m${index}`, member, segments, members: [], sent: 0, died: false };
  return life;
}

/**
 * Pairs that went from one ring to a later one, neither seeing the other leave on the way, and delivered different messages until then.
 * A member that joined in the first of these rings has the end of what was delivered there.
 */
export function differences(lives: readonly Life[], which: 'messages' | 'stamped'): string[] {
  const found: string[] = [];
  lives.forEach((a, index) => {
    for (const b of lives.slice(index + 1)) found.push(...differencesOf(a, b, which));
  });
  return found;
}

function differencesOf(a: Life, b: Life, which: 'messages' | 'stamped'): string[] {
  const found: string[] = [];
  const places = new Map(b.segments.map((segment, place) => [segment.ring, place]));
  let from = -1;
  a.segments.forEach((segment, to) => {
    const there = places.get(segment.ring);
    if (there === undefined) return;
    if (from >= 0) {
      const mine = a.segments.slice(from, to);
      const theirs = b.segments.slice(places.get(a.segments[from]!.ring), there);
      const apart =
        mine.some((one) => one.left.has(numbers(b.member.self))) ||
        theirs.some((one) => one.left.has(numbers(a.member.self)));
      const one = mine.flatMap((part) => part[which]);
      const other = theirs.flatMap((part) => part[which]);
      const common = Math.min(one.length, other.length);
      const joinedThere = from === 0 || theirs[0] === b.segments[0];
      const same =
        (one.length === other.length || joinedThere) &&
        one.slice(one.length - common).join() === other.slice(other.length - common).join();
      if (!apart && !same) found.push(`${a.name} ${b.name} before ${segment.ring}: ${one} | ${other}`);
    }
    from = to;
  });
  return found;
}
