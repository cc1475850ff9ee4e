import { mkdirSync } from 'node:fs';
import { type CorosyncNode, corosyncConf, type RingState, ringState, startCorosync } from './corosync.js';
import type { Disk } from './disk.js';
import { LabError, lastLines } from './errors.js';
import type { GuestProcess } from './guest-process.js';
import type { BootOptions, Lab } from './lab.js';
import type { Machine } from './machine.js';
import { Network } from './network.js';
import { runDirectory } from './run-directory.js';
import { ensureClusterTools } from './tools.js';

/** Three machines under load are the most for two cores and the memory of a small runner. */
export const MACHINES_MAX = 3;
/** Boot options that all machines of a cluster share. */
type Common = Pick<BootOptions, 'memoryMiB' | 'modules' | 'env' | 'kernelArguments' | 'bootTimeoutMs'>;
const TOKEN_MS_DEFAULT = 1000;
const RING_TIMEOUT_MS = 60_000;
const RING_POLL_MS = 150;
let clusterCount = 0;

export interface ClusterOptions extends Common {
  /** 1 to 3. Their node ids are 1, 2, 3; their names n1, n2, n3; their addresses 10.77.0.1 and so on. */
  readonly machines: number;
  /** Attached to every machine under the same keys; made with `disk(size, { shared: true })`. Use O_DIRECT: each machine has a page cache. */
  readonly disks?: Readonly<Record<string, Disk>>;
  /** A dead or cut off node is noticed after 2.2 times this (token + consensus). Default 1000; 300 does when the host is idle. */
  readonly tokenMs?: number;
  /** Votes of node 1, 2, 3; default 1 each. `[2, 1]`: the first goes on alone, the second does not. */
  readonly votes?: readonly number[];
  /** Either of two nodes goes on alone. Default false: both lose quorum when they are cut from each other. */
  readonly twoNode?: boolean;
}

/** How long the steps of a boot took, milliseconds of the host. */
export interface ClusterTimes {
  readonly bootMs: number;
  /** From the first start of corosync until all were quorate in one ring. */
  readonly quorumMs: number;
}

/** One machine of a cluster, over all its boots. */
export class ClusterNode {
  readonly id: number;
  readonly name: string;
  readonly address: string;
  readonly #cluster: ClusterInside;
  #machine: Machine | undefined;
  #corosync: GuestProcess | undefined;
  #paused = false;
  #corosyncPaused = false;

  constructor(cluster: ClusterInside, { id, name, address }: CorosyncNode) {
    this.#cluster = cluster;
    this.id = id;
    this.name = name;
    this.address = address;
  }

  /** The machine as it was booted last: a new object after each boot. */
  get machine(): Machine {
    if (this.#machine === undefined) throw new LabError('ERR_LAB_USAGE', `${this.name} was never booted`);
    return this.#machine;
  }

  /** corosync as it was started last; `waitFor`, `output`, `exited`. */
  get corosync(): GuestProcess {
    if (this.#corosync === undefined)
      throw new LabError('ERR_LAB_USAGE', `corosync was never started on ${this.name}`);
    return this.#corosync;
  }

  get running(): boolean {
    return this.#machine?.running === true;
  }

  /** Boots the machine, on the same disks as before, and starts corosync. It returns before the ring is formed: `cluster.waitQuorate()`. */
  async boot(): Promise<Machine> {
    await this.bootMachine();
    await this.startCorosync();
    return this.machine;
  }

  /** Boots the machine alone. */
  async bootMachine(): Promise<Machine> {
    if (this.running) throw new LabError('ERR_LAB_USAGE', `${this.name} is running`);
    this.#paused = false;
    this.#machine = await this.#cluster.boot(this.id, this.name);
    return this.#machine;
  }

  /** Power cut: all its processes are gone at once. Disks and corosync's own state survive, as on a real machine. */
  async kill(): Promise<void> {
    await this.machine.powerCut();
  }

  /** The machine hangs; for the others it is as if it had died. */
  pause(): void {
    this.machine.pause();
    this.#paused = true;
  }

  /** It goes on, and does not know that time has passed. */
  resume(): void {
    this.machine.resume();
    this.#paused = false;
  }

  /** Pulls its network cable. */
  cut(): Promise<void> {
    return this.#cluster.network.cut(this.id);
  }

  /** Plugs it in again. */
  heal(): Promise<void> {
    return this.#cluster.network.heal(this.id);
  }

  /** Starts corosync, after a boot or after `killCorosync`. */
  async startCorosync(): Promise<GuestProcess> {
    if (this.#corosync?.running === true)
      throw new LabError('ERR_LAB_USAGE', `corosync is running on ${this.name}`);
    this.#corosyncPaused = false;
    this.#corosync = await startCorosync(
      this.machine,
      this.#cluster.conf,
      this.#cluster.stateDirectory(this.id),
    );
    return this.#corosync;
  }

  /** Ends corosync alone: at once (SIGKILL, default) or in order (SIGTERM: it takes leave). Returns when it is gone. */
  async killCorosync(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<void> {
    this.corosync.kill(signal);
    await this.corosync.exited;
  }

  async restartCorosync(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<GuestProcess> {
    await this.killCorosync(signal);
    return this.startCorosync();
  }

  /** Stops corosync alone (SIGSTOP): its clients wait, the others see the node leave. */
  pauseCorosync(): void {
    this.corosync.kill('SIGSTOP');
    this.#corosyncPaused = true;
  }

  resumeCorosync(): void {
    this.corosync.kill('SIGCONT');
    this.#corosyncPaused = false;
  }

  /** The ring that this node believes to be in; undefined when its machine or its corosync does not answer. */
  async ring(): Promise<RingState | undefined> {
    if (!this.running || this.#corosync?.running !== true) return undefined;
    // The question would wait until it is resumed.
    if (this.#paused || this.#corosyncPaused) return undefined;
    return ringState(this.machine);
  }
}

/** What a node needs of its cluster. */
interface ClusterInside {
  readonly network: Network;
  readonly conf: string;
  boot(id: number, name: string): Promise<Machine>;
  stateDirectory(id: number): string;
}

export class Cluster {
  /** In the order of their ids. */
  readonly nodes: readonly ClusterNode[];
  readonly network: Network;
  readonly times: ClusterTimes;

  constructor(nodes: readonly ClusterNode[], network: Network, times: ClusterTimes) {
    this.nodes = nodes;
    this.network = network;
    this.times = times;
  }

  /** The node with this id, which begins at 1. */
  node(id: number): ClusterNode {
    const node = this.nodes[id - 1];
    if (node === undefined) throw new LabError('ERR_LAB_USAGE', `no node ${id}: 1 to ${this.nodes.length}`);
    return node;
  }

  /** Groups of node ids that see each other and nobody else; those not named form one more group. `[]` heals it. */
  partition(groups: readonly (readonly number[])[]): Promise<void> {
    return this.network.partition(groups);
  }

  /** Cuts the power of every machine that is still running. */
  async powerCut(): Promise<void> {
    await Promise.all(this.nodes.filter(({ running }) => running).map((node) => node.kill()));
  }

  /** Waits until these nodes (default: all) are quorate and in one ring, together and without others. */
  waitQuorate(ids?: readonly number[], timeoutMs?: number): Promise<RingState> {
    return this.waitRing(ids ?? this.nodes.map(({ id }) => id), { quorate: true }, timeoutMs);
  }

  /**
   * Waits until all of `ids` are in one ring whose members are exactly `ids`, quorate or not as `expected` says.
   * @throws LabError ERR_LAB_TIMEOUT with what each node said last. Default 60 s.
   */
  async waitRing(
    ids: readonly number[],
    expected: { readonly quorate: boolean },
    timeoutMs = RING_TIMEOUT_MS,
  ): Promise<RingState> {
    const wanted = [...ids].sort((a, b) => a - b);
    const nodes = wanted.map((id) => this.node(id));
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const rings = await Promise.all(nodes.map((node) => node.ring()));
      const first = rings[0];
      const fits = (ring: RingState | undefined) =>
        ring !== undefined &&
        ring.ringId === first?.ringId &&
        ring.quorate === expected.quorate &&
        String(ring.members) === String(wanted);
      if (first !== undefined && rings.every(fits)) return first;
      if (Date.now() > deadline) throw ringTimeout(nodes, rings, expected.quorate, timeoutMs);
      await new Promise((resolve) => setTimeout(resolve, RING_POLL_MS));
    }
  }
}

/** Boots machines at one switch, with the same shared disks, starts corosync in each and waits until all are quorate in one ring. */
export async function bootCluster(lab: Lab, options: ClusterOptions): Promise<Cluster> {
  const nodes = corosyncNodes(options);
  const disks = options.disks ?? {};
  const own = Object.entries(disks).find(([, { shared }]) => !shared);
  if (own !== undefined)
    throw new LabError(
      'ERR_LAB_USAGE',
      `disk ${own[0]} is not shared: make it with disk(size, { shared: true })`,
    );
  const tools = await ensureClusterTools();
  const network = lab.network();
  const state = `${runDirectory().path}/cluster${clusterCount++}`;
  const libraries = tools.libraryPath.join(':');
  const env = { ...(libraries === '' ? {} : { LD_LIBRARY_PATH: libraries }), ...options.env };
  const {
    machines: _machines,
    votes: _votes,
    twoNode = false,
    tokenMs = TOKEN_MS_DEFAULT,
    ...common
  } = options;
  const inside: ClusterInside = {
    network,
    conf: corosyncConf({ nodes, tokenMs, twoNode }),
    stateDirectory: (id) => `${state}/n${id}`,
    boot: async (id, name) => {
      mkdirSync(inside.stateDirectory(id), { recursive: true });
      return lab.boot({ ...common, name, env, disks, path: tools.path, network: await network.place(id) });
    },
  };
  const members = nodes.map((node) => new ClusterNode(inside, node));
  try {
    return await start(members, network);
  } catch (error) {
    // A hook that fails is no failed test: what the machines have said would be lost.
    lab.noteFailure();
    throw error;
  }
}

async function start(nodes: readonly ClusterNode[], network: Network): Promise<Cluster> {
  const started = performance.now();
  await Promise.all(nodes.map((node) => node.bootMachine()));
  const booted = performance.now();
  const times = { bootMs: booted - started, quorumMs: 0 };
  await Promise.all(nodes.map((node) => node.startCorosync()));
  const cluster = new Cluster(nodes, network, times);
  await cluster.waitQuorate();
  times.quorumMs = performance.now() - booted;
  return cluster;
}

function corosyncNodes({ machines, votes = [], twoNode = false }: ClusterOptions): CorosyncNode[] {
  if (!Number.isInteger(machines) || machines < 1 || machines > MACHINES_MAX)
    throw new LabError('ERR_LAB_USAGE', `a cluster of ${machines} machines: 1 to ${MACHINES_MAX}`);
  if (twoNode && machines !== 2)
    throw new LabError('ERR_LAB_USAGE', `twoNode with ${machines} machines: corosync wants exactly 2`);
  return Array.from({ length: machines }, (_, index) => {
    const id = index + 1;
    return { id, name: `n${id}`, address: Network.addressOf(id), votes: votes[index] ?? 1 };
  });
}

function ringTimeout(
  nodes: readonly ClusterNode[],
  rings: readonly (RingState | undefined)[],
  quorate: boolean,
  timeoutMs: number,
): LabError {
  const ids = nodes.map(({ id }) => id).join(', ');
  const lines = nodes.map((node, index) => {
    const ring = rings[index];
    if (ring === undefined) return `${node.name} does not answer`;
    return `${node.name} is in ring ${ring.ringId} with ${ring.members.join(', ')}, ${ring.quorate ? 'quorate' : 'without quorum'}`;
  });
  const logs = nodes
    .filter(({ running }) => running)
    .map(({ name, corosync }) => `--- corosync on ${name}\n${lastLines(corosync.output(), 15)}`);
  return new LabError(
    'ERR_LAB_TIMEOUT',
    `nodes ${ids} are not ${quorate ? 'quorate' : 'without quorum'} in a ring of their own after ${timeoutMs} ms: ${lines.join('; ')}\n${logs.join('\n')}`,
  );
}
