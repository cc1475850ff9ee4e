import { RequestType } from '@dmlog/protocol';
import { SimulationFailure } from './failure.js';
import type { Machine } from './machine.js';
import { memoryFiles } from './memory-fs.js';
import { FAULTS, type FaultName, REGIONS_PER_BLOCK } from './parameters.js';
import type { World } from './world.js';

/**
 * What may go wrong, and what a correct system survives of it.
 *
 * Anything may happen at any moment between two steps. Only what nobody can survive does not happen: in a cluster, the last member that knows what kernels believe does not
 * die alone (a core log has no other memory; a disk log's kernels go on with what they believed), the log device does not fail under a mirror that is told to
 * go on without it, and the leg that all others are copied from does not fail. A machine that wrote after the others had taken it for dead does not die before it is back: see
 * `Outcasts`.
 */
/** Faults that may lie in wait for a request that is under way, and strike whoever asks it: chance alone comes too seldom in the middle of things. */
const LURKING: readonly FaultName[] = ['crash', 'killDaemon', 'killEngine', 'partition', 'pause'];
const LURKS_CHANCE = 0.4;
/** In the place of a request: a write of several blocks is on its way to the log device. */
const SEVERAL_BLOCKS = -1;
const MOMENTS = [
  RequestType.FLUSH,
  RequestType.FLUSH,
  RequestType.SET_REGION_SYNC,
  RequestType.GET_RESYNC_WORK,
  RequestType.RESUME,
  RequestType.POSTSUSPEND,
] as const;

export class Faults {
  readonly #world: World;
  readonly #story: (line: string) => void;
  readonly #names: readonly FaultName[];
  readonly #total: number;
  /** The fault that lies in wait, and for what. */
  #lurking: { readonly name: FaultName; readonly type: number } | null = null;
  /** Machines whose mirror is being removed. */
  readonly #leaving = new Set<Machine>();

  constructor(world: World, story: (line: string) => void) {
    this.#world = world;
    this.#story = story;
    const { weights } = world.parameters;
    this.#names = FAULTS.filter((name) => weights[name] > 0);
    this.#total = this.#names.reduce((sum, name) => sum + weights[name], 0);
  }

  /** One fault, drawn by the run's weights. */
  async happen(): Promise<void> {
    const { random, parameters } = this.#world;
    let left = random.next() * this.#total;
    for (const name of this.#names) {
      left -= parameters.weights[name];
      if (left >= 0) continue;
      if (LURKING.includes(name) && random.chance(LURKS_CHANCE)) {
        const moment = random.pick(MOMENTS);
        this.#lurking = { name, type: name === 'crash' && this.#hasLargeImage ? SEVERAL_BLOCKS : moment };
        return;
      }
      return this.#do(name, this.#victimOf(name, random.pick(this.#world.machines)), false);
    }
  }

  /** Whether a fault lies in wait whose moment has come: the machine that it strikes. */
  get prey(): Machine | null {
    const lurking = this.#lurking;
    if (lurking === null) return null;
    const { type } = lurking;
    const isMoment = ({ kernel, daemon }: Machine) =>
      type === SEVERAL_BLOCKS ? daemon?.writesSeveralBlocks === true : kernel.isAsking(type);
    return this.#world.machines.find(isMoment) ?? null;
  }

  /** Of several blocks: a write of it can be torn. */
  get #hasLargeImage(): boolean {
    const { kind, regionCount } = this.#world.parameters;
    return kind === 'disk' && regionCount > REGIONS_PER_BLOCK;
  }

  /** The fault that lies in wait strikes. */
  async strike(machine: Machine): Promise<void> {
    const lurking = this.#lurking;
    this.#lurking = null;
    if (lurking === null) return;
    this.#world.coverage.saw('fault in the middle of a request');
    return this.#do(lurking.name, machine, true);
  }

  /** Who sends a snapshot dies in the middle of it more often than chance has it. */
  #victimOf(name: FaultName, drawn: Machine): Machine {
    if (name !== 'crash' && name !== 'killDaemon' && name !== 'killEngine') return drawn;
    return this.#world.situations.sender ?? drawn;
  }

  /** Everything is mended. */
  async end(): Promise<void> {
    const { network, machines, legs, disk } = this.#world;
    if (disk !== null) disk.failing = false;
    legs.failed.fill(false);
    const dead = this.#world.parameters.keepsDead ? this.#dispensable() : null;
    for (const machine of machines) {
      machine.lossy = 0;
      machine.slow = false;
      this.#unpause(machine);
      if (machine === dead) continue;
      machine.off = false;
      if (network?.nodeState(machine.nodeId) === 'down') network.restartNode(machine.nodeId);
    }
    this.#partition([]);
    for (const machine of machines) if (machine !== dead) await machine.startDaemon();
  }

  /** A machine that is off and may stay so: the others are a majority. */
  #dispensable(): Machine | null {
    const { machines, coverage } = this.#world;
    const dead = machines.length > 2 ? machines.find(({ off }) => off) : undefined;
    if (dead !== undefined) coverage.saw('machine never back');
    return dead ?? null;
  }

  async #turnOn(machine: Machine): Promise<void> {
    machine.off = false;
    this.#world.network?.restartNode(machine.nodeId);
    await machine.startDaemon();
  }

  /** `alone`: a partition cuts off this machine. */
  async #do(name: FaultName, machine: Machine, alone: boolean): Promise<void> {
    const { world } = { world: this.#world };
    const { random, network, machines, legs, disk, coverage, parameters } = world;
    const { kernel, nodeId } = machine;
    const say = (text: string) => this.#story(`*** node ${nodeId}: ${text}`);
    switch (name) {
      case 'crash':
        if (!this.#mayDie(machine)) return;
        say('the machine crashes');
        return this.#crash([machine], random.chance(0.3));
      case 'powerCut':
        if (
          parameters.clustered &&
          (parameters.kind !== 'disk' || !machines.every((one) => this.#knowsNothingAlone(one)))
        )
          return;
        say('the power of all machines is cut');
        coverage.saw('power cut of all machines');
        return this.#crash(machines, false);
      case 'killDaemon':
        if (machine.daemon === null || !this.#mayLoseDaemon(machine)) return;
        say('the daemon dies');
        coverage.saw('daemon death');
        world.situations.death(machine);
        return machine.killDaemon();
      case 'startDaemons':
        for (const one of machines) {
          if (one.paused || one.off || one.daemon !== null) continue;
          if (one.statePaths().some((path) => path.endsWith('.log')))
            coverage.saw('daemon found its logs again');
          await one.startDaemon();
        }
        return;
      case 'damageState':
        return this.#damageState(machine);
      case 'killEngine':
        if (network?.nodeState(nodeId) !== 'running' || !this.#mayLoseDaemon(machine)) return;
        say('the group engine dies');
        coverage.saw('engine death');
        world.situations.death(machine);
        return network.killEngine(nodeId, random.chance(0.3));
      case 'startEngines':
        for (const one of machines)
          if (one.off) await this.#turnOn(one);
          else if (network?.nodeState(one.nodeId) === 'down') network.restartNode(one.nodeId);
        return;
      case 'partition':
        if (network === null || machines.length < 2) return;
        this.#story('*** the network falls apart');
        coverage.saw('partition');
        return this.#partition(
          parameters.nodeIds.filter((one) => (alone ? one === nodeId : random.chance(0.5))),
        );
      case 'heal':
        this.#story('*** the network is whole again');
        return this.#partition([]);
      case 'loseToken':
        return network?.loseToken(nodeId);
      case 'pause':
        if (machine.paused || machine.off || network?.nodeState(nodeId) === 'down') return;
        say('the machine stands still');
        coverage.saw('machine paused');
        machine.paused = true;
        return network?.pauseNode(nodeId);
      case 'unpause':
        for (const one of machines) this.#unpause(one);
        return;
      case 'clockJump':
        coverage.saw('clock jump');
        return machine.jumpClock(random.pick([1000, 60_000, 3_600_000]));
      case 'lossy':
        machine.lossy = machine.lossy > 0 ? 0 : random.pick([0.02, 0.3]);
        return;
      case 'failLogDisk':
        if (disk === null || !parameters.handlesErrors) return;
        disk.failing = !disk.failing;
        this.#story(`*** the log device ${disk.failing ? 'fails' : 'works again'}`);
        if (disk.failing) coverage.saw('log device failed');
        return;
      case 'failLeg':
        if (!parameters.handlesErrors) return;
        legs.failed[1] = !legs.failed[1];
        this.#story(`*** leg 1 ${legs.failed[1] ? 'fails' : 'works again'}`);
        if (legs.failed[1]) coverage.saw('leg failed');
        return;
      case 'reload':
        if (kernel.live === null || !kernel.operate(world.reload(machine))) return;
        say('the operator reloads the table');
        coverage.saw('table exchanged');
        return;
      case 'suspend':
        if (kernel.live === null || kernel.suspended || !kernel.operate(this.#suspend(machine))) return;
        say('the operator suspends and resumes');
        coverage.saw('table suspended and resumed');
        return;
      case 'loadAndClear':
        if (kernel.live === null || !kernel.operate(this.#loadAndClear(machine))) return;
        say('the operator loads a table and clears it');
        coverage.saw('inactive table cleared');
        return;
      case 'remove':
        if (kernel.live === null || !this.#mayLeave(machine)) return;
        if (!kernel.operate(kernel.remove(), () => this.#leaving.delete(machine))) return;
        this.#leaving.add(machine);
        say('the operator removes the mirror');
        coverage.saw('mirror removed');
        return;
      case 'slowLegs':
        machine.slow = !machine.slow;
        if (machine.slow) coverage.saw('slow legs');
        return;
      case 'status':
        kernel.operate(kernel.status());
        return;
    }
  }

  /** These nodes on one side, the others on the other. */
  #partition(side: readonly number[]): void {
    const { network, situations } = this.#world;
    network?.partition([side]);
    situations.partitioned(side);
  }

  /** A daemon gives its place to another process: no fault, but it may meet any. */
  async handOver(): Promise<void> {
    const { random, machines, parameters } = this.#world;
    const machine = random.pick(machines);
    if (machine.paused || (parameters.clustered && !this.#othersKnow(machine))) return;
    this.#story(`*** node ${machine.nodeId}: the daemon is to hand over its place`);
    await machine.handOver();
  }

  *#suspend({ kernel }: Machine) {
    yield* kernel.suspend(true);
    yield this.#world.random.pick([1, 500, 5000]);
    return yield* kernel.resume();
  }

  *#loadAndClear({ kernel, table }: Machine) {
    const error = yield* kernel.load(table);
    if (error !== 0) return error;
    yield this.#world.random.pick([1, 500]);
    return yield* kernel.clear();
  }

  /** Machines die at the same time, and come back with their daemons; later, if they stay off. */
  async #crash(machines: readonly Machine[], stayOff: boolean): Promise<void> {
    const { network, legs, disk, random, coverage, parameters } = this.#world;
    for (const machine of machines) {
      this.#leaving.delete(machine);
      coverage.saw('machine crash');
      this.#world.situations.death(machine);
      machine.crash();
      if (network?.nodeState(machine.nodeId) === 'paused') network.resumeNode(machine.nodeId);
      network?.crashNode(machine.nodeId);
    }
    if (machines.length === parameters.nodeIds.length && random.chance(0.7)) {
      if (legs.cutPower(() => random.chance(0.5))) coverage.saw('legs lost what was not flushed');
    }
    for (const region of legs.suspects) {
      if (disk === null || !legs.differ(region) || !disk.isClean(region)) continue;
      const what = `region ${region} differs between the legs after a crash, and is clean on the log device`;
      throw new SimulationFailure('I1', what, { region });
    }
    for (const machine of machines) {
      machine.off = stayOff;
      if (!stayOff) await this.#turnOn(machine);
    }
  }

  #unpause(machine: Machine): void {
    if (!machine.paused) return;
    machine.paused = false;
    this.#world.network?.resumeNode(machine.nodeId);
  }

  /** Somebody else knows what is known here, or nothing is that a disk does not know. */
  #mayDie(machine: Machine): boolean {
    if (!this.#world.parameters.clustered) return true;
    return this.#othersKnow(machine) && this.#knowsNothingAlone(machine);
  }

  /** A core log goes with the last member that serves it. Kernels whose daemons are gone have nothing then that they could be told. */
  #mayLeave(machine: Machine): boolean {
    const { parameters, machines } = this.#world;
    if (!parameters.clustered || parameters.kind === 'disk') return true;
    return machines.every((one) => one === machine || one.kernel.live === null) || this.#othersKnow(machine);
  }

  #knowsNothingAlone(machine: Machine): boolean {
    return this.#world.checks.outcasts?.mayDie(machine) !== false;
  }

  #mayLoseDaemon(machine: Machine): boolean {
    const { parameters, machines } = this.#world;
    return !parameters.clustered || machines.length === 1 || this.#othersKnow(machine);
  }

  #othersKnow(machine: Machine): boolean {
    const { machines, checks } = this.#world;
    const up = machines.filter((one) => !one.paused && !this.#leaving.has(one) && checks.isOperational(one));
    return up.length > 1 && up.includes(machine);
  }

  /** The files that a dead daemon left are cut, changed or gone. */
  #damageState(machine: Machine): void {
    const { random, coverage } = this.#world;
    const paths = machine.statePaths().filter((path) => path.endsWith('.log'));
    if (machine.daemon !== null || paths.length === 0) return;
    const path = random.pick(paths);
    machine.knowledgeLost = true;
    if (random.chance(0.3)) {
      coverage.saw('daemon state lost');
      this.#story(`*** node ${machine.nodeId}: its daemon's state is lost`);
      return memoryFiles.remove(path);
    }
    coverage.saw('daemon state damaged');
    this.#story(`*** node ${machine.nodeId}: its daemon's state is damaged`);
    const bytes = memoryFiles.bytes(path);
    if (random.chance(0.5)) return memoryFiles.truncate(path, random.below(bytes.length));
    const at = random.below(bytes.length);
    bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
  }
}
