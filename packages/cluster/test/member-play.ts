import { expect } from 'vitest';
import { SimulatedNetwork, TAME_NETWORK, WILD_NETWORK } from '../src/group/simulated.js';
import { randomFrom } from './group-random.js';
import { MemberHost, REGIONS } from './member-host.js';

/** Situations that the runs came to: a property that is never put to the test proves nothing. */
export const reached = {
  founded: 0,
  foundedAgain: 0,
  snapshots: 0,
  contributions: 0,
  otherRing: 0,
  orphans: 0,
  committed: 0,
};

export function play(seed: number, chances = WILD_NETWORK): void {
  const draw = randomFrom(seed);
  const below = (n: number) => Math.floor(draw() * n);
  const nodes = below(3) === 0 ? [1, 2] : [1, 2, 3];
  const network = new SimulatedNetwork({ nodes, random: draw, chances });
  const world = { foundings: 0 };
  let nonces = 1;
  let boots = 1;
  const hosts = new Map(nodes.map((node) => [node, new MemberHost(network, world, node, boots++, nonces++)]));
  /** What dead kernels were writing must stay in doubt: nobody recovers in these runs. */
  const orphans = new Set<number>();
  const all = () => [...hosts.values()];
  for (const host of all()) host.join();

  const check = () => {
    const seen = new Map<string, MemberHost>();
    for (const host of all()) {
      if (host.member.phase !== 'active') continue;
      host.state.checkInvariants();
      const { nodeId, seq } = host.member.agreedRing;
      // A ring that breaks can leave its parts with different last messages; hellos set that right. Without such tails positions alone identify a state.
      const tail = chances === TAME_NETWORK ? '' : ` ${host.state.hash.high} ${host.state.hash.low}`;
      const key = `${nodeId}.${seq} ${host.state.position}${tail}`;
      const other = seen.get(key);
      if (other !== undefined) {
        expect(`${key} ${host.state.hash.high}`).toBe(`${key} ${other.state.hash.high}`);
        expect(host.state.clean.equals(other.state.clean)).toBe(true);
        expect(host.state.inSync.equals(other.state.inSync)).toBe(true);
      }
      seen.set(key, host);
    }
  };
  const tally = ({ member: { counters } }: MemberHost) => {
    reached.snapshots += counters.snapshotsTaken;
    reached.contributions += counters.contributions;
    reached.otherRing += counters.otherRing;
  };
  const actions: (() => void)[] = [
    () => all()[below(nodes.length)]?.mark(Array.from({ length: 1 + below(3) }, () => below(REGIONS))),
    () => all()[below(nodes.length)]?.mark(Array.from({ length: 1 + below(3) }, () => below(REGIONS))),
    () => {
      const host = all()[below(nodes.length)] as MemberHost;
      host.unmark([...host.writing].slice(0, 2));
    },
  ];
  /** Without it only an older history would be left, and a core log has no image that says more (docs/cluster-protocol.md, "Known limits"). */
  const isLastToKnow = (host: MemberHost) => {
    const up = all().filter(({ member }) => member.operational);
    return up.length < 2 || !up.includes(host);
  };
  const faults: (() => void)[] = [
    () => network.partition([nodes.filter((node) => node % 2 === 0), nodes.filter((node) => node % 2 === 1)]),
    () => network.partition(nodes.map((node) => [node])),
    () => network.heal(),
    () => network.heal(),
    () => {
      const node = nodes[below(nodes.length)] as number;
      if (network.nodeState(node) === 'running') network.pauseNode(node);
    },
    () => {
      for (const node of nodes) if (network.nodeState(node) === 'paused') network.resumeNode(node);
    },
    () => {
      const node = nodes[below(nodes.length)] as number;
      const dead = hosts.get(node) as MemberHost;
      if (isLastToKnow(dead)) return;
      for (const region of dead.writing) if (!dead.alone.has(region)) orphans.add(region);
      reached.orphans += dead.writing.size;
      tally(dead);
      network.crashNode(node);
      network.restartNode(node);
      const host = new MemberHost(network, world, node, boots++, nonces++);
      hosts.set(node, host);
      host.join();
    },
  ];
  // A daemon dies and another takes its place; the kernel, and so the marks, live on.
  faults.push(() => {
    const node = nodes[below(nodes.length)] as number;
    const dead = hosts.get(node) as MemberHost;
    if (dead.group === null || isLastToKnow(dead)) return;
    for (const region of dead.writing) if (!dead.alone.has(region)) orphans.add(region);
    tally(dead);
    network.killMember(dead.group);
    const host = new MemberHost(network, world, node, Number.parseInt(dead.bootId, 16), nonces++);
    hosts.set(node, host);
    host.join();
  });
  const steps = 200 + below(400);
  for (let step = 0; step < steps; step++) {
    if (draw() < 0.1) (actions[below(actions.length)] as () => void)();
    if (draw() < 0.01) (faults[below(faults.length)] as () => void)();
    network.step();
    check();
  }
  for (const node of nodes) if (network.nodeState(node) === 'paused') network.resumeNode(node);
  network.heal();
  for (let step = 0; step < 20_000 && network.step(); step++) if (step % 16 === 0) check();
  check();
  reached.founded++;
  reached.foundedAgain += world.foundings - 1;
  for (const host of all()) {
    tally(host);
    reached.committed += host.writing.size;
    expect(host.refusedBecause).toBe(null);
    expect(`node ${host.nodeId} ${host.member.phase}`).toBe(`node ${host.nodeId} active`);
    expect(`${host.nodeId} ${JSON.stringify(host.pending)} ${host.member.committed}`).toBe(
      `${host.nodeId} [] ${host.member.committed}`,
    );
    const others = all().map((one) => one.state.hash.high);
    expect(new Set(others).size).toBe(1);
    for (const region of orphans) {
      const known = `orphan ${region} clean ${host.state.clean.get(region)}`;
      expect(known).toBe(`orphan ${region} clean false`);
    }
    // What a kernel may be writing is dirty for all.
    for (const region of host.writing)
      for (const one of all()) expect(one.state.clean.get(region)).toBe(false);
  }
}
