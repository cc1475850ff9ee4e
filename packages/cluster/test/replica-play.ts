import { type Effects, freshControl, type LogMemory, parseConstructor, ReplyKind } from '@dmlog/log';
import { RequestType } from '@dmlog/protocol';
import { expect } from 'vitest';
import { ClusterEffects } from '../src/cluster-effects.js';
import { ClusteredLog } from '../src/clustered-log.js';
import { type SimulatedMember, SimulatedNetwork, WILD_NETWORK } from '../src/group/simulated.js';
import { KeptReplica, keptReplicaBytes } from '../src/kept-replica.js';
import { Replica } from '../src/replica.js';
import { randomFrom } from './group-random.js';
import { type Ask, KernelModel, Legs, Wire } from './kernel-model.js';

const REGIONS = 24;
const REGION_SECTORS = 8;
const BLOCK_BYTES = 512;

/** What happened in all runs. */
export const seen = {
  writes: 0,
  recoveries: 0,
  crashes: 0,
  powerCuts: 0,
  daemonDeaths: 0,
  reloads: 0,
  imageWrites: 0,
  commitsThatWaited: 0,
  foundAgain: 0,
  allDaemonsDead: 0,
};

interface World {
  readonly kind: 'core' | 'disk';
  readonly legs: Legs;
  readonly image: Uint8Array;
  readonly network: SimulatedNetwork;
  readonly draw: () => number;
  nonces: number;
  boots: number;
}

type Job = () => void;

/** A daemon on one node, with its share of the log. */
class Daemon {
  readonly node: Node;
  readonly replica: Replica;
  log: ClusteredLog;
  readonly effects = new ClusterEffects();
  readonly jobs: Job[] = [];
  group: SimulatedMember | null = null;
  dead = false;
  #queue: Uint8Array[] = [];

  /** `found`: what the daemon before this one left. */
  constructor(node: Node, reconnected: boolean, found: KeptReplica | null = null) {
    const { world } = node;
    this.node = node;
    const device = world.kind === 'disk' ? ' 7:0' : '';
    const parameters = parseConstructor(
      `${REGIONS * REGION_SECTORS} clustered-${world.kind}${device} ${REGION_SECTORS}`,
      { clustered: true },
    );
    this.replica = new Replica({
      parameters,
      bootId: node.bootId,
      lazyClear: { milliseconds: world.draw() < 0.3 ? 0 : 1000, regionsMax: 8 },
      blockBytes: BLOCK_BYTES,
      deviceNumber: world.kind === 'disk' ? '7:0' : null,
      kept: found ?? KeptReplica.fresh(node.newMemory(), REGIONS),
    });
    this.log = new ClusteredLog(this.replica, reconnected && found === null, node.tableMemory);
    if (found?.wasLive === true) {
      expect(this.log.restore(node.tableMemory)).toBeNull();
      seen.foundAgain++;
    }
  }

  /** Whatever the replica wants done now is done, or becomes a job. */
  perform(effects: Effects): void {
    const { world } = this.node;
    this.replica.keep();
    const { late } = effects;
    for (let i = 0; i < late.count; i++) {
      this.node.lateReply(late.seq[i] as number, { errno: late.errno[i] as number, first: 0, second: 0 });
    }
    late.count = 0;
    const cluster = effects as ClusterEffects;
    for (const { seq, first, second } of cluster.pairs) this.node.lateReply(seq, { errno: 0, first, second });
    cluster.pairs.length = 0;
    if (cluster.leave) {
      this.group?.leaveNow();
      this.group = null;
    }
    if (cluster.join) this.jobs.push(() => this.#join());
    if (cluster.flushLegs)
      this.jobs.push(() => this.step((e) => this.replica.legsFlushed(world.draw() > 0.05, e)));
    if (cluster.readImage) {
      this.jobs.push(() => {
        const image = world.image.slice();
        this.step((e) => this.replica.imageRead(image, 0, e));
      });
    }
    if (cluster.write) this.#write();
    this.flush();
  }

  step(event: (effects: ClusterEffects) => void): void {
    if (this.dead) return;
    this.effects.reset();
    event(this.effects);
    this.perform(this.effects);
  }

  flush(): void {
    if (this.group === null) {
      this.#queue = [];
      this.replica.takeOutbox();
      return;
    }
    this.#queue.push(...this.replica.takeOutbox());
    while (this.#queue.length > 0 && this.group.send(this.#queue[0] as Uint8Array)) this.#queue.shift();
  }

  /** Writes reach the medium run by run; a machine that crashes leaves some of them undone. */
  #write(): void {
    const { keeper } = this.replica.image as NonNullable<Replica['image']>;
    if (keeper === null) throw new Error('a write without a keeper');
    seen.imageWrites++;
    for (let i = 0; i < keeper.runCount; i++) {
      const [from, length] = [keeper.runs[2 * i] as number, keeper.runs[2 * i + 1] as number];
      const bytes = keeper.image.slice(from, from + length);
      this.jobs.push(() => this.node.world.image.set(bytes, from));
    }
    this.jobs.push(() => this.step((e) => this.replica.written(0, e)));
  }

  #join(): void {
    if (this.dead || this.group !== null) return;
    const { world, nodeId } = this.node;
    const member = world.network.join(nodeId, 'log', {
      confchg: (members, left, joined) => this.step((e) => this.replica.confchg(members, left, joined, e)),
      ring: (ring, nodes, quorate) => this.step((e) => this.replica.ringChanged(ring, nodes, quorate, e)),
      deliver: (sender, bytes) => this.step((e) => this.replica.deliver(sender, bytes, e)),
      drain: () => this.flush(),
      died: () => {
        this.group = null;
        this.step((e) => this.replica.lostGroup(e, 'the engine died'));
      },
    });
    this.group = member;
    this.replica.joined(member.self, world.nonces++);
  }
}

class Node {
  readonly world: World;
  readonly nodeId: number;
  bootId: string;
  kernel: KernelModel;
  daemon: Daemon | null = null;
  readonly wire = new Wire();
  nowMs = 0;
  /** Of this boot, what outlives a daemon. */
  #memory: LogMemory | null = null;
  tableMemory: LogMemory = { control: freshControl(), body: new Uint8Array(0) };
  #presuspended = false;
  /** The request that the daemon has not answered: what, under which seq. */
  #open: { ask: Ask; seq: number } | null = null;
  /** Requests of the table, before or after what the worker asks. */
  #tableAsks: { ask: Ask; done: (errno: number) => void }[] = [];

  constructor(world: World, nodeId: number) {
    this.world = world;
    this.nodeId = nodeId;
    this.bootId = (world.boots++).toString(16).padStart(32, '0');
    this.kernel = new KernelModel(`node ${nodeId}`, world.legs, world.draw);
  }

  newMemory(): LogMemory {
    this.#memory = { control: freshControl(), body: new Uint8Array(keptReplicaBytes(REGIONS)) };
    return this.#memory;
  }

  /** What a daemon finds of the one before it: a copy, as that one may still have I/O under way. */
  #found(mayBeLost: boolean): KeptReplica | null {
    const { draw } = this.world;
    if (this.#memory === null || (mayBeLost && draw() < 0.1)) return null;
    const { control, body } = this.#memory;
    this.#memory = { control: control.slice(), body: body.slice() };
    const found = KeptReplica.found(this.#memory, REGIONS);
    return typeof found === 'string' ? null : found;
  }

  start(): void {
    this.#memory = null;
    this.daemon = new Daemon(this, false);
    this.#tableAsks = [{ ask: { type: RequestType.RESUME, words: [] }, done: () => this.kernel.resumed() }];
  }

  crash(): void {
    const { network, draw } = this.world;
    const image = this.daemon?.jobs ?? [];
    // What was on its way to the image may have got there.
    for (const job of image) if (draw() < 0.3) this.#undead(job);
    if (this.daemon !== null) this.daemon.dead = true;
    this.daemon = null;
    this.#open = null;
    this.#tableAsks = [];
    this.kernel.crash();
    network.crashNode(this.nodeId);
    this.bootId = (this.world.boots++).toString(16).padStart(32, '0');
    this.kernel = new KernelModel(`node ${this.nodeId}`, this.world.legs, draw);
  }

  /** The daemon dies; what it has written by then goes on to the device. */
  killDaemon(): void {
    const { daemon } = this;
    if (daemon === null) return;
    daemon.dead = true;
    for (const job of daemon.jobs) this.#undead(job);
    daemon.group?.close();
    this.daemon = null;
    this.#open = null;
  }

  /** A job of a daemon that is dead: writes happen, but nobody hears of it. */
  #undead(job: Job): void {
    const { daemon } = this;
    if (daemon !== null) daemon.dead = true;
    job();
  }

  restartDaemon(mayBeLost = false): void {
    if (this.daemon !== null) return;
    const found = this.#found(mayBeLost);
    this.daemon = new Daemon(this, !this.kernel.suspended, found);
    if (!this.kernel.suspended && this.#tableAsks.length === 0 && found?.wasLive !== true) {
      this.#tableAsks.push({ ask: { type: RequestType.RESUME, words: [] }, done: () => {} });
    }
  }

  /** An operator reloads the table: suspend, a new log, resume. */
  reload(): void {
    if (this.kernel.suspended || this.kernel.wantSuspend || this.#tableAsks.length > 0) return;
    this.kernel.wantSuspend = true;
  }

  lateReply(seq: number, answer: { errno: number; first: number; second: number }): void {
    if (this.#open?.seq !== seq) return;
    const { ask } = this.#open;
    this.#open = null;
    this.#answered(ask, answer);
  }

  get quiet(): boolean {
    return (
      this.kernel.idle &&
      this.#open === null &&
      this.#tableAsks.length === 0 &&
      (this.daemon === null || this.daemon.jobs.length === 0)
    );
  }

  /** Does something, if there is anything to do. */
  act(): void {
    const { draw } = this.world;
    const { daemon, kernel } = this;
    const what = draw();
    if (what < 0.3) kernel.run();
    else if (what < 0.6) kernel.land();
    else if (what < 0.75 && daemon !== null && daemon.jobs.length > 0) daemon.jobs.shift()?.();
    else if (what < 0.8 && daemon !== null) {
      this.nowMs += 100 + Math.floor(draw() * 900);
      daemon.step((e) => daemon.log.tick(this.nowMs, e));
    } else this.#ask();
    this.#maySuspend();
  }

  #maySuspend(): void {
    const { kernel } = this;
    if (!kernel.wantSuspend || kernel.suspended || this.#tableAsks.length > 0) return;
    const type = (name: keyof typeof RequestType) => ({ type: RequestType[name], words: [] });
    if (!this.#presuspended) {
      if (kernel.recovers || kernel.asking !== null) return;
      this.#tableAsks = [
        {
          ask: type('PRESUSPEND'),
          done: () => {
            this.#presuspended = true;
          },
        },
      ];
      return;
    }
    if (!kernel.idle) return;
    seen.reloads++;
    this.#presuspended = false;
    this.#tableAsks = [
      {
        ask: type('POSTSUSPEND'),
        done: () => {
          kernel.becomeSuspended();
          const { daemon } = this;
          if (daemon !== null) daemon.log = new ClusteredLog(daemon.replica, false, this.tableMemory);
        },
      },
      { ask: type('RESUME'), done: () => kernel.resumed() },
    ];
  }

  #ask(): void {
    const { daemon, kernel } = this;
    if (daemon === null) return;
    if (this.#open !== null) {
      // Now and then a request is repeated under a new seq, as after 15 s.
      if (this.world.draw() > 0.02) return;
      const { ask } = this.#open;
      return this.#send(daemon, ask);
    }
    const next = this.#tableAsks[0]?.ask ?? kernel.asking;
    if (next !== null && next !== undefined) this.#send(daemon, next);
  }

  #send(daemon: Daemon, ask: Ask): void {
    const view = this.wire.request('LVM-test', 1, ask);
    const { effects, log } = daemon;
    effects.reset();
    log.request(view, 0, effects);
    const { reply, errno, first, second } = effects;
    this.#open = { ask, seq: this.wire.seq };
    daemon.perform(effects);
    if (reply === ReplyKind.LATER) {
      seen.commitsThatWaited++;
      return;
    }
    this.#open = null;
    if (reply === ReplyKind.SILENT) return;
    if (reply === ReplyKind.UNKNOWN) {
      this.#tableAsks.unshift({ ask: { type: RequestType.RESUME, words: [] }, done: () => {} });
      return;
    }
    const value = reply === ReplyKind.VALUE || reply === ReplyKind.PAIR;
    this.#answered(ask, {
      errno: reply === ReplyKind.ERROR ? errno : 0,
      first: value ? first : 0,
      second: reply === ReplyKind.PAIR ? second : 0,
    });
  }

  #answered(ask: Ask, answer: { errno: number; first: number; second: number }): void {
    const table = this.#tableAsks[0];
    if (table?.ask === ask) {
      this.#tableAsks.shift();
      table.done(answer.errno);
    } else if (this.kernel.asking === ask) this.kernel.answer(answer);
  }
}

function isCleanOnImage({ image }: World, region: number): boolean {
  return ((image[1024 + (region >> 3)] as number) & (1 << (region & 7))) !== 0;
}

/** Legs may differ only where somebody who survives, or the image, says so. */
function checkDirty(world: World, nodes: readonly Node[]): void {
  let newest = 0;
  const active = nodes.flatMap(({ daemon }) => {
    const member = daemon?.replica.member;
    if (member?.phase !== 'active' || member.state === null) return [];
    newest = Math.max(newest, member.agreedRing.seq);
    return [member];
  });
  const authorities = active.filter(({ agreedRing }) => agreedRing.seq === newest);
  if (authorities.length === 0) return;
  for (let region = 0; region < REGIONS; region++) {
    if (!world.legs.differ(region)) continue;
    const known = authorities.some(({ state }) => state?.clean.get(region) === false);
    if (known || (world.kind === 'disk' && !isCleanOnImage(world, region))) continue;
    throw new Error(`region ${region} differs between the legs, and nobody knows`);
  }
}

/** A read never returns less than what was acknowledged. */
function checkRead(world: World, nodes: readonly Node[]): void {
  const region = Math.floor(world.draw() * REGIONS);
  if (world.legs.busy.has(region)) return;
  for (const { kernel, daemon, nodeId } of nodes) {
    if (kernel.suspended || daemon === null || !daemon.replica.operational) continue;
    const anyLeg = kernel.opinion(region) ?? daemon.replica.isInSync(region);
    for (const leg of anyLeg ? [0, 1] : [0]) {
      const value = world.legs.values[leg]?.[region] as number;
      if (value < (world.legs.acknowledged[region] as number)) {
        throw new Error(
          `node ${nodeId} reads region ${region} from leg ${leg}: ${value} is older than what was acknowledged`,
        );
      }
    }
  }
}

export interface PlayOptions {
  readonly kind: 'core' | 'disk';
  readonly faults: boolean;
}

export function playCluster(seed: number, options: PlayOptions): void {
  const draw = randomFrom(seed);
  const below = (n: number) => Math.floor(draw() * n);
  const ids = below(4) === 0 ? [1] : below(2) === 0 ? [1, 2] : [1, 2, 3];
  const network = new SimulatedNetwork({ nodes: ids, random: draw, chances: WILD_NETWORK });
  const legs = new Legs(REGIONS);
  for (let r = 0; r < REGIONS; r++) (legs.values[1] as number[])[r] = -1;
  const world: World = {
    kind: options.kind,
    legs,
    image: new Uint8Array(2048),
    network,
    draw,
    nonces: 1,
    boots: 1,
  };
  const nodes = ids.map((id) => new Node(world, id));
  const pick = () => nodes[below(nodes.length)] as Node;
  for (const node of nodes) node.start();

  /** What a dead daemon left may be lost, too, while another one knows. */
  const restartDaemons = () => {
    for (const node of nodes) {
      const known = nodes.some((other) => other !== node && other.daemon?.replica.operational === true);
      if (network.nodeState(node.nodeId) === 'running') node.restartDaemon(known);
    }
  };
  const faults: Job[] = [
    () => network.partition([ids.filter((id) => id % 2 === 0), ids.filter((id) => id % 2 === 1)]),
    () => network.heal(),
    () => network.heal(),
    () => {
      seen.daemonDeaths++;
      pick().killDaemon();
    },
    () => {
      seen.allDaemonsDead++;
      for (const node of nodes) node.killDaemon();
    },
    () => restartDaemons(),
    () => restartDaemons(),
    () => pick().reload(),
  ];
  const crash = (node: Node) => {
    seen.crashes++;
    node.crash();
    network.restartNode(node.nodeId);
    node.start();
  };
  /** One machine at a time, and never the last that knows: a core log has no other memory. */
  const crashOne = () => {
    const node = pick();
    const up = nodes.filter(({ daemon }) => daemon?.replica.operational === true);
    if (up.length > 1 && up.includes(node)) crash(node);
  };
  /** The power of the whole room: what the image says is all that is left. */
  const crashAll = () => {
    seen.powerCuts++;
    for (const node of nodes) node.crash();
    for (let region = 0; region < REGIONS; region++) {
      if (legs.differ(region) && isCleanOnImage(world, region)) {
        throw new Error(`region ${region} differs between the legs, and is clean on the image`);
      }
    }
    for (const node of nodes) {
      network.restartNode(node.nodeId);
      node.start();
    }
  };
  const steps = 2000 + below(3000);
  for (let step = 0; step < steps; step++) {
    if (draw() < 0.03) {
      const region = below(REGIONS);
      const node = pick();
      if (!legs.busy.has(region) && !node.kernel.suspended && !node.kernel.wantSuspend) {
        seen.writes++;
        node.kernel.write(region);
      }
    }
    if (options.faults && draw() < 0.002) (faults[below(faults.length)] as Job)();
    if (options.faults && draw() < 0.0005) crashOne();
    if (options.faults && options.kind === 'disk' && draw() < 0.0002) crashAll();
    network.step();
    pick().act();
    checkDirty(world, nodes);
    if (step % 8 === 0) checkRead(world, nodes);
    if (step % 64 === 0) for (const { daemon } of nodes) daemon?.log.checkInvariants();
  }

  network.heal();
  for (const node of nodes) node.restartDaemon();
  for (let round = 0; round < 60_000; round++) {
    network.step();
    const node = pick();
    node.act();
    if (round % 16 === 0) checkDirty(world, nodes);
    if (round % 200 === 0) {
      node.kernel.wake();
      const state = node.daemon?.replica.state;
      // What the reload hook does.
      if (state?.needReload.has(node.nodeId) === true) node.reload();
    }
    if (round % 500 === 499 && isDone(nodes, legs)) break;
  }
  for (const node of nodes) {
    seen.recoveries += node.kernel.recoveries;
    const { replica } = node.daemon as Daemon;
    expect(`node ${node.nodeId} ${replica.member?.phase} ${replica.mirror}`).toBe(
      `node ${node.nodeId} active live`,
    );
    expect(describeState(replica)).toBe(`in sync ${REGIONS}, need reload `);
  }
  expect(legs.values[0]).toEqual(legs.values[1]);
  expect(new Set(nodes.map(({ daemon }) => daemon?.replica.state?.hash.high)).size).toBe(1);
}

/** What is expected in the end, and the rest where that is not so. */
function describeState({ state }: Replica): string {
  const text = `in sync ${state?.inSyncCount}, need reload ${[...(state?.needReload ?? [])]}`;
  if (state === null || state.inSyncCount === REGIONS) return text;
  const nodes = [...state.nodes.values()].map(
    ({ nodeId, presence, marks, leases }) =>
      `${nodeId}: presence ${presence}, ${marks.count} marks, leases ${leases}`,
  );
  return `${text}; stale ${state.stale.count}, given up ${state.givenUp.count}, work ${state.work.count}; ${nodes.join('; ')}`;
}

function isDone(nodes: readonly Node[], legs: Legs): boolean {
  const positions = new Set(nodes.map(({ daemon }) => daemon?.replica.state?.position));
  if (positions.size > 1) return false;
  return (
    nodes.every(({ daemon }) => {
      const state = daemon?.replica.state;
      return (
        daemon?.replica.mirror === 'live' && state?.inSyncCount === REGIONS && state.needReload.size === 0
      );
    }) &&
    legs.values[0].every((value, region) => value === legs.values[1][region]) &&
    nodes.every((node) => node.quiet)
  );
}
