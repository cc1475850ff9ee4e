import { rmSync } from 'node:fs';
import { addressOf, corosyncConf } from './config.js';
import { CorosyncLabError } from './errors.js';
import { ip, ipNow, requireCorosync, waitUntil } from './host.js';
import { LabNode } from './node.js';
import { killProcess, removeLeftovers, removeSharedMemory, runDirectory, runName } from './run.js';

/** Nodes are 10.77.0.1 to 10.77.0.16. */
export const NODES_MAX = 16;
const READY_TIMEOUT_MS = 60_000;

export interface ClusterOptions {
  /** 1..16, default 3. Node ids are 1..nodes. */
  readonly nodes?: number;
  /** Corosync's token timeout, at least 130 ms; a dead node is noticed after 2.2 times that. Default 300; busy machines: 1000. */
  readonly tokenMs?: number;
  /** Whether corosync.conf names votequorum. Default true. */
  readonly quorumProvider?: boolean;
  readonly netmtu?: number;
}

/** What has to be undone when the process ends. */
const live = new Set<Cluster>();

function destroyAllNow(): void {
  for (const cluster of live) cluster.destroyNow();
}

function onSignal(signal: NodeJS.Signals): void {
  destroyAllNow();
  process.kill(process.pid, signal); // our handler is gone: it takes its usual course
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

function watchEnd(cluster: Cluster): void {
  if (live.size === 0) {
    process.on('exit', destroyAllNow);
    for (const signal of SIGNALS) process.once(signal, onSignal);
  }
  live.add(cluster);
}

function unwatchEnd(cluster: Cluster): void {
  if (!live.delete(cluster) || live.size > 0) return;
  process.off('exit', destroyAllNow);
  for (const signal of SIGNALS) process.off(signal, onSignal);
}

/** Corosync nodes in network namespaces, joined by bridges in one more. Nothing of it is visible in the host's network. */
export class Cluster {
  readonly nodes: readonly LabNode[];
  readonly directory: string;
  readonly #switch: string;
  /** Of every corosync that ran here: their shared memory is removed. */
  readonly #pids = new Set<number>();
  #destroyed: Promise<void> | undefined;

  /** Use {@link startCluster}. */
  constructor(options: Required<Omit<ClusterOptions, 'netmtu'>> & Pick<ClusterOptions, 'netmtu'>) {
    const name = runName();
    const nodeIds = Array.from({ length: options.nodes }, (_, index) => index + 1);
    this.#switch = `${name}-sw`;
    this.directory = runDirectory(name);
    const configuration = corosyncConf({ nodeIds, ...options });
    this.nodes = nodeIds.map(
      (id) =>
        new LabNode({
          id,
          address: addressOf(id),
          namespace: `${name}-c${id}`,
          switchNamespace: this.#switch,
          runDirectory: this.directory,
          configuration,
        }),
    );
    watchEnd(this);
  }

  /** By node id. */
  node(id: number): LabNode {
    const node = this.nodes[id - 1];
    if (node === undefined) throw new CorosyncLabError('ERR_COROSYNC_LAB_USAGE', `no node ${id}`);
    return node;
  }

  /** @internal For {@link startCluster}. */
  async begin(): Promise<void> {
    await ip('netns', 'add', this.#switch);
    // A bridge per side of a partition; normally all ports are on the first.
    for (const { id } of this.nodes) {
      await ip('-n', this.#switch, 'link', 'add', `br${id}`, 'type', 'bridge');
      await ip('-n', this.#switch, 'link', 'set', `br${id}`, 'up');
    }
    for (const { id, namespace, address } of this.nodes) {
      const port = `p${id}`;
      await ip('netns', 'add', namespace);
      await ip(
        '-n',
        this.#switch,
        'link',
        'add',
        port,
        'type',
        'veth',
        'peer',
        'name',
        'eth0',
        'netns',
        namespace,
      );
      await ip('-n', this.#switch, 'link', 'set', port, 'master', 'br1', 'up');
      await ip('-n', namespace, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
      await ip('-n', namespace, 'link', 'set', 'eth0', 'up');
      await ip('-n', namespace, 'link', 'set', 'lo', 'up');
    }
    for (const node of this.nodes) this.#startNode(node);
    await this.membership(this.nodes.map(({ id }) => id));
  }

  /** Waits until every node of `ids` (default: each whose corosync runs) has synchronised with exactly these. */
  async membership(
    ids: readonly number[] = this.nodes.filter(({ pid }) => pid !== undefined).map(({ id }) => id),
    timeoutMs = READY_TIMEOUT_MS,
  ): Promise<void> {
    const wanted = [...ids].sort((a, b) => a - b).join();
    await waitUntil(
      `nodes ${wanted} form a cluster`,
      () => ids.every((id) => this.node(id).members()?.join() === wanted),
      timeoutMs,
      () => ids.map((id) => this.node(id).logTail()).join('\n'),
    );
  }

  cut(id: number): Promise<void> {
    return this.node(id).cut();
  }

  heal(id: number): Promise<void> {
    return this.node(id).heal();
  }

  /** Splits the network: nodes hear those of their own list only. Nodes in no list are alone. */
  async partition(sides: readonly (readonly number[])[]): Promise<void> {
    for (const { id } of this.nodes) {
      const side = sides.findIndex((ids) => ids.includes(id));
      // The n-th list takes the bridge that bears its first node's number.
      const bridge = side < 0 ? id : sides[side]![0]!;
      await ip('-n', this.#switch, 'link', 'set', `p${id}`, 'master', `br${bridge}`, 'up');
    }
  }

  /** Undoes `partition` and every cut. */
  async healAll(): Promise<void> {
    await this.partition([this.nodes.map(({ id }) => id)]);
  }

  pauseCorosync(id: number): void {
    this.node(id).pause();
  }

  resumeCorosync(id: number): void {
    this.node(id).resume();
  }

  /** Crashes corosync of a node. */
  kill(id: number): Promise<void> {
    return this.node(id).kill();
  }

  /** Stops corosync of a node in order. */
  stop(id: number): Promise<void> {
    return this.node(id).stop();
  }

  /** Starts corosync of a node (crashing it first if it runs) and waits until it is a member again. */
  async restart(id: number): Promise<void> {
    await this.start(id);
    await this.membership();
  }

  /** The same, without waiting: for a node that others may not hear. */
  async start(id: number): Promise<void> {
    const node = this.node(id);
    await node.kill();
    this.#startNode(node);
  }

  /** Ends every process of the cluster by its pid; removes namespaces, files and shared memory. Twice is once. */
  destroy(): Promise<void> {
    this.#destroyed ??= this.#destroy();
    return this.#destroyed;
  }

  async #destroy(): Promise<void> {
    await Promise.all(this.nodes.flatMap(({ pids }) => pids).map(killProcess));
    for (const name of [...this.nodes.map(({ namespace }) => namespace), this.#switch]) {
      await ip('netns', 'del', name).catch(() => {}); // it may never have been made
    }
    this.#removeFiles();
  }

  /** The same without waiting, for the end of the process. */
  destroyNow(): void {
    for (const pid of this.nodes.flatMap(({ pids }) => pids)) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended in between.
      }
    }
    for (const name of [...this.nodes.map(({ namespace }) => namespace), this.#switch])
      ipNow('netns', 'del', name);
    this.#removeFiles();
  }

  #removeFiles(): void {
    for (const pid of this.#pids) removeSharedMemory(pid);
    rmSync(this.directory, { recursive: true, force: true });
    unwatchEnd(this);
  }

  #startNode(node: LabNode): void {
    node.start();
    const { pid } = node;
    if (pid !== undefined) this.#pids.add(pid);
  }
}

/**
 * Starts a cluster and waits until its nodes have found each other (2 to 4 s). Installs corosync if it is missing and we are root. Always `destroy` it: at
 * the process's end, and after Ctrl-C, that happens by itself; what a killed process left is removed by the next call.
 */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const { nodes = 3, tokenMs = 300, quorumProvider = true, netmtu } = options;
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > NODES_MAX) {
    throw new CorosyncLabError('ERR_COROSYNC_LAB_USAGE', `nodes: 1 to ${NODES_MAX}, not ${nodes}`);
  }
  await requireCorosync();
  await removeLeftovers();
  const cluster = new Cluster({
    nodes,
    tokenMs,
    quorumProvider,
    ...(netmtu === undefined ? {} : { netmtu }),
  });
  try {
    await cluster.begin();
  } catch (error) {
    await cluster.destroy();
    throw error;
  }
  return cluster;
}
