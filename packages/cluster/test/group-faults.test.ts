import { describe, expect, it } from 'vitest';
import { SimulatedNetwork, type SimulatedNetworkInit, TAME_NETWORK } from '../src/group/index.js';
import { eventsOf, texts } from './group-participants.js';
import { randomFrom } from './group-random.js';
import { encodeText, type RecordedEvent, Recorder } from './group-recorder.js';

const STEPS_MAX = 100_000;

function cluster(seed: number, init: Partial<SimulatedNetworkInit> = {}) {
  const network = new SimulatedNetwork({
    nodes: [1, 2, 3],
    random: randomFrom(seed),
    ...init,
    chances: { ...TAME_NETWORK, unstable: 0, ...init.chances },
  });
  const join = (nodeId: number, pid?: number) => {
    const events: RecordedEvent[] = [];
    const recorder = new Recorder((event) => events.push(event));
    const member = network.join(nodeId, 'g', recorder.handlers, pid === undefined ? {} : { pid });
    recorder.attach(member);
    return { member, events, send: (text: string) => member.send(encodeText(text)) };
  };
  const rest = () => expect(network.run(STEPS_MAX)).toBeLessThan(STEPS_MAX);
  const [a, b, c] = [join(1, 11), join(2, 22), join(3, 33)];
  rest();
  const forget = () => {
    for (const { events } of [a, b, c]) events.length = 0;
  };
  forget();
  return { network, join, rest, forget, a, b, c };
}

/** Plays `story` from seed 1 on until it returns true; fails when it never does. */
function withinSeeds(story: (seed: number) => boolean): void {
  for (let seed = 1; seed <= 300; seed++) if (story(seed)) return;
  throw new Error('not within 300 seeds');
}

const NODEDOWN = 2;
const PROCDOWN = 3;
const NODEUP = 2;

describe('a simulated network', () => {
  it('shows a paused node the others as gone and back, with quorum, and what it missed not at all', () => {
    const { network, rest, a, b, c } = cluster(1);
    network.pauseNode(1);
    rest();
    b.send('missed');
    rest();
    network.resumeNode(1);
    rest();
    expect(a.events).toMatchObject([
      {
        kind: 'confchg',
        members: ['1.11'],
        left: [
          ['2.22', NODEDOWN],
          ['3.33', NODEDOWN],
        ],
      },
      {
        kind: 'confchg',
        members: ['1.11', '2.22', '3.33'],
        joined: expect.arrayContaining([
          ['2.22', NODEUP],
          ['3.33', NODEUP],
        ]),
      },
      { kind: 'ring', nodes: [1, 2, 3], quorate: true },
    ]);
    expect(texts(c.events)).toEqual(['missed']);
    expect(eventsOf(c.events, 'ring').map((event) => event.nodes.length)).toEqual([2, 3]);
  });

  it('lets a pause pass unnoticed when no ring formed without the node', () => {
    const { network, rest, a, b } = cluster(1, { chances: { ringChange: 0 } });
    network.pauseNode(1);
    b.send('held up');
    network.resumeNode(1);
    rest();
    expect(a.events).toMatchObject([{ kind: 'message', text: 'held up' }]);
  });

  it('lets a busy sender that is cut off deliver what nobody else gets', () => {
    withinSeeds((seed) => {
      const { network, rest, a, b, c } = cluster(seed);
      for (let message = 0; message < 9; message++) a.send(`${message}`);
      for (let step = 0; step < 3; step++) network.step();
      network.partition([[1], [2, 3]]);
      rest();
      const inOldRing = a.events.findIndex((event) => event.kind === 'confchg');
      const old = texts(a.events.slice(0, inOldRing));
      expect(texts(b.events)).toEqual(texts(c.events));
      expect(old.slice(0, texts(b.events).length)).toEqual(texts(b.events));
      return old.length > texts(b.events).length && network.counters.deliveredBySenderOnly > 0;
    });
  });

  it('delivers what was accepted in a broken ring after the next confchg', () => {
    withinSeeds((seed) => {
      const { network, rest, a, b } = cluster(seed);
      network.partition([[1, 2], [3]]);
      a.send('in between');
      rest();
      for (const { events } of [a, b]) expect(texts(events)).toEqual(['in between']);
      return [a, b].every(({ events }) => events.map(({ kind }) => kind).join() === 'confchg,ring,message');
    });
  });

  it('delivers a message that straddles a merge to those who were with its sender only, in the new ring', () => {
    withinSeeds((seed) => {
      const { network, rest, forget, a, b, c } = cluster(seed, { chances: { straddle: 1, ringChange: 0.9 } });
      network.partition([[1, 2], [3]]);
      rest();
      forget();
      network.heal();
      a.send('cut in two');
      a.send('whole');
      rest();
      // Else the first, or both, went out in the old ring.
      if (network.counters.straddlersDropped === 0 || texts(c.events).length === 0) return false;
      for (const { events } of [a, b]) {
        expect(events.map(({ kind }) => kind)).toEqual(['confchg', 'ring', 'message', 'message']);
        expect(texts(events)).toEqual(['cut in two', 'whole']);
      }
      expect(texts(c.events)).toEqual(['whole']);
      return true;
    });
  });

  it('announces a ring at some nodes only, and gives its messages to the others without it', () => {
    withinSeeds((seed) => {
      const { network, rest, a, b } = cluster(seed, { chances: { abort: 1, detour: 1, unstable: 0.3 } });
      network.partition([[1, 2], [3]]);
      for (let step = 0; step < 20; step++) {
        network.step();
        if (a.events.at(-1)?.kind === 'ring') a.send('of the new ring');
      }
      rest();
      const rings = (events: RecordedEvent[]) => eventsOf(events, 'ring').length;
      return (
        rings(a.events) > rings(b.events) &&
        texts(b.events).length > 0 &&
        network.counters.deliveredWithoutRing > 0
      );
    });
  });

  it('shows an engine that was stopped as PROCDOWN, then the ring; one that was killed as NODEDOWN', () => {
    for (const cleanly of [true, false]) {
      const { network, rest, a, c } = cluster(1);
      network.killEngine(3, cleanly);
      rest();
      expect(a.events).toMatchObject([
        { kind: 'confchg', left: [['3.33', cleanly ? PROCDOWN : NODEDOWN]] },
        { kind: 'ring', nodes: [1, 2], quorate: true },
      ]);
      expect(c.events).toMatchObject([{ kind: 'died' }]);
      expect(() => network.join(3, 'g', new Recorder(() => {}).handlers)).toThrow('no group engine');
    }
  });

  it('shows an engine that is back at once as NODEDOWN and a ring of the same nodes; its old processes are gone', () => {
    const { network, join, rest, a } = cluster(1);
    network.killEngine(3);
    network.restartNode(3);
    const again = join(3, 33);
    rest();
    expect(a.events).toMatchObject([
      { kind: 'confchg', left: [['3.33', NODEDOWN]] },
      { kind: 'ring', nodes: [1, 2, 3] },
      { kind: 'confchg', joined: [['3.33', 1]] },
    ]);
    expect(again.events.length).toBeGreaterThan(0);
    expect(network.counters.reusedPids).toBe(1);
  });

  it('tells nothing to the members of a crashed host, and several go in one confchg', () => {
    const { network, join, rest, forget, a, c } = cluster(1);
    join(3, 44);
    rest();
    forget();
    network.crashNode(3);
    rest();
    expect(c.events).toEqual([]);
    expect(a.events[0]).toMatchObject({
      left: [
        ['3.33', NODEDOWN],
        ['3.44', NODEDOWN],
      ],
    });
  });

  it('does not let a slow member hold up the others, nor lose anything of what waits for it', () => {
    const { network, rest, a, b, c } = cluster(1, { undeliveredMax: 1000 });
    network.pauseMember(c.member);
    for (let message = 0; message < 500; message++) a.send(`${message}`);
    rest();
    expect(texts(b.events)).toHaveLength(500);
    expect(c.events).toEqual([]);
    expect(c.member.lag).toBe(500);
    network.resumeMember(c.member);
    rest();
    expect(texts(c.events)).toEqual(texts(b.events));
  });

  it('forms a ring anew when its token is lost, with nobody coming or going', () => {
    const { network, rest, a, b } = cluster(1);
    network.loseToken(2);
    rest();
    for (const { events } of [a, b])
      expect(events).toMatchObject([{ kind: 'ring', nodes: [1, 2, 3], quorate: true }]);
  });

  it('announces a ring again when its quorum changes', () => {
    const { network, rest, a } = cluster(1);
    network.setExpectedVotes(5);
    network.setExpectedVotes(6);
    network.setExpectedVotes(5);
    rest();
    expect(eventsOf(a.events, 'ring').map((event) => event.quorate)).toEqual([false, true]);
  });

  it('takes back the bytes that it lent to a handler', () => {
    const { network, rest, a } = cluster(1);
    let kept: Uint8Array = new Uint8Array(0);
    network.join(2, 'g', {
      ...new Recorder(() => {}).handlers,
      deliver: (_sender, bytes) => {
        kept = bytes;
      },
    });
    rest();
    a.send('lent');
    rest();
    expect([...kept]).toEqual([0xee, 0xee, 0xee, 0xee]);
  });

  it('ends at once by leaveNow, and leaves at a place in the order', () => {
    const { rest, a, b } = cluster(1);
    b.send('last');
    b.member.leaveNow();
    rest();
    expect(b.events).toEqual([]);
    expect(a.events).toMatchObject([{ text: 'last' }, { kind: 'confchg', left: [['2.22', 1]] }]);
  });
});
