import { expect } from 'vitest';
import { SimulatedNetwork, TAME_NETWORK } from '../src/group/simulated.js';
import { randomFrom } from './group-random.js';
import { MemberHost } from './member-host.js';

/**
 * Stories of several nodes, one line for each thing that happens. Everything settles before the next line.
 *
 *     up 1 2 3               daemons start and join; the first one founds the log, all regions in sync
 *     1 marks 5 6            node 1's kernel writes regions 5 and 6
 *     1 clears 5             … and has not written 5 for a while
 *     kill 1 | crash 1       its daemon dies | its machine does
 *     leave 1                its daemon gives the log up
 *     cut 1 2 | heal         each of them is alone, the others have each other | all hear each other
 *     meet 1 2               they hear each other, and the others do
 *     reload 1               its table is loaded anew
 *     clean 5 | dirty 5      what all participants say of a region; `in sync 5`, `not in sync 5`, `stale 5`, `given up 5`
 *     writer 2               who keeps the image
 *     writing 1: 5 6         what node 1's kernel is allowed to write
 */
export function tell(story: string): void {
  const network = new SimulatedNetwork({ nodes: [1, 2, 3], random: randomFrom(1), chances: TAME_NETWORK });
  const world = { foundings: 0 };
  const hosts = new Map<number, MemberHost>();
  let incarnations = 0;
  const host = (node: number) => {
    const found = hosts.get(node);
    if (found === undefined) throw new Error(`node ${node} is not up`);
    return found;
  };
  const up = (node: number, boot: number) => {
    const one = new MemberHost(network, world, node, boot, ++incarnations);
    hosts.set(node, one);
    one.join();
  };
  const participants = () => [...hosts.values()].filter(({ member }) => member.operational);
  const all = (what: (one: MemberHost) => unknown) => [...new Set(participants().map(what))];
  const boots = new Map<number, number>();
  const deeds: Record<string, (nodes: number[]) => void> = {
    up: (nodes) => {
      for (const node of nodes) {
        if (network.nodeState(node) === 'down') network.restartNode(node);
        up(node, boots.get(node) ?? node);
        network.run(10_000);
      }
    },
    kill: ([node]) => {
      const { group } = host(node as number);
      if (group !== null) network.killMember(group);
      hosts.delete(node as number);
    },
    leave: ([node]) => {
      host(node as number).group?.leaveNow();
      hosts.delete(node as number);
    },
    crash: ([node]) => {
      network.crashNode(node as number);
      boots.set(node as number, 100 + ++incarnations);
      hosts.delete(node as number);
    },
    cut: (nodes) =>
      network.partition([
        ...nodes.map((node) => [node]),
        ...[[1, 2, 3].filter((one) => !nodes.includes(one))].filter(({ length }) => length > 0),
      ]),
    meet: (nodes) => network.partition([nodes, [1, 2, 3].filter((one) => !nodes.includes(one))]),
    heal: () => network.heal(),
    reload: ([node]) => host(node as number).reload(),
    marks: ([node, ...regions]) => host(node as number).mark(regions),
    clears: ([node, ...regions]) => host(node as number).unmark(regions),
    clean: ([region]) => expect(all(({ state }) => state.clean.get(region as number))).toEqual([true]),
    dirty: ([region]) => expect(all(({ state }) => state.clean.get(region as number))).toEqual([false]),
    'in sync': ([region]) => expect(all(({ state }) => state.inSync.get(region as number))).toEqual([true]),
    'not in sync': ([region]) =>
      expect(all(({ state }) => state.inSync.get(region as number))).toEqual([false]),
    stale: ([region]) => expect(all(({ state }) => state.stale.get(region as number))).toEqual([true]),
    'given up': ([region]) => expect(all(({ state }) => state.givenUp.get(region as number))).toEqual([true]),
    writer: ([node]) => expect(all(({ member }) => member.writer)).toEqual([node]),
    writing: ([node, ...regions]) =>
      expect([...host(node as number).writing].sort((a, b) => a - b)).toEqual(regions),
  };
  for (const line of story
    .split('\n')
    .map((text) => text.trim())
    .filter((text) => text !== '')) {
    const verb = line
      .replace(/[0-9:]/g, ' ')
      .trim()
      .replace(/ +/g, ' ');
    const deed = deeds[verb];
    if (deed === undefined) throw new Error(`nobody knows what "${line}" means`);
    try {
      deed((line.match(/\d+/g) ?? []).map(Number));
    } catch (cause) {
      throw new Error(`at "${line}": ${cause instanceof Error ? cause.message : cause}`, { cause });
    }
    network.run(20_000);
    for (const one of participants()) one.state.checkInvariants();
  }
}
