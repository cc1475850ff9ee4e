import { type ChildProcess, execFile, type SpawnOptions, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CorosyncLabError } from './errors.js';
import { type CommandResult, hostEnvironment, ip, isAlive, waitUntil } from './host.js';
import { LineClient, type LineMethods } from './lines.js';
import { killProcess, removeSharedMemory, tailOf } from './run.js';

const LOG_LINES = 30;
const STOP_TIMEOUT_MS = 30_000;

export interface LabNodeInit {
  readonly id: number;
  readonly address: string;
  /** Of the network; also of its bridge's. */
  readonly namespace: string;
  readonly switchNamespace: string;
  readonly runDirectory: string;
  readonly configuration: string;
}

/** One node: a network namespace, and the corosync in it. */
export class LabNode {
  readonly id: number;
  readonly address: string;
  readonly namespace: string;
  /** Of this node: corosync.conf, log, and what stands for /run and /var/lib/corosync. */
  readonly directory: string;
  readonly #init: LabNodeInit;
  readonly #programs = new Set<ChildProcess>();
  #corosync: ChildProcess | undefined;
  #starts = 0;

  constructor(init: LabNodeInit) {
    this.#init = init;
    this.id = init.id;
    this.address = init.address;
    this.namespace = init.namespace;
    this.directory = join(init.runDirectory, `n${init.id}`);
    for (const name of ['run', 'lib']) mkdirSync(join(this.directory, name), { recursive: true });
    writeFileSync(join(this.directory, 'corosync.conf'), init.configuration);
  }

  /** Of corosync; undefined when it does not run. */
  get pid(): number | undefined {
    const pid = this.#corosync?.pid;
    return pid !== undefined && isAlive(pid) ? pid : undefined;
  }

  /** Every process of this node that we started and that lives. */
  get pids(): number[] {
    const all = [this.#corosync, ...this.#programs].map((child) => child?.pid);
    return all.filter((pid) => pid !== undefined && isAlive(pid)) as number[];
  }

  get logPath(): string {
    return join(this.directory, `log${this.#starts}`);
  }

  /** What corosync has written since its last start. */
  log(): string {
    return readFileSync(this.logPath, 'utf8');
  }

  logTail(): string {
    return `--- corosync of node ${this.id}\n${tailOf(this.logPath, LOG_LINES)}`;
  }

  /** Nodes that this corosync synchronised with last, ascending; undefined while it synchronises. Read from its log. */
  members(): number[] | undefined {
    if (this.pid === undefined) return undefined;
    const text = this.log();
    const began = text.lastIndexOf('Sync members[');
    if (began < 0 || !text.includes('Completed service synchronization', began)) return undefined;
    const list = /\]:((?: \d+)+)/.exec(text.slice(began))?.[1];
    return list === undefined ? undefined : list.trim().split(' ').map(Number);
  }

  /** Starts corosync. It dies with this process. Use the cluster's methods to wait until it is a member. */
  start(): void {
    if (this.pid !== undefined) {
      throw new CorosyncLabError('ERR_COROSYNC_LAB_USAGE', `corosync of node ${this.id} runs already`);
    }
    this.#starts++;
    const log = openSync(this.logPath, 'w');
    // Every step replaces the one before: the child's pid is corosync's. It gets its own /run and /var/lib/corosync, and shares /dev/shm.
    const script =
      'mount --bind "$1/lib" /var/lib/corosync && mount --bind "$1/run" /run && exec setpriv --pdeathsig KILL corosync -f -c "$1/corosync.conf"';
    const child = spawn(
      'ip',
      ['netns', 'exec', this.namespace, 'unshare', '-m', 'sh', '-c', script, 'sh', this.directory],
      { stdio: ['ignore', log, log], env: hostEnvironment(), detached: true },
    );
    closeSync(log);
    child.on('error', () => {}); // members() never comes true, and says so
    this.#corosync = child;
    if (child.pid !== undefined) writeFileSync(join(this.#init.runDirectory, 'pids', `${child.pid}`), '');
  }

  /** SIGKILL: as a crash of corosync. Clients find out at once. */
  async kill(): Promise<void> {
    const pid = this.#corosync?.pid;
    if (pid === undefined) return;
    await killProcess(pid);
    removeSharedMemory(pid);
  }

  /** SIGTERM: corosync says goodbye to the other nodes. */
  async stop(): Promise<void> {
    const pid = this.#corosync?.pid;
    if (pid === undefined || !isAlive(pid)) return;
    process.kill(pid, 'SIGTERM');
    await waitUntil(
      `corosync of node ${this.id} stops`,
      () => !isAlive(pid),
      STOP_TIMEOUT_MS,
      () => this.logTail(),
    );
    removeSharedMemory(pid);
  }

  /** SIGSTOP. */
  pause(): void {
    this.#signal('SIGSTOP');
  }

  /** SIGCONT. */
  resume(): void {
    this.#signal('SIGCONT');
  }

  /** Pulls the network cable. */
  async cut(): Promise<void> {
    await ip('-n', this.#init.switchNamespace, 'link', 'set', `p${this.id}`, 'down');
  }

  /** Plugs it in again. */
  async heal(): Promise<void> {
    await ip('-n', this.#init.switchNamespace, 'link', 'set', `p${this.id}`, 'up');
  }

  /** A program in this node's network; it can reach its corosync. It dies with this process. */
  spawn(command: string, args: readonly string[] = [], options: SpawnOptions = {}): ChildProcess {
    const child = spawn(
      'ip',
      ['netns', 'exec', this.namespace, 'setpriv', '--pdeathsig', 'KILL', command, ...args],
      { ...options, env: { ...hostEnvironment(), ...options.env } },
    );
    this.#programs.add(child);
    child.once('exit', () => this.#programs.delete(child));
    return child;
  }

  /** Runs a program in this node's network to its end. */
  exec(command: string, args: readonly string[] = [], timeoutMs = 60_000): Promise<CommandResult> {
    return new Promise((resolve, reject) => {
      execFile(
        'ip',
        ['netns', 'exec', this.namespace, command, ...args],
        { timeout: timeoutMs, killSignal: 'SIGKILL', env: hostEnvironment(), maxBuffer: 64 << 20 },
        (error, stdout, stderr) => {
          if (error === null || typeof error.code === 'number')
            resolve({ code: Number(error?.code ?? 0), stdout, stderr });
          else
            reject(
              new CorosyncLabError(
                'ERR_COROSYNC_LAB_COMMAND',
                `${command} on node ${this.id}: ${error.message}`,
                { cause: error },
              ),
            );
        },
      );
    });
  }

  /** A Node program in this node's network that speaks lines (`serveLines`). */
  client<Methods extends LineMethods, Event>(
    program: string,
    args: readonly string[] = [],
    environment: NodeJS.ProcessEnv = {},
  ): LineClient<Methods, Event> {
    return new LineClient(
      this.spawn(process.execPath, [program, ...args], { stdio: 'pipe', env: environment }),
    );
  }

  #signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    const pid = this.pid;
    if (pid === undefined) {
      throw new CorosyncLabError('ERR_COROSYNC_LAB_USAGE', `corosync of node ${this.id} does not run`);
    }
    process.kill(pid, signal);
  }
}
