import { join } from 'node:path';
import type { Cluster, LineClient } from '@dmlog/corosync-lab';
import type { DaemonMethods } from './daemon-program.js';
import type { DaemonEvent, LogAnswer, LogRequest, Stated, View } from './daemon-types.js';
import type { Mirror } from './mirror.js';
import { QuorumWatch } from './quorum-watch.js';
import { Table, type TableHost } from './table.js';

type Daemon = LineClient<DaemonMethods, DaemonEvent>;

/** Lines that are kept of each machine for a failure's report. */
const LINES_MAX = 60;
const WARNING = 40;

export interface World {
  readonly lab: Cluster;
  /** Path of the daemon's program. */
  readonly program: string;
  readonly mirrors: readonly Mirror[];
  readonly lazyClearMs: number;
  readonly reload: 'dmsetup' | 'off';
  /** Whether daemons serve their status pages. */
  readonly pages: boolean;
  /** Something that must not be. */
  fail(error: unknown): void;
  /** A daemon has stated these. */
  stated(machine: Machine, all: readonly Stated[]): void;
}

/** One machine: its modelled kernel here, its daemon in a process in the node's network, its corosync. */
export class Machine implements TableHost {
  readonly id: number;
  readonly name: string;
  readonly tables: readonly Table[];
  readonly runtimeDir: string;
  readonly watch = new QuorumWatch((text) => this.fail(new Error(text)));
  /** The last views of each log, by uuid. */
  readonly views = new Map<string, View | null>();
  readonly lines: string[] = [];
  boot = 1;
  isCut = false;
  isPaused = false;
  isWithoutCorosync = false;
  readonly #world: World;
  #daemon: Daemon | null = null;
  /** Resolves when the daemon answers. */
  #ready: Promise<void> = Promise.resolve();

  constructor(world: World, id: number, draw: () => number) {
    this.id = id;
    this.name = `node ${id}`;
    this.#world = world;
    this.runtimeDir = join(world.lab.directory, `runtime-${id}`);
    this.tables = world.mirrors.map((mirror) => new Table(mirror, this, draw));
  }

  get hasDaemon(): boolean {
    return this.#daemon !== null;
  }

  get daemon(): Daemon | null {
    return this.#daemon;
  }

  /** Nothing is done to it at the moment. */
  get isWhole(): boolean {
    return this.hasDaemon && !this.isCut && !this.isPaused && !this.isWithoutCorosync;
  }

  get bootId(): string {
    return `${this.id}${String(this.boot).padStart(7, '0')}`.padStart(32, '0');
  }

  /** Where the status page is served: a unix socket, as who looks is in no network of a node. */
  get pageSocket(): string {
    return join(this.runtimeDir, 'page.sock');
  }

  tableOf(mirror: Mirror): Table {
    return this.tables.find((table) => table.mirror === mirror) as Table;
  }

  note(text: string): void {
    this.lines.push(`${(performance.now() / 1000).toFixed(2)} ${text}`);
    if (this.lines.length > LINES_MAX) this.lines.shift();
  }

  fail(error: unknown): void {
    this.#world.fail(error);
  }

  startDaemon(): void {
    if (this.#daemon !== null) return;
    this.note('daemon starts');
    const { lab, program, mirrors, lazyClearMs, reload, pages } = this.#world;
    const daemon: Daemon = lab.node(this.id).client(program);
    this.#daemon = daemon;
    const tables = mirrors.map(({ table }) => table);
    const { bootId, runtimeDir } = this;
    const page = pages ? this.pageSocket : null;
    this.#ready = daemon
      .request('start', { bootId, runtimeDir, lazyClearMs, reload, tables, page })
      .catch((error: unknown) => {
        if (this.#daemon === daemon) this.fail(error);
      });
    daemon.exited.then(({ code, signal }) => {
      if (this.#daemon !== daemon) return;
      this.#daemon = null;
      this.fail(new Error(`${this.name}: the daemon ended by itself (${signal ?? code})\n${daemon.stderr}`));
    });
  }

  /** SIGKILL. The kernel goes on. */
  async killDaemon(): Promise<void> {
    const daemon = this.#daemon;
    if (daemon === null) return;
    this.note('daemon is killed');
    this.#daemon = null;
    this.views.clear();
    await daemon.kill();
  }

  /** As {@link killDaemon}, for one that is going to end by itself. */
  expectDeath(): Promise<unknown> {
    const daemon = this.#daemon as Daemon;
    this.#daemon = null;
    this.views.clear();
    return daemon.exited;
  }

  /** The power is cut: daemon, corosync and kernel. */
  async crash(): Promise<void> {
    this.note('crashes');
    this.boot++;
    this.isWithoutCorosync = true;
    this.isPaused = false;
    for (const table of this.tables) table.crash();
    await Promise.all([this.killDaemon(), this.#world.lab.kill(this.id)]);
  }

  async startCorosync(): Promise<void> {
    this.note('corosync starts');
    this.watch.heals();
    await this.#world.lab.start(this.id);
    this.isWithoutCorosync = false;
  }

  async ask(request: LogRequest): Promise<LogAnswer | null> {
    const daemon = this.#daemon;
    if (daemon === null) return null;
    await this.#ready;
    if (this.#daemon !== daemon) return null;
    try {
      return await daemon.request('ask', request);
    } catch {
      // Dead, or silent for so long that the kernel has asked again.
      return null;
    }
  }

  /** Looks at the daemon's logs, and takes what it has stated. Bit by bit where `dirty`. */
  async look(dirty = false): Promise<void> {
    const daemon = this.#daemon;
    if (daemon === null) return;
    const { epoch } = this.watch;
    try {
      await this.#ready;
      for (const { uuid } of this.#world.mirrors) {
        const view = await daemon.request('view', { uuid, dirty });
        if (this.#daemon === daemon) this.views.set(uuid, view);
      }
      this.#world.stated(this, await daemon.request('stated'));
    } catch {
      return; // it was killed
    }
    this.#hear(daemon);
    this.watch.look(epoch, this);
  }

  /** One moment of its kernel. */
  turn(): void {
    for (const table of this.tables) table.turn();
  }

  #hear(daemon: Daemon): void {
    for (const event of daemon.events.splice(0)) {
      if (event.kind === 'line') {
        this.note(`${event.level >= WARNING ? 'WARNING ' : ''}${event.text}`);
        continue;
      }
      const table = this.tables.find(({ mirror }) => mirror.uuid === event.uuid);
      table?.reload().then(
        () => daemon.request('reloaded', null).catch(() => {}),
        (error: Error) => {
          daemon.request('reloaded', error.message).catch(() => {});
        },
      );
    }
  }
}
