import { freshControl, type LogMemory, parseConstructor, ReplyKind } from '@dmlog/log';
import { RequestType } from '@dmlog/protocol';
import { expect, it } from 'vitest';
import { ClusterEffects } from '../src/cluster-effects.js';
import { ClusteredLog } from '../src/clustered-log.js';
import { type SimulatedMember, SimulatedNetwork, TAME_NETWORK } from '../src/group/simulated.js';
import { Replica } from '../src/replica.js';
import { Presence } from '../src/state.js';
import { randomFrom } from './group-random.js';
import { Wire } from './kernel-model.js';

const REGIONS = 8;
const REGION_SECTORS = 8;
const memory = (): LogMemory => ({ control: freshControl(), body: new Uint8Array(0) });

/** One daemon with a core log, alone in its group. */
class Daemon {
  readonly replica: Replica;
  readonly #network = new SimulatedNetwork({ nodes: [1], random: randomFrom(1), chances: TAME_NETWORK });
  readonly #effects = new ClusterEffects();
  readonly #wire = new Wire();
  readonly #answers = new Map<number, number>();
  #group: SimulatedMember | null = null;

  constructor() {
    this.replica = new Replica({
      parameters: parseConstructor(`${REGIONS * REGION_SECTORS} clustered-core ${REGION_SECTORS}`, {
        clustered: true,
      }),
      bootId: '1'.padStart(32, '0'),
      lazyClear: { milliseconds: 0, regionsMax: 8 },
      blockBytes: 512,
      deviceNumber: null,
    });
  }

  /** Asks and waits for the answer: 0 or a positive errno. */
  ask(log: ClusteredLog, type: keyof typeof RequestType, ...words: number[]): number {
    const view = this.#wire.request('LVM-test', 1, { type: RequestType[type], words });
    const { seq } = this.#wire;
    this.#step((effects) => {
      log.request(view, 0, effects);
      if (effects.reply !== ReplyKind.LATER)
        this.#answers.set(seq, effects.reply === ReplyKind.ERROR ? effects.errno : 0);
    });
    this.#network.run(10_000);
    const answer = this.#answers.get(seq);
    if (answer === undefined) throw new Error(`${type} is not answered`);
    return answer;
  }

  get needReload(): number[] {
    return [...(this.replica.state?.needReload ?? [-1])];
  }

  #step(event: (effects: ClusterEffects) => void): void {
    const effects = this.#effects;
    effects.reset();
    event(effects);
    const { late } = effects;
    for (let i = 0; i < late.count; i++) this.#answers.set(late.seq[i] as number, late.errno[i] as number);
    late.count = 0;
    const { join, flushLegs } = effects;
    if (join) this.#join();
    if (flushLegs) this.#step((e) => this.replica.legsFlushed(true, e));
    for (const bytes of this.replica.takeOutbox()) this.#group?.send(bytes);
  }

  #join(): void {
    const { replica } = this;
    this.#group = this.#network.join(1, 'log', {
      confchg: (members, left, joined) => this.#step((e) => replica.confchg(members, left, joined, e)),
      ring: (ring, nodes, quorate) => this.#step((e) => replica.ringChanged(ring, nodes, quorate, e)),
      deliver: (sender, bytes) => this.#step((e) => replica.deliver(sender, bytes, e)),
      drain: () => {},
      died: () => {},
    });
    replica.joined(this.#group.self, 1);
  }
}

/** A daemon whose kernel writes region 5 on one leg, and its table, suspended. */
function suspended() {
  const daemon = new Daemon();
  const kept = memory();
  const table = new ClusteredLog(daemon.replica, false, kept);
  daemon.ask(table, 'RESUME');
  daemon.ask(table, 'SET_REGION_SYNC', 5, 0);
  expect(daemon.replica.state?.givenUp.get(5)).toBe(true);
  daemon.ask(table, 'PRESUSPEND');
  daemon.ask(table, 'POSTSUSPEND');
  return { daemon, table, kept };
}

it('a mirror that is resumed with the table it had is not taken for reloaded', () => {
  const { daemon, table } = suspended();
  expect(daemon.ask(table, 'RESUME')).toBe(0);
  const { state } = daemon.replica;
  expect(state?.nodes.get(1)?.presence).toBe(Presence.LIVE);
  expect([state?.givenUp.get(5), state?.work.get(5), daemon.needReload]).toEqual([true, false, [1]]);
});

it('… nor is it when the daemon has found the table in its memory', () => {
  const { daemon, kept } = suspended();
  const found = new ClusteredLog(daemon.replica, false);
  expect(found.restore(kept)).toBeNull();
  daemon.ask(found, 'RESUME');
  expect([daemon.replica.state?.work.get(5), daemon.needReload]).toEqual([false, [1]]);
});

it('… and is with another one', () => {
  const { daemon, table } = suspended();
  const other = new ClusteredLog(daemon.replica, false, memory());
  daemon.ask(other, 'RESUME');
  daemon.ask(table, 'DTR');
  expect([daemon.replica.state?.work.get(5), daemon.needReload]).toEqual([true, []]);
});

it('… and is with the same one, if nothing was written on one leg', () => {
  const daemon = new Daemon();
  const table = new ClusteredLog(daemon.replica, false, memory());
  for (const type of ['RESUME', 'PRESUSPEND', 'POSTSUSPEND', 'RESUME'] as const)
    expect(daemon.ask(table, type)).toBe(0);
  expect([daemon.needReload, daemon.replica.state?.nodes.get(1)?.presence]).toEqual([[], Presence.LIVE]);
});
