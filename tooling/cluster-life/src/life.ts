import { setTimeout as sleep } from 'node:timers/promises';
import { randomFrom } from '../../../packages/cluster/test/group-random.js';
import type { ClusterWorld } from './cluster-world.js';
import { LooseWrites } from './loose-writes.js';
import type { Machine } from './machine.js';
import { GoneError, type Table } from './table.js';

/** What happened. */
export const newCounts = () => ({
  writes: 0,
  reads: 0,
  joins: 0,
  leaves: 0,
  suspends: 0,
  reloads: 0,
  daemonKills: 0,
  crashes: 0,
  powerCuts: 0,
  corosyncKills: 0,
  pauses: 0,
  cuts: 0,
  shatters: 0,
});
export type Counts = ReturnType<typeof newCounts>;

const INSPECT_MS = 250;
const WRITES_MS = 10;
/** Mean time between two things that happen. */
const EVENT_MS = 350;
const REST_MS_MAX = 180_000;

interface Deed {
  readonly weight: number;
  /** Whether it could be done. */
  run(): boolean;
}

/** Random joins, leaves, kills, cuts and writes. The seed decides what is tried, in which order; when it meets what the cluster does is up to the machine. */
export class Life {
  readonly counts = newCounts();
  readonly #loose = new LooseWrites();
  readonly #world: ClusterWorld;
  readonly #draw: () => number;
  readonly #deeds: readonly Deed[];
  #tasks = new Set<Promise<void>>();
  #writing = true;
  #over = false;

  constructor(world: ClusterWorld, seed: number) {
    this.#world = world;
    this.#draw = randomFrom(seed);
    for (const mirror of world.mirrors) {
      mirror.legs.ended = (region, name) => {
        const author = world.machines.find((machine) => machine.name === name) as Machine;
        this.#loose.ended(mirror, region, world.isInTouch(author, mirror) ? null : author);
      };
    }
    this.#deeds = [
      { weight: 4, run: () => this.#killDaemon() },
      { weight: 2, run: () => this.#crash() },
      { weight: 2, run: () => this.#killCorosync() },
      { weight: 3, run: () => this.#pause() },
      { weight: 5, run: () => this.#cut() },
      { weight: 1, run: () => this.#shatter() },
      { weight: 5, run: () => this.#leave() },
      { weight: 3, run: () => this.#suspend() },
      { weight: 3, run: () => this.#reload() },
      { weight: 0.4, run: () => this.#cutPower() },
    ];
  }

  /** Lives for `ms`, then heals all and waits until everything is at rest. */
  async run(ms: number): Promise<void> {
    const world = this.#world;
    for (const machine of world.machines) {
      machine.startDaemon();
      this.#join(machine);
    }
    const load = this.#everyNow(WRITES_MS, () => this.#load());
    const inspection = this.#everyNow(INSPECT_MS, () => world.inspect());
    // It is awaited at the end; what it found is thrown by everybody who looks.
    inspection.catch(() => {});
    const end = performance.now() + ms;
    try {
      await world.until('all have joined', () => world.machines.every((one) => this.#knows(one)), 60_000);
      while (performance.now() < end) {
        await sleep(this.#draw() * 2 * EVENT_MS);
        await world.inspect();
        this.#happen();
      }
      this.#writing = false;
      await this.#settle();
    } finally {
      this.#over = true;
      this.#writing = false;
      await Promise.allSettled([load, inspection]);
    }
    await inspection;
  }

  async #settle(): Promise<void> {
    const world = this.#world;
    // Deeds that are under way end by themselves: each heals what it did.
    const deadline = performance.now() + REST_MS_MAX;
    await world.healAll();
    while (this.#tasks.size > 0 && performance.now() < deadline) await sleep(50);
    await world.healAll();
    for (const machine of world.machines) this.#join(machine);
    await world.until(
      'everything is at rest',
      () => {
        for (const machine of world.machines) this.#reloadWhereNeeded(machine);
        return world.isAtRest();
      },
      REST_MS_MAX,
    );
    world.agreement.finish();
  }

  /** What an operator does whom the daemon's own reloads are too slow. */
  #reloadWhereNeeded(machine: Machine): void {
    for (const table of machine.tables) {
      const view = machine.views.get(table.mirror.uuid);
      if (view?.needReload.includes(machine.id) !== true || this.#busy.has(table)) continue;
      this.#busy.add(table);
      this.#task(() => table.reload()).finally(() => this.#busy.delete(table));
    }
  }
  readonly #busy = new Set<Table>();

  async #everyNow(ms: number, what: () => void | Promise<void>): Promise<void> {
    while (!this.#over) {
      await what();
      await sleep(ms);
    }
  }

  #below(count: number): number {
    return Math.floor(this.#draw() * count);
  }

  #pick(): Machine {
    return this.#world.machines[this.#below(this.#world.machines.length)] as Machine;
  }

  async #load(): Promise<void> {
    if (!this.#writing) return;
    for (const mirror of this.#world.mirrors) {
      const machine = this.#pick();
      const { kernel, state } = machine.tableOf(mirror);
      // Writes crowd in a part of the mirror, so that nodes meet.
      const region = this.#draw() < 0.7 ? this.#below(mirror.regions / 4) : this.#below(mirror.regions);
      if (this.#draw() < 0.2) this.#read(machine, machine.tableOf(mirror), region);
      else if (state === 'live' && !kernel.wantSuspend && !mirror.legs.busy.has(region)) {
        this.counts.writes++;
        kernel.write(region);
      }
    }
  }

  /** A read never returns less than what was acknowledged before it. */
  #read(machine: Machine, table: Table, region: number): void {
    const { kernel, mirror } = table;
    const { legs } = mirror;
    if (table.state !== 'live' || kernel.wantSuspend || legs.busy.has(region)) return;
    if (!this.#knows(machine)) return;
    const author = this.#loose.authorOf(mirror, region);
    if (author !== null && !this.#world.isInTouch(author, mirror)) return;
    const acknowledged = legs.acknowledged[region] as number;
    const check = (anyLeg: boolean) => {
      for (const leg of anyLeg ? [0, 1] : [0]) {
        const value = legs.values[leg]?.[region] as number;
        if (value >= acknowledged) continue;
        const text = `${machine.name} reads ${value} from leg ${leg} of region ${region} of ${mirror.uuid}, older than ${acknowledged}`;
        this.#world.fail(new Error(`${text}\n${mirror.historyOf(region)}`));
      }
      this.counts.reads++;
    };
    const known = kernel.opinion(region);
    if (known !== null) return check(known);
    const before = mirror.valuesOf(region);
    table.isInSync(region).then((isInSync) => {
      if (isInSync === null || legs.busy.has(region) || mirror.valuesOf(region) !== before) return;
      if (kernel === table.kernel && kernel.opinion(region) === null && this.#knows(machine)) check(isInSync);
    });
  }

  #happen(): void {
    let left = this.#draw() * this.#deeds.reduce((sum, { weight }) => sum + weight, 0);
    for (const { weight, run } of this.#deeds) {
      left -= weight;
      if (left <= 0) return void run();
    }
  }

  /** It takes part in all logs that it has, and nothing is done to it. */
  #knows(machine: Machine): boolean {
    return (
      machine.isWhole &&
      this.#world.mirrors.every(({ uuid }) => {
        const view = machine.views.get(uuid);
        return view?.operational === true && view.mirror === 'live';
      })
    );
  }

  /** Nothing is known of it that is not so: what it did while it was out of touch, the others know. */
  #isInTouch(machine: Machine): boolean {
    return (
      this.#knows(machine) && this.#world.mirrors.every((mirror) => this.#world.isInTouch(machine, mirror))
    );
  }

  /** A core log's state must not be lost with the last that has it (docs/cluster-protocol.md, known limits). */
  #isSafeWithout(victim: Machine): boolean {
    return this.#world.machines.some((machine) => machine !== victim && this.#knows(machine));
  }

  #task(work: () => Promise<void>): Promise<void> {
    const task = work().catch((error: unknown) => {
      if (!(error instanceof GoneError)) this.#world.fail(error);
    });
    this.#tasks.add(task);
    return task.finally(() => this.#tasks.delete(task));
  }

  #join(machine: Machine): void {
    for (const table of machine.tables) {
      if (table.state === 'live') continue;
      this.counts.joins++;
      this.#task(() => table.join());
    }
  }

  #killDaemon(): boolean {
    const machine = this.#pick();
    if (!this.#isInTouch(machine) || !this.#isSafeWithout(machine)) return false;
    this.counts.daemonKills++;
    const downMs = this.#draw() * 1500;
    this.#task(async () => {
      await machine.killDaemon();
      await sleep(downMs);
      machine.startDaemon();
    });
    return true;
  }

  #crash(): boolean {
    const machine = this.#pick();
    if (!this.#isInTouch(machine) || !this.#isSafeWithout(machine)) return false;
    this.counts.crashes++;
    const downMs = this.#draw() * 3000;
    this.#task(() => this.#reboot(machine, downMs));
    return true;
  }

  async #reboot(machine: Machine, downMs: number): Promise<void> {
    await machine.crash();
    await sleep(downMs);
    await machine.startCorosync();
    machine.startDaemon();
    this.#join(machine);
  }

  #cutPower(): boolean {
    const { machines } = this.#world;
    if (!machines.every((machine) => this.#isInTouch(machine))) return false;
    this.counts.powerCuts++;
    for (const machine of machines) machine.note('the power of the room goes');
    this.#task(async () => {
      await Promise.all(machines.map((machine) => this.#reboot(machine, 300)));
    });
    return true;
  }

  #killCorosync(): boolean {
    const machine = this.#pick();
    if (!this.#isInTouch(machine) || !this.#isSafeWithout(machine)) return false;
    this.counts.corosyncKills++;
    machine.isWithoutCorosync = true;
    machine.note('corosync is killed');
    const downMs = this.#draw() * 2500;
    const { boot } = machine;
    this.#task(async () => {
      await this.#world.lab.kill(machine.id);
      await sleep(downMs);
      if (machine.boot === boot && machine.isWithoutCorosync) await machine.startCorosync();
    });
    return true;
  }

  #pause(): boolean {
    const machine = this.#pick();
    if (!machine.isWhole || !this.#isSafeWithout(machine)) return false;
    this.counts.pauses++;
    const ms = this.#draw() * 4000;
    this.#task(async () => {
      this.#world.pause(machine);
      await sleep(ms);
      this.#world.goOn(machine);
    });
    return true;
  }

  #cut(): boolean {
    const machine = this.#pick();
    if (!machine.isWhole || !this.#isSafeWithout(machine)) return false;
    this.counts.cuts++;
    const ms = this.#draw() * 4000;
    this.#task(async () => {
      await this.#world.cut(machine);
      await sleep(ms);
      if (machine.isCut) await this.#world.heal(machine);
    });
    return true;
  }

  /** Nobody hears anybody. */
  #shatter(): boolean {
    const { machines } = this.#world;
    if (!machines.every((machine) => this.#knows(machine))) return false;
    this.counts.shatters++;
    const ms = this.#draw() * 4000;
    this.#task(async () => {
      for (const machine of machines) await this.#world.cut(machine);
      await sleep(ms);
      for (const machine of machines) if (machine.isCut) await this.#world.heal(machine);
    });
    return true;
  }

  #liveTable(): { machine: Machine; table: Table } | null {
    const machine = this.#pick();
    const table = machine.tables[this.#below(machine.tables.length)] as Table;
    if (table.state !== 'live' || table.kernel.wantSuspend) return null;
    return machine.isWhole && this.#isSafeWithout(machine) ? { machine, table } : null;
  }

  #leave(): boolean {
    const found = this.#liveTable();
    if (found === null) return false;
    this.counts.leaves++;
    const awayMs = this.#draw() * 3000;
    found.machine.note(`leaves ${found.table.mirror.uuid}`);
    this.#task(async () => {
      await found.table.leave();
      await sleep(awayMs);
      this.counts.joins++;
      await found.table.join();
    });
    return true;
  }

  #suspend(): boolean {
    const found = this.#liveTable();
    if (found === null) return false;
    this.counts.suspends++;
    const ms = this.#draw() * 1500;
    found.machine.note(`suspends ${found.table.mirror.uuid}`);
    this.#task(async () => {
      await found.table.suspend();
      await sleep(ms);
      await found.table.join();
    });
    return true;
  }

  #reload(): boolean {
    const found = this.#liveTable();
    if (found === null) return false;
    this.counts.reloads++;
    found.machine.note(`reloads ${found.table.mirror.uuid}`);
    this.#task(() => found.table.reload());
    return true;
  }
}
