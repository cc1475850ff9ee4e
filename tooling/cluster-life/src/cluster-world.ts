import { fileURLToPath } from 'node:url';
import { buildProgram, type Cluster, startCluster } from '@dmlog/corosync-lab';
import { randomFrom } from '../../../packages/cluster/test/group-random.js';
import { Agreement } from './agreement.js';
import type { Stated } from './daemon-types.js';
import { LegsCheck } from './legs-check.js';
import { Machine } from './machine.js';
import { Mirror } from './mirror.js';

export interface ClusterWorldOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly regions: number;
  readonly kinds: readonly ('core' | 'disk')[];
  readonly tokenMs: number;
  readonly lazyClearMs: number;
  /** Default: 'dmsetup'. */
  readonly reload?: 'dmsetup' | 'off';
  /** Default: false. */
  readonly pages?: boolean;
}

const TURN_MS = 2;
const WAKE_MS = 100;

/** Programs for a node, bundled from source. */
export const buildDaemon = () => build('daemon-program.ts');
export const buildIntruder = () => build('intruder-program.ts');

function build(name: string): Promise<{ path: string; remove(): void }> {
  const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
  return buildProgram(here(name), here('../.cache'), [/^@dmlog\//, 'corosync-cpg-napi']);
}

/** Machines with real daemons and a real corosync, mirrors on storage that they share, and what must always be so. */
export class ClusterWorld {
  readonly lab: Cluster;
  readonly mirrors: readonly Mirror[];
  readonly machines: readonly Machine[];
  readonly agreement = new Agreement();
  readonly checks: readonly LegsCheck[];
  /** The first thing that must not be. */
  failure: Error | null = null;
  readonly #timers: NodeJS.Timeout[] = [];

  private constructor(lab: Cluster, program: string, options: ClusterWorldOptions) {
    const { seed, nodes, regions, kinds, lazyClearMs, reload = 'dmsetup', pages = false } = options;
    this.lab = lab;
    this.mirrors = kinds.map(
      (kind) =>
        new Mirror({ uuid: `LVM-life-${kind}`, kind, regions, imagePath: `${lab.directory}/image-${kind}` }),
    );
    this.checks = this.mirrors.map((mirror) => new LegsCheck(mirror));
    const parts = {
      lab,
      program,
      mirrors: this.mirrors,
      lazyClearMs,
      reload,
      pages,
      fail: (error: unknown) => this.fail(error),
      stated: (machine: Machine, all: readonly Stated[]) => {
        for (const one of all) {
          try {
            this.agreement.add(machine.name, one);
          } catch (error) {
            this.fail(error);
          }
        }
      },
    };
    this.machines = Array.from(
      { length: nodes },
      (_, i) => new Machine(parts, i + 1, randomFrom(seed * 1000 + i + 1)),
    );
    this.#timers.push(
      setInterval(() => {
        for (const machine of this.machines) machine.turn();
      }, TURN_MS),
      setInterval(() => {
        for (const { tables } of this.machines) for (const { kernel } of tables) kernel.wake();
      }, WAKE_MS),
    );
  }

  static async start(program: string, options: ClusterWorldOptions): Promise<ClusterWorld> {
    const lab = await startCluster({ nodes: options.nodes, tokenMs: options.tokenMs });
    return new ClusterWorld(lab, program, options);
  }

  fail(error: unknown): void {
    this.failure ??= error instanceof Error ? error : new Error(String(error));
  }

  /** Throws the first failure, with what happened last on each node. */
  throwFailure(): void {
    if (this.failure === null) return;
    const lines = this.machines.map(({ name, lines }) => `--- ${name}\n${lines.join('\n')}`);
    const views = this.machines.map(({ name, views }) => `${name} ${JSON.stringify([...views])}`);
    throw new Error(`${this.failure.message}\n${views.join('\n')}\n${lines.join('\n')}`, {
      cause: this.failure,
    });
  }

  /** Looks at all daemons and checks what must always be so. */
  async inspect(): Promise<void> {
    const before = this.checks.map((check) => check.begin());
    await Promise.all(this.machines.map((machine) => machine.look(true)));
    for (const [i, check] of this.checks.entries()) {
      try {
        check.end(before[i] as Map<number, string>, this.machines);
      } catch (error) {
        this.fail(error);
      }
    }
    this.throwFailure();
  }

  async until(what: string, condition: () => boolean, timeoutMs = 60_000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      await this.inspect();
      if (condition()) return;
      if (performance.now() > deadline) {
        this.fail(new Error(`${what}: not within ${timeoutMs} ms`));
        this.throwFailure();
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Whether the machine is where the others are, as far as their last views tell. */
  isInTouch(machine: Machine, { uuid }: Mirror): boolean {
    if (machine.isCut || machine.isPaused || machine.isWithoutCorosync) return false;
    const ringOf = (one: Machine) => one.views.get(uuid)?.agreedRing?.seq ?? 0;
    return ringOf(machine) === Math.max(...this.machines.map(ringOf));
  }

  async cut(machine: Machine): Promise<void> {
    machine.note('is cut off');
    machine.isCut = true;
    await this.lab.cut(machine.id);
  }

  async heal(machine: Machine): Promise<void> {
    machine.note('can be heard again');
    machine.watch.heals();
    machine.isCut = false;
    await this.lab.heal(machine.id);
  }

  pause(machine: Machine): void {
    machine.note('corosync stands still');
    machine.isPaused = true;
    this.lab.pauseCorosync(machine.id);
  }

  goOn(machine: Machine): void {
    if (!machine.isPaused) return;
    machine.note('corosync goes on');
    machine.watch.heals();
    machine.isPaused = false;
    this.lab.resumeCorosync(machine.id);
  }

  /** All faults end, everything that is down is started. */
  async healAll(): Promise<void> {
    for (const machine of this.machines) {
      machine.watch.heals();
      this.goOn(machine);
      if (machine.isWithoutCorosync) await machine.startCorosync();
      if (machine.isCut) await this.heal(machine);
      machine.startDaemon();
    }
    await this.lab.healAll();
  }

  /** Everything has come to rest: legs equal, all in sync, members alike. */
  isAtRest(): boolean {
    return this.mirrors.every((mirror) => {
      const tables = this.machines.map((machine) => machine.tableOf(mirror));
      const views = this.machines.map(({ views }) => views.get(mirror.uuid) ?? null);
      return (
        mirror.areEqual &&
        tables.every((table) => table.state === 'live' && table.isQuiet) &&
        views.every(
          (view) =>
            view?.operational === true &&
            view.mirror === 'live' &&
            view.inSync === mirror.regions &&
            view.unclear === 0 &&
            view.needReload.length === 0 &&
            view.position === views[0]?.position &&
            view.hash === views[0].hash,
        )
      );
    });
  }

  async destroy(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    await Promise.all(this.machines.map((machine) => machine.killDaemon()));
    await this.lab.destroy();
  }
}
