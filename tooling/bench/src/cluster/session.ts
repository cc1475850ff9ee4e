import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Cluster, type LineClient, startCluster } from '@dmlog/corosync-lab';
import type { NodeMethods } from '../cluster-node.js';
import type { Summary } from '../driver.js';
import { BenchError } from '../errors.js';
import { packageRoot } from '../paths.js';
import { Floor, type FloorMode } from './floor.js';
import { place } from './place.js';
import type { Played } from './plays.js';

/** Nobody here waits for a ring to break: a busy machine must not break one. */
const TOKEN_MS = 1000;

export type NodeClient = LineClient<NodeMethods, never>;

export interface SessionOptions {
  readonly nodes: number;
  /** Leaves processors and priorities as they are, see `place`. */
  readonly unplaced?: boolean;
  /** Default: the built one. */
  readonly nodeProgram?: string;
}

export interface Counted extends Played {
  /** Messages per cycle that the node which played gave to the group, and all others together. */
  readonly sentPerCycle: number;
  readonly othersSentPerCycle: number;
}

/** A corosync cluster in network namespaces with, on each node, a C member of one group and clusterd's insides in others. */
export class Session {
  readonly clients: readonly NodeClient[];
  readonly #cluster: Cluster;
  readonly #floor: Floor;
  readonly #runtime: string;

  private constructor(cluster: Cluster, floor: Floor, clients: readonly NodeClient[], runtime: string) {
    this.#cluster = cluster;
    this.#floor = floor;
    this.clients = clients;
    this.#runtime = runtime;
  }

  /** Throws {@link BenchError}. Always `end` it. */
  static async start({ nodes, nodeProgram, unplaced }: SessionOptions): Promise<Session> {
    const program = nodeProgram ?? join(packageRoot, 'dist', 'cluster-node.js');
    if (!existsSync(program))
      throw new BenchError('ERR_BENCH_SUBJECT', 'the cluster bench is not built: run pnpm build first');
    const cluster = await startCluster({ nodes, tokenMs: TOKEN_MS });
    // tmpfs, where there is one, as in a daemon's life.
    const runtime = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'dmlog-bench-'));
    try {
      const floor = await Floor.start(cluster);
      const clients = cluster.nodes.map((node) => {
        const directory = join(runtime, String(node.id));
        mkdirSync(directory);
        return node.client<NodeMethods, never>(program, [directory]);
      });
      const members = clients.map(({ pid }, rank) => [floor.pids[rank]!, pid]);
      if (unplaced !== true) place(cluster, members);
      return new Session(cluster, floor, clients, runtime);
    } catch (cause) {
      rmSync(runtime, { recursive: true, force: true });
      await cluster.destroy();
      throw cause;
    }
  }

  /** Network namespace of the first node. */
  get namespace(): string {
    return this.#cluster.node(1).namespace;
  }

  floor(mode: FloorMode, ms: number, pauseUs = 0): Promise<Summary> {
    return this.#floor.measure(mode, ms, pauseUs);
  }

  /** Opens a log on the first `count` nodes, one after the other. Returns how long each RESUME took, in ns. */
  async open(name: string, args: string, regions: number, count = this.clients.length): Promise<number[]> {
    const times: number[] = [];
    for (const [rank, client] of this.clients.slice(0, count).entries()) {
      times.push(await client.request('open', { name, args, regions, rank, nodes: this.clients.length }));
    }
    return times;
  }

  async close(name: string, count = this.clients.length): Promise<void> {
    for (const client of this.clients.slice(0, count)) await client.request('close', { name });
  }

  /** The first node plays. */
  async play(what: 'writes' | 'flushes' | 'work' | 'local', name: string, ms: number): Promise<Played> {
    return this.clients[0]!.request('play', { what, name, ms });
  }

  /** The same for a clustered log, with the messages that it cost. */
  async playCounted(
    what: 'writes' | 'flushes' | 'work' | 'local',
    name: string,
    ms: number,
  ): Promise<Counted> {
    const before = await this.sent(name);
    const played = await this.play(what, name, ms);
    const after = await this.sent(name);
    const [own, ...others] = after.map((sent, i) => (sent - before[i]!) / played.cycles);
    return { ...played, sentPerCycle: own!, othersSentPerCycle: others.reduce((sum, sent) => sum + sent, 0) };
  }

  /** Messages given to the log's group so far, by node. */
  async sent(name: string): Promise<number[]> {
    return Promise.all(this.clients.map((client) => client.request('sent', { name })));
  }

  async end(): Promise<void> {
    await this.#floor.end();
    await Promise.all(this.clients.map((client) => client.kill()));
    rmSync(this.#runtime, { recursive: true, force: true });
    await this.#cluster.destroy();
  }
}
