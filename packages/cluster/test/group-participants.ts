import { expect } from 'vitest';
import { JoinReason } from '../src/group/contract.js';
import type { Command, RecordedEvent } from './group-recorder.js';

/** One member under test. */
export interface Participant {
  readonly nodeId: number;
  /** `node.pid` */
  readonly self: string;
  readonly events: readonly RecordedEvent[];
  do(command: Command): void;
  /** The process ends without a word. */
  kill(): void;
}

/** Three nodes, 1 to 3, that can hear each other, as every test finds and leaves them. */
export interface TestCluster {
  /** Rejects when the group refuses; the error's message is the group's. */
  join(nodeId: number, group: string): Promise<Participant>;
  /** Goes on until `condition` holds; fails with `what` when that takes too long, or when nothing happens any more. */
  until(what: string, condition: () => boolean): Promise<void>;
  partition(parts: number[][]): Promise<void>;
  heal(): Promise<void>;
  /** The group engine of a node dies; its processes live. */
  killEngine(nodeId: number): Promise<void>;
  startEngine(nodeId: number): Promise<void>;
}

type Of<K extends RecordedEvent['kind']> = Extract<RecordedEvent, { kind: K }>;

export function eventsOf<K extends RecordedEvent['kind']>(
  events: readonly RecordedEvent[],
  kind: K,
): Of<K>[] {
  return events.filter((event): event is Of<K> => event.kind === kind);
}

export const texts = (events: readonly RecordedEvent[]) => eventsOf(events, 'message').map((one) => one.text);

/** What must hold for all that one member ever saw. */
export function checkStream(self: string, events: readonly RecordedEvent[]): void {
  const seen = events.filter(({ kind }) => kind !== 'refused' && kind !== 'thrown');
  if (seen.length === 0) return;
  let members: string[] = [];
  let announced = false;
  let ended = false;
  seen.forEach((event, index) => {
    expect(ended && event.kind !== 'left', 'nothing follows died, nor leave').toBe(false);
    if (event.kind === 'confchg') {
      expect(event.left.length === 0 || event.joined.length === 0, 'left or joined').toBe(true);
      expect(event.left.length + event.joined.length).toBeGreaterThan(0);
      if (index === 0) {
        expect(event.joined).toEqual([[self, JoinReason.JOIN]]);
        expect(event.members).toContain(self);
      } else {
        const left = event.left.map(([one]) => one);
        for (const one of left) expect(members).toContain(one);
        for (const [one] of event.joined) expect(members).not.toContain(one);
        const expected = [
          ...members.filter((one) => !left.includes(one)),
          ...event.joined.map(([one]) => one),
        ].sort(byNumbers);
        expect(event.members).toEqual(expected);
      }
      expect(event.members).toEqual([...event.members].sort(byNumbers));
      members = event.members;
    } else if (event.kind === 'ring') {
      announced = true;
      expect(event.nodes).toEqual([...event.nodes].sort((a, b) => a - b));
      expect(event.nodes).toContain(Number(self.split('.')[0]));
    } else if (event.kind === 'message') {
      expect(announced, 'no message before the first ring').toBe(true);
      expect(event.intact).toBe(true);
      const before = seen[index - 1]!;
      const change =
        before.kind === 'confchg' && [...before.left, ...before.joined].some(([, reason]) => reason === 2);
      expect(change, 'no message between confchg and ring of a ring change').toBe(false);
    }
    ended = event.kind === 'died' || event.kind === 'left';
  });
}

function byNumbers(a: string, b: string): number {
  const [nodeA, pidA] = a.split('.').map(Number) as [number, number];
  const [nodeB, pidB] = b.split('.').map(Number) as [number, number];
  return nodeA - nodeB || pidA - pidB;
}

export const lastRing = (member: Participant) => eventsOf(member.events, 'ring').at(-1);
export const membersSeen = (member: Participant) => eventsOf(member.events, 'confchg').at(-1)?.members ?? [];
export const seesAll = (member: Participant, all: Participant[]) =>
  membersSeen(member).join() ===
  all
    .map((one) => one.self)
    .sort(byNumbers)
    .join();
export const has = (member: Participant, text: string) => texts(member.events).includes(text);
export const whyLeft = (member: Participant, who: Participant, from = 0) =>
  eventsOf(member.events.slice(from), 'confchg')
    .flatMap((one) => one.left)
    .find(([one]) => one === who.self)?.[1];
export const whyJoined = (member: Participant, who: Participant, from = 0) =>
  eventsOf(member.events.slice(from), 'confchg')
    .flatMap((one) => one.joined)
    .find(([one]) => one === who.self)?.[1];
export const inRing = (member: Participant, nodes: number[]) =>
  lastRing(member)?.nodes.join() === nodes.join();
