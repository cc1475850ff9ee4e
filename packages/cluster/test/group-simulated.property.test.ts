import { describe, expect, it } from 'vitest';
import { SimulationCounters, TAME_NETWORK, WILD_NETWORK } from '../src/group/index.js';
import { differences, numbers, type Play, play } from './group-play.js';

const SEEDS = Array.from({ length: 150 }, (_, index) => index + 1);

/** One order: what two members both delivered, in whatever rings, they delivered in the same sequence; that of each sender as it was sent. */
function checkOrder({ lives }: Play): void {
  const seen = lives.map((life) => life.segments.flatMap((segment) => segment.messages));
  const sets = seen.map((messages) => new Set(messages));
  seen.forEach((messages, index) => {
    expect(sets[index]!.size, 'nothing is delivered twice').toBe(messages.length);
    const next = new Map<string, number>();
    for (const message of messages) {
      const [sender, number] = message.split(':') as [string, string];
      if (Number(number) < (next.get(sender) ?? 0)) throw new Error(`${message} is late`);
      next.set(sender, Number(number) + 1);
    }
    for (let other = index + 1; other < seen.length; other++) {
      const mine = messages.filter((message) => sets[other]!.has(message));
      const theirs = seen[other]!.filter((message) => sets[index]!.has(message));
      if (mine.join() !== theirs.join()) expect(theirs).toEqual(mine);
    }
  });
}

/** At rest there is one ring and one list of members, and nothing under way. */
function checkRest({ network, lives }: Play): void {
  const alive = lives.filter((life) => life.member.state === 'joined');
  const members = alive.map((life) => numbers(life.member.self)).sort();
  const rings = new Set(alive.map((life) => life.segments.at(-1)!.ring));
  expect(alive.length).toBe(network.members().length);
  expect(rings.size).toBeLessThanOrEqual(1);
  for (const life of alive) {
    expect(life.members.map(numbers).sort()).toEqual(members);
    expect(life.member.undelivered, 'a sender gets all its own').toBe(0);
    const own = life.segments.flatMap((one) => one.messages).filter((one) => one.startsWith(`${life.name}:`));
    expect(own).toHaveLength(life.sent);
  }
}

describe('a simulated network under random faults', () => {
  it('has one order, keeps that of every sender, and ends with one ring and one list of members', () => {
    for (const seed of SEEDS) {
      const story = play(seed, WILD_NETWORK);
      checkOrder(story);
      checkRest(story);
    }
  });

  it('is virtually synchronous when tame', () => {
    let changes = 0;
    for (const seed of SEEDS) {
      const story = play(seed, TAME_NETWORK);
      checkOrder(story);
      checkRest(story);
      expect(differences(story.lives, 'messages'), `seed ${seed}`).toEqual([]);
      changes += story.lives.reduce((sum, life) => sum + life.segments.length, 0);
    }
    expect(changes).toBeGreaterThan(1000);
  });

  it('is virtually synchronous for messages stamped with their ring, unless a ring was announced to some only', () => {
    const chances = { ...WILD_NETWORK, abort: 0, detour: 0 };
    let unstamped = 0;
    for (const seed of SEEDS) {
      const story = play(seed, chances);
      expect(differences(story.lives, 'stamped'), `seed ${seed}`).toEqual([]);
      unstamped += differences(story.lives, 'messages').length;
    }
    expect(unstamped, 'without the stamp they differ').toBeGreaterThan(0);
  });

  it.each([
    ['rings that some never announce', { ...TAME_NETWORK, abort: 0.5, detour: 1 }],
    ['everything', WILD_NETWORK],
  ])('is not, stamp or no stamp, with %s', (_name, chances) => {
    const found = SEEDS.filter((seed) => differences(play(seed, chances).lives, 'stamped').length > 0);
    expect(found.length).toBeGreaterThan(0);
  });

  it('reaches every situation that it counts', () => {
    const total = new SimulationCounters();
    for (const seed of SEEDS) {
      const { counters } = play(seed, { ...WILD_NETWORK, ghost: 0.2 }).network;
      for (const name of Object.keys(total) as (keyof SimulationCounters)[]) total[name] += counters[name];
    }
    const never = Object.entries(total).filter(([, count]) => count === 0);
    expect(never).toEqual([]);
  });

  it('replays exactly from its seed', () => {
    for (const seed of SEEDS.slice(0, 5))
      expect(play(seed, WILD_NETWORK).log).toEqual(play(seed, WILD_NETWORK).log);
    expect(play(1, WILD_NETWORK).log).not.toEqual(play(2, WILD_NETWORK).log);
  });
});
