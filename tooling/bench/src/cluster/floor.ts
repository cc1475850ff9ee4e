import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type Cluster, waitUntil } from '@dmlog/corosync-lab';
import type { Summary } from '../driver.js';
import { BenchError } from '../errors.js';
import { compileCpg } from '../native.js';

/** Bytes of a message, about those of a clusterd message with one mark. */
const MESSAGE_BYTES = 64;
const JOIN_MS_MAX = 60_000;

/**
 * - `ping`: a multicast until its own delivery.
 * - `commit`: a multicast until the first other member's acknowledgement of it was delivered. All others send one.
 * - `commit-all`: the same until the last one's.
 */
export type FloorMode = 'ping' | 'commit' | 'commit-all';

interface Line {
  readonly members?: number;
  readonly fail?: string;
  readonly times?: Summary;
}

/** A C member of a group on every node of a cluster; the first one measures. */
export class Floor {
  readonly #members: readonly FloorMember[];

  private constructor(members: readonly FloorMember[]) {
    this.#members = members;
  }

  /** Throws {@link BenchError} `ERR_BENCH_NO_COMPILER` or `ERR_BENCH_SUBJECT`. */
  static async start(cluster: Cluster): Promise<Floor> {
    const program = compileCpg();
    const members = cluster.nodes.map((node) => {
      const child = node.spawn(program, [`dmlog-bench-floor-${process.pid}`], { stdio: 'pipe' });
      return new FloorMember(child);
    });
    const floor = new Floor(members);
    await waitUntil(
      'all C members are in the group',
      () => members.every((member) => member.members === members.length || member.failure !== undefined),
      JOIN_MS_MAX,
    );
    const failure = members.find((member) => member.failure !== undefined)?.failure;
    if (failure !== undefined) throw new BenchError('ERR_BENCH_SUBJECT', `the C member: ${failure}`);
    return floor;
  }

  /** Measures for `ms`. */
  async measure(mode: FloorMode, ms: number, pauseUs = 0): Promise<Summary> {
    return this.#members[0]!.command(`${mode} ${ms} ${MESSAGE_BYTES} ${pauseUs}`);
  }

  get pids(): number[] {
    return this.#members.map(({ pid }) => pid);
  }

  async end(): Promise<void> {
    await Promise.all(this.#members.map((member) => member.end()));
  }
}

class FloorMember {
  members = 0;
  failure: string | undefined;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #answer: { resolve(times: Summary): void; reject(error: Error): void } | undefined;

  constructor(child: ChildProcess) {
    this.#child = child;
    child.stdin!.on('error', () => {}); // its end tells
    createInterface({ input: child.stdout! }).on('line', (text) => this.#onLine(JSON.parse(text) as Line));
    this.#ended = new Promise((resolve) => {
      child.once('close', () => {
        this.#fail('it ended');
        resolve();
      });
      child.once('error', (error) => this.#fail(error.message));
    });
  }

  get pid(): number {
    return this.#child.pid ?? -1;
  }

  command(line: string): Promise<Summary> {
    return new Promise((resolve, reject) => {
      this.#answer = { resolve, reject };
      if (this.failure !== undefined) this.#fail(this.failure);
      else this.#child.stdin!.write(`${line}\n`);
    });
  }

  async end(): Promise<void> {
    this.#child.stdin!.end();
    await this.#ended;
  }

  #onLine({ members, fail, times }: Line): void {
    if (members !== undefined) this.members = members;
    if (fail !== undefined) this.#fail(fail);
    if (times !== undefined) this.#answer?.resolve(times);
  }

  #fail(why: string): void {
    this.failure ??= why;
    this.#answer?.reject(new BenchError('ERR_BENCH_SUBJECT', `the C member: ${this.failure}`));
  }
}
