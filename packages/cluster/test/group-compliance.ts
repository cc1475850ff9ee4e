import { describe, expect, it } from 'vitest';
import { JoinReason, LeaveReason, RING_SEQ_STEP } from '../src/group/contract.js';
import {
  checkStream,
  eventsOf,
  has,
  inRing,
  lastRing,
  membersSeen,
  type Participant,
  seesAll,
  type TestCluster,
  texts,
  whyJoined,
  whyLeft,
} from './group-participants.js';

/** What every ordered group must do. `cluster` is made once, or for every test. */
export function describeOrderedGroup(name: string, cluster: () => Promise<TestCluster>): void {
  describe(`${name}: compliance`, () => {
    let groups = 0;

    /** Runs a test with members 1, 2, 3 (or those on `nodes`) of a fresh group, all joined; checks what everybody saw at the end. */
    function story(
      title: string,
      nodes: number[],
      body: (
        members: Participant[],
        test: TestCluster,
        join: (nodeId: number) => Promise<Participant>,
      ) => Promise<void>,
    ): void {
      it(title, async () => {
        const test = await cluster();
        const group = `compliance ${++groups} ${title}`.slice(0, 127);
        const all: Participant[] = [];
        const join = async (nodeId: number) => {
          const member = await test.join(nodeId, group);
          all.push(member);
          await test.until('the join is seen by the joiner', () => lastRing(member) !== undefined);
          return member;
        };
        try {
          const members: Participant[] = [];
          for (const nodeId of nodes) members.push(await join(nodeId));
          await test.until('all see all', () => members.every((one) => seesAll(one, members)));
          await body(members, test, join);
          for (const member of all) checkStream(member.self, member.events);
        } finally {
          for (const member of all) member.kill();
        }
      });
    }

    story(
      'shows a joiner its own confchg first, then the ring with its quorum, then messages',
      [1, 2],
      async ([a, b], test, join) => {
        a!.do({ op: 'send', texts: ['before'] });
        await test.until('the message is everywhere', () => has(a!, 'before') && has(b!, 'before'));
        const c = await join(3);
        a!.do({ op: 'send', texts: ['after'] });
        await test.until('the message is with the joiner', () => has(c, 'after'));
        expect(c.events.slice(0, 3)).toMatchObject([
          {
            kind: 'confchg',
            members: [a!.self, b!.self, c.self],
            left: [],
            joined: [[c.self, JoinReason.JOIN]],
          },
          { kind: 'ring', nodes: [1, 2, 3], quorate: true },
          { kind: 'message', text: 'after', from: a!.self },
        ]);
      },
    );

    story('shows each join once, at the same place for all', [1], async ([a], test, join) => {
      const [b, c] = await Promise.all([join(2), join(3)]);
      const all = [a!, b!, c!];
      await test.until('all see all', () => all.every((one) => seesAll(one, all)));
      for (const joiner of all) {
        expect(
          eventsOf(a!.events, 'confchg').filter((one) => one.joined.some(([who]) => who === joiner.self)),
        ).toHaveLength(1);
        expect(whyJoined(a!, joiner)).toBe(JoinReason.JOIN);
      }
      const places = eventsOf(a!.events, 'confchg').map((one) => one.members.join());
      for (const one of [b!, c!]) {
        const seen = eventsOf(one.events, 'confchg').map((event) => event.members.join());
        expect(places.slice(-seen.length)).toEqual(seen);
      }
    });

    story(
      'delivers to all, the sender too, in one order that keeps that of every sender',
      [1, 2, 3],
      async (members, test) => {
        for (const one of members) one.do({ op: 'flood', tag: `n${one.nodeId}`, count: 100, bytes: 40 });
        await test.until('everything is everywhere', () =>
          members.every((one) => texts(one.events).length === 300),
        );
        const order = texts(members[0]!.events);
        for (const one of members) {
          expect(texts(one.events)).toEqual(order);
          const own = eventsOf(one.events, 'message').filter((event) => event.from === one.self);
          expect(own.map((event) => event.text)).toEqual(
            Array.from({ length: 100 }, (_, i) => `n${one.nodeId}-${i}`),
          );
        }
      },
    );

    story('orders joins, leaves and messages alike for all', [1, 2], async ([a, b], test, join) => {
      const flood = { op: 'flood', count: 200, bytes: 32 } as const;
      a!.do({ ...flood, tag: 'a' });
      b!.do({ ...flood, tag: 'b' });
      const c = await join(3);
      c.do({ op: 'send', texts: ['last words'] });
      c.do({ op: 'leave' });
      await test.until('it is all over', () =>
        [a!, b!].every((one) => texts(one.events).length === 401 && seesAll(one, [a!, b!])),
      );
      const order = (one: Participant) =>
        one.events.flatMap((event) =>
          event.kind === 'message' ? [event.text] : event.kind === 'confchg' ? [event.members.join()] : [],
        );
      const join1 = order(b!).findIndex((place) => place.split(',').length === 3);
      const from = order(b!)[0]!;
      expect(order(a!).slice(order(a!).indexOf(from))).toEqual(order(b!));
      expect(join1).toBeGreaterThan(0);
    });

    story('carries empty messages and those of 64 KiB', [1, 2], async ([a, b], test) => {
      a!.do({ op: 'send', texts: [''] });
      a!.do({ op: 'flood', tag: 'large', count: 5, bytes: 65_536 });
      await test.until('all are there', () => [a!, b!].every((one) => texts(one.events).length === 6));
      for (const one of [a!, b!])
        expect(eventsOf(one.events, 'message').map((event) => [event.bytes, event.intact])).toEqual([
          [0, true],
          ...Array.from({ length: 5 }, () => [65_536, true]),
        ]);
    });

    story('throws for a message that is too large, and takes nothing of it', [1, 2], async ([a, b], test) => {
      a!.do({ op: 'sendTooLarge' });
      a!.do({ op: 'send', texts: ['next'] });
      await test.until('the next is there', () => has(a!, 'next') && has(b!, 'next'));
      expect(eventsOf(a!.events, 'thrown')).toEqual([{ kind: 'thrown', name: 'RangeError' }]);
      expect(texts(b!.events)).toEqual(['next']);
    });

    story(
      'refuses what is too much, says when there is room again, and loses nothing',
      [1, 2, 3],
      async (members, test) => {
        const count = 3000;
        const [a] = members;
        a!.do({ op: 'flood', tag: 'f', count, bytes: 1200 });
        await test.until('all is delivered', () =>
          members.every((one) => texts(one.events).length === count),
        );
        expect(eventsOf(a!.events, 'refused').length).toBeGreaterThan(0);
        expect(eventsOf(a!.events, 'drain').length).toBe(eventsOf(a!.events, 'refused').length);
        const expected = Array.from({ length: count }, (_, i) => `f-${i}`);
        for (const one of members) expect(texts(one.events)).toEqual(expected);
        for (const one of members.slice(1)) expect(eventsOf(one.events, 'drain')).toEqual([]);
      },
    );

    story('takes messages from inside a handler, and delivers them later', [1, 2], async ([a, b], test) => {
      b!.do({ op: 'upon', text: 'question', does: 'answer' });
      a!.do({ op: 'send', texts: ['question', 'more'] });
      await test.until('the answer is there', () => has(a!, 'answer') && has(b!, 'answer'));
      expect(texts(b!.events)).toEqual(texts(a!.events));
    });

    story(
      'leaves at a place in the order, after what was sent before',
      [1, 2, 3],
      async ([a, b, c], test, join) => {
        c!.do({ op: 'flood', tag: 'c', count: 20, bytes: 20 });
        c!.do({ op: 'leave' });
        c!.do({ op: 'leave' });
        c!.do({ op: 'send', texts: ['too late'] });
        await test.until('c is gone', () => [a!, b!].every((one) => seesAll(one, [a!, b!])));
        await test.until('c knows', () => eventsOf(c!.events, 'left').length === 2);
        a!.do({ op: 'send', texts: ['afterwards'] });
        await test.until('b has it', () => has(b!, 'afterwards'));
        for (const one of [a!, b!]) {
          expect(whyLeft(one, c!)).toBe(LeaveReason.LEAVE);
          expect(
            texts(
              one.events.slice(
                0,
                one.events.findIndex((e) => e.kind === 'confchg' && e.left.length > 0),
              ),
            ),
          ).toHaveLength(20);
          expect(has(one, 'too late')).toBe(false);
        }
        expect(eventsOf(c!.events, 'thrown')).toHaveLength(1);
        expect(eventsOf(c!.events, 'confchg').flatMap((one) => one.left)).toEqual([]);
        expect(has(c!, 'afterwards')).toBe(false);
        const again = await join(3);
        await test.until('it is back', () => [a!, b!, again].every((one) => seesAll(one, [a!, b!, again])));
      },
    );

    it.each(['close', 'kill'] as const)(
      'shows PROCDOWN for a member that ends by %s, after all that it had sent',
      async (how) => {
        const test = await cluster();
        const group = `compliance ${++groups} end by ${how}`;
        const a = await test.join(1, group);
        const b = await test.join(2, group);
        await test.until('both are in', () => seesAll(a, [a, b]) && seesAll(b, [a, b]));
        if (how === 'close') {
          b.do({ op: 'sendAndClose', texts: ['1', '2', '3'] });
          b.do({ op: 'close' });
          b.do({ op: 'leave' });
        } else {
          b.do({ op: 'send', texts: ['1', '2', '3'] });
          await test.until('b has its own', () => has(b, '3'));
          b.kill();
        }
        await test.until('b is gone', () => seesAll(a, [a]));
        expect(whyLeft(a, b)).toBe(LeaveReason.PROCDOWN);
        expect(texts(a.events)).toEqual(['1', '2', '3']);
        if (how === 'close') {
          expect(has(b, '1')).toBe(false);
          expect(eventsOf(b.events, 'died')).toEqual([]);
        }
        checkStream(a.self, a.events);
        a.kill();
        b.kill();
      },
    );

    it('may be closed before anything was seen of the join, and after leave', async () => {
      const test = await cluster();
      const group = `compliance ${++groups} close at once`;
      const a = await test.join(1, group);
      await test.until('a is in', () => seesAll(a, [a]));
      const b = await test.join(2, group);
      b.do({ op: 'close' });
      const c = await test.join(3, group);
      c.do({ op: 'leave' });
      c.do({ op: 'close' });
      a.do({ op: 'send', texts: ['still here'] });
      await test.until(
        'a is alone',
        () => seesAll(a, [a]) && has(a, 'still here') && eventsOf(c.events, 'left').length === 1,
      );
      const d = await test.join(2, group);
      await test.until('both are in', () => seesAll(a, [a, d]) && seesAll(d, [a, d]));
      for (const one of [a, d]) checkStream(one.self, one.events);
      for (const one of [a, b, c, d]) one.kill();
    });

    story('ends by close or leave from inside a handler', [1, 2, 3], async ([a, b, c], test) => {
      b!.do({ op: 'upon', text: 'go', does: 'close' });
      c!.do({ op: 'upon', text: 'go', does: 'leave' });
      a!.do({ op: 'send', texts: ['go', 'on'] });
      await test.until('a is alone', () => seesAll(a!, [a!]) && has(a!, 'on'));
      expect(whyLeft(a!, b!)).toBe(LeaveReason.PROCDOWN);
      expect(whyLeft(a!, c!)).toBe(LeaveReason.LEAVE);
      expect(b!.events.at(-1)).toMatchObject({ kind: 'message', text: 'go' });
    });

    story('throws out a member whose handler throws', [1, 2], async ([a, b], test) => {
      b!.do({ op: 'upon', text: 'bad', does: 'throw' });
      a!.do({ op: 'send', texts: ['good', 'bad', 'never seen by b'] });
      await test.until('b is out', () => seesAll(a!, [a!]));
      expect(whyLeft(a!, b!)).toBe(LeaveReason.PROCDOWN);
      await test.until('b knows', () => b!.events.at(-1)?.kind === 'died');
      expect(b!.events.at(-1)).toMatchObject({ kind: 'died', error: expect.stringContaining('as told') });
      expect(texts(b!.events)).toEqual(['good', 'bad']);
    });

    it('keeps groups apart, and several memberships of one node', async () => {
      const test = await cluster();
      const [red, blue] = [`compliance ${++groups} red`, `compliance ${++groups} blue`];
      const a = await test.join(1, red);
      const b = await test.join(1, blue);
      const c = await test.join(2, red);
      const d = await test.join(1, red);
      await test.until('all are in', () => seesAll(a, [a, c, d]) && seesAll(c, [a, c, d]) && seesAll(b, [b]));
      a.do({ op: 'send', texts: ['red'] });
      b.do({ op: 'send', texts: ['blue'] });
      await test.until('all is there', () => [a, c, d].every((one) => has(one, 'red')) && has(b, 'blue'));
      for (const one of [a, c, d]) expect(texts(one.events)).toEqual(['red']);
      expect(texts(b.events)).toEqual(['blue']);
      for (const one of [a, b, c, d]) {
        checkStream(one.self, one.events);
        one.kill();
      }
    });

    it.each(['', 'x'.repeat(128), 'umläut', 'line\nbreak'])('rejects the group name %j', async (bad) => {
      await expect((await cluster()).join(1, bad)).rejects.toThrow('printable ASCII');
    });

    story(
      'cut: both sides see NODEDOWN and a ring of their own; heal: NODEUP and one ring',
      [1, 2, 3],
      async (members, test) => {
        const [a, b, c] = members as [Participant, Participant, Participant];
        await test.until('one ring', () => members.every((one) => inRing(one, [1, 2, 3])));
        const before = lastRing(a)!.ring;
        for (const one of members) expect(lastRing(one)!.ring).toBe(before);
        const cut = members.map((one) => one.events.length);
        await test.partition([[1], [2, 3]]);
        await test.until('two sides', () => inRing(a, [1]) && inRing(b, [2, 3]) && inRing(c, [2, 3]));
        expect([lastRing(a)!.quorate, lastRing(b)!.quorate, lastRing(c)!.quorate]).toEqual([
          false,
          true,
          true,
        ]);
        expect(lastRing(b)!.ring).toBe(lastRing(c)!.ring);
        expect(new Set([before, lastRing(a)!.ring, lastRing(b)!.ring]).size).toBe(3);
        for (const who of [b, c]) expect(whyLeft(a, who, cut[0])).toBe(LeaveReason.NODEDOWN);
        for (const one of [b, c]) expect(whyLeft(one, a, cut[one.nodeId - 1])).toBe(LeaveReason.NODEDOWN);
        expect(membersSeen(a)).toEqual([a.self]);
        expect(membersSeen(b)).toEqual([b.self, c.self]);
        a.do({ op: 'send', texts: ['minority'] });
        b.do({ op: 'send', texts: ['majority'] });
        await test.until(
          'each side has its own',
          () => has(a, 'minority') && has(b, 'majority') && has(c, 'majority'),
        );

        const healed = members.map((one) => one.events.length);
        await test.heal();
        await test.until('one ring again', () =>
          members.every((one) => inRing(one, [1, 2, 3]) && seesAll(one, members)),
        );
        for (const one of members) {
          expect(lastRing(one)).toMatchObject({ ring: lastRing(a)!.ring, quorate: true });
          const from = healed[one.nodeId - 1]!;
          const others = one === a ? [b, c] : [a];
          for (const who of others) expect(whyJoined(one, who, from)).toBe(JoinReason.NODEUP);
          expect(whyLeft(one, one)).toBe(undefined);
          expect(eventsOf(one.events.slice(from), 'message')).toEqual([]);
        }
        c.do({ op: 'send', texts: ['together'] });
        await test.until('all have it', () => members.every((one) => has(one, 'together')));
        expect([has(a, 'majority'), has(b, 'minority'), has(c, 'minority')]).toEqual([false, false, false]);
        for (const one of members) {
          const rings = new Set(eventsOf(one.events, 'ring').map(({ ring }) => ring));
          const seqs = [...rings].map((ring) => Number(ring.split('.')[1]));
          seqs.slice(1).forEach((seq, i) => {
            expect(seq).toBeGreaterThanOrEqual((seqs[i] as number) + RING_SEQ_STEP);
          });
        }
      },
    );

    story(
      'announces rings also when the node that comes or goes has no member',
      [1, 2],
      async ([a, b], test) => {
        await test.until('three nodes', () => inRing(a!, [1, 2, 3]) && inRing(b!, [1, 2, 3]));
        const changes = eventsOf(a!.events, 'confchg').length;
        await test.partition([[1, 2], [3]]);
        await test.until('two nodes', () => inRing(a!, [1, 2]) && inRing(b!, [1, 2]));
        expect(lastRing(a!)!.quorate).toBe(true);
        await test.heal();
        await test.until('three nodes', () => inRing(a!, [1, 2, 3]) && inRing(b!, [1, 2, 3]));
        expect(seesAll(a!, [a!, b!]) && seesAll(b!, [a!, b!])).toBe(true);
        expect(eventsOf(a!.events, 'confchg').length).toBeGreaterThanOrEqual(changes);
      },
    );

    story(
      'tells members that their engine died; others see them leave; they can join anew',
      [1, 2, 3],
      async ([a, b, c], test, join) => {
        await test.until('three nodes', () => inRing(a!, [1, 2, 3]) && inRing(b!, [1, 2, 3]));
        const from = a!.events.length;
        await test.killEngine(3);
        await test.until('c is dead', () => c!.events.at(-1)?.kind === 'died');
        c!.do({ op: 'close' });
        await test.until('the others know', () =>
          [a!, b!].every((one) => seesAll(one, [a!, b!]) && inRing(one, [1, 2])),
        );
        expect([LeaveReason.NODEDOWN, LeaveReason.PROCDOWN]).toContain(whyLeft(a!, c!, from));
        expect(lastRing(a!)!.quorate).toBe(true);
        await expect(test.join(3, 'nobody is there')).rejects.toThrow();
        await test.startEngine(3);
        const again = await join(3);
        await test.until('all see all', () =>
          [a!, b!, again].every((one) => seesAll(one, [a!, b!, again]) && inRing(one, [1, 2, 3])),
        );
        expect(whyJoined(a!, again)).toBe(JoinReason.JOIN);
      },
    );
  });
}
