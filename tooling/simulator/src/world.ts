import { SimulatedNetwork } from '@dmlog/cluster';
import { imageBytes } from '@dmlog/log';
import { Checks } from './checks.js';
import { Coverage } from './coverage.js';
import { drawFrom } from './drawn-crypto.js';
import { SimulationFailure } from './failure.js';
import { Faults } from './faults.js';
import type { Thread } from './kernel/thread.js';
import { Legs } from './legs.js';
import { LOG_BLOCK_BYTES, LogDisk, regionsAt } from './log-disk.js';
import { Machine, type Surroundings } from './machine.js';
import { memoryFiles } from './memory-fs.js';
import { type Parameters, parametersOf } from './parameters.js';
import { Random } from './random.js';
import { Situations } from './situations.js';
import { promises, setWorldClock } from './virtual-time.js';

export interface RunOptions {
  readonly seed: number;
  /** Steps with faults; null: as the seed has it. */
  readonly steps: number | null;
  /** Only these steps are taken, of those with faults. Null: all. */
  readonly only: ReadonlySet<number> | null;
  readonly story: ((line: string) => void) | null;
}

export interface RunResult {
  readonly seed: number;
  /** Steps taken, those after the faults too. */
  readonly steps: number;
  readonly requests: number;
  readonly coverage: Coverage;
  readonly failure: { readonly step: number; readonly error: SimulationFailure } | null;
}

/** Steps after the last fault within which everything must be answered and equal (I3), for each node; reloads by the operator included. */
const HEAL_STEPS_MAX = 60_000;
const HEAL_STEPS_PER_REGION = 60;
/** An operator who waits for a mirror to get in sync looks at it this often, in steps. */
const OPERATOR_STEPS = 4000;
/** Longest sleep while nothing else happens. */
const SLEEP_MS_MAX = 20_000;

/** One run: a world, its faults, and what must hold in it. */
export class World {
  readonly parameters: Parameters;
  readonly random: Random;
  readonly coverage = new Coverage();
  readonly machines: readonly Machine[];
  readonly legs: Legs;
  readonly disk: LogDisk | null;
  readonly network: SimulatedNetwork | null;
  readonly checks: Checks;
  readonly situations: Situations;
  readonly #options: RunOptions;
  readonly #faults: Faults;
  nowMs = 1000;
  /** The step that goes on. */
  stepNumber = 0;
  #boots = 1;
  #steps = 0;
  #networkStepped = false;
  /** In this step something happened but time. */
  #happened = false;
  #digest = 0;
  #failure: SimulationFailure | null = null;

  constructor(options: RunOptions) {
    this.#options = options;
    const parameters = parametersOf(options.seed, options.steps);
    this.parameters = parameters;
    this.random = new Random(options.seed, 0);
    drawFrom(this.random.next);
    setWorldClock(() => this.nowMs);
    const { regionCount, kind, nodeIds, clustered, chances, undeliveredMax } = parameters;
    this.legs = new Legs(regionCount, parameters.startsEqual);
    this.disk = kind === 'disk' ? new LogDisk(imageBytes(regionCount, LOG_BLOCK_BYTES)) : null;
    if (parameters.startsEqual) this.disk?.format(regionCount);
    this.network = clustered
      ? new SimulatedNetwork({ nodes: nodeIds, random: this.random.next, chances, undeliveredMax })
      : null;
    memoryFiles.reset();
    const around: Surroundings = {
      parameters,
      network: this.network,
      legs: this.legs,
      disk: this.disk,
      random: this.random,
      coverage: this.coverage,
      nowMs: () => this.nowMs,
      newBootId: () => (this.#boots++).toString(16).padStart(32, '0'),
      story: options.story,
      fail: (error) => this.fail(error),
      onJoin: () => this.situations.join(),
      readFails: () => this.#readFails(),
      onRequest: (machine, thread) => this.#noteRequest(machine, thread),
      onWritten: (machine, region) => {
        this.checks.outcasts?.wrote(machine, region);
        this.situations.wrote(machine);
      },
      onImageWritten: (machine, offset) =>
        this.checks.outcasts?.wroteImage(machine, regionsAt(offset, regionCount)),
      readsAnything: (machine, region) => this.checks.mayReadOld(machine, region),
    };
    this.machines = nodeIds.map((nodeId) => new Machine(nodeId, around));
    this.checks = new Checks(parameters, this.machines, this.legs, this.disk, this.coverage);
    this.situations = new Situations(this.machines, this.checks, this.coverage);
    this.#faults = new Faults(this, options.story ?? (() => {}));
  }

  /** The first failure counts. */
  fail(error: unknown): void {
    if (this.#failure !== null) return;
    if (error instanceof SimulationFailure) this.#failure = error;
    else {
      const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.#failure = new SimulationFailure('crash', message, {}, { cause: error });
    }
  }

  async run(): Promise<RunResult> {
    const { parameters } = this;
    const { only } = this.#options;
    try {
      for (const machine of this.machines) await machine.startDaemon();
      let step = 1;
      for (; step <= parameters.steps && this.#failure === null; step++) {
        if (only !== null && !only.has(step)) continue;
        this.#begin(step);
        if (this.random.chance(parameters.load)) this.#submit();
        if (this.random.chance(parameters.faultRate)) {
          await this.#faults.happen();
          await null;
          this.#happened = true;
        }
        if (parameters.handOverRate > 0 && this.random.chance(parameters.handOverRate)) {
          await this.#faults.handOver();
          await null;
          this.#happened = true;
        }
        const { prey } = this.#faults;
        if (prey !== null) {
          await this.#faults.strike(prey);
          await null;
          this.#happened = true;
        }
        this.#keepMirrors();
        this.nowMs += this.random.next() * 2;
        if (this.random.chance(0.002))
          this.nowMs += this.random.next() * this.random.pick([300, 3000, SLEEP_MS_MAX]);
        // What promises bring about belongs to the machine that stepped, and is over before another one does.
        if (this.#stepNetwork()) await this.#settle();
        if (this.#stepMachines()) await this.#settle();
        this.checks.afterStep(step, this.random, this.#happened);
        if (parameters.clustered) this.situations.afterStep(this.#happened);
      }
      if (this.#failure === null) await this.#heal(step);
    } catch (error) {
      this.fail(error);
    }
    const error = this.#failure;
    return {
      seed: this.#options.seed,
      steps: this.#steps,
      requests: this.machines.reduce((sum, { requests }) => sum + requests, 0),
      coverage: this.coverage,
      failure: error === null ? null : { step: this.stepNumber, error },
    };
  }

  #begin(step: number): void {
    this.#steps++;
    this.stepNumber = step;
    this.#happened = false;
    this.random.begin(step);
  }

  /** True: promises may have to go on. */
  #stepNetwork(): boolean {
    this.#networkStepped = this.network?.step() === true;
    this.#happened ||= this.#networkStepped;
    return this.#networkStepped;
  }

  /** True: promises may have to go on. */
  #stepMachines(): boolean {
    const machine = this.random.pick(this.machines);
    if (machine.step() || this.#networkStepped || this.#anyoneSteps(machine)) {
      this.#happened = true;
      return promises.pending;
    }
    this.#sleep();
    return false;
  }

  /** A log that begins finds its device in order: docs/testing.md says why. */
  #readFails(): boolean {
    const { disk, machines, checks } = this;
    if (disk?.failing !== true) return false;
    const begins = this.parameters.clustered
      ? !machines.some((machine) => checks.isOperational(machine))
      : machines.some((machine) => checks.logsOf(machine).some(({ state }) => state === 'resuming'));
    if (begins) disk.failing = false;
    return !begins;
  }

  /** Promises go on: those of a daemon that is known to wait for several, as far as they get; else one step. */
  async #settle(): Promise<void> {
    promises.pending = false;
    for (const machine of this.machines) {
      const settling = machine.settle();
      if (settling !== null) await settling;
    }
  }

  #anyoneSteps(except: Machine): boolean {
    for (const machine of this.machines) if (machine !== except && machine.step()) return true;
    return false;
  }

  /** Nothing can happen now: time goes on to when something can. */
  #sleep(): void {
    let next = this.nowMs + SLEEP_MS_MAX;
    for (const machine of this.machines) next = Math.min(next, machine.nextMs);
    this.nowMs = Math.max(this.nowMs, next);
  }

  /** Somebody writes or reads, if anybody can. */
  #submit(): void {
    const { random, legs, parameters } = this;
    const machine = random.pick(this.machines);
    const { kernel, paused } = machine;
    if (paused || kernel.suspended || kernel.live === null) return;
    const region = random.pick(parameters.hotRegions);
    if (random.chance(0.7)) {
      if (!legs.busy.has(region)) machine.submit(region, true);
    } else machine.submit(region, false);
  }

  /** Mirrors that are not there, or were left suspended, are made and resumed some time later. */
  #keepMirrors(): void {
    for (const machine of this.machines) {
      const { kernel, daemon } = machine;
      if (!kernel.suspended || kernel.isOperated || daemon?.ready !== true || machine.paused) continue;
      if (this.#steps > 200 && !this.random.chance(0.02)) continue;
      kernel.operate(kernel.live === null && !kernel.hasInactive ? machine.create() : kernel.resume());
    }
  }

  /** Equal for equal runs. */
  get digest(): string {
    const legs = this.legs.visible.map((blocks) =>
      blocks.reduce((sum, value) => (sum * 31 + value) % 1e9, 7),
    );
    return `${(this.#digest >>> 0).toString(16)}-${legs.join('-')}-${this.nowMs.toFixed(3)}`;
  }

  #noteRequest(machine: Machine, { request, seq }: Thread): void {
    this.#digest = Math.imul(this.#digest ^ seq, 0x01000193) + (request?.words[0] ?? 0) + machine.nodeId;
    if (this.parameters.clustered && request !== null && (request.type === 10 || request.type === 9))
      this.situations.marks(machine, request.words);
  }

  /** I3: no fault any more; everything is answered, and the legs become equal. */
  async #heal(from: number): Promise<void> {
    this.#options.story?.('no more faults');
    await this.#faults.end();
    const { regionCount } = this.parameters;
    const limit = (HEAL_STEPS_MAX + HEAL_STEPS_PER_REGION * regionCount) * this.machines.length;
    for (let round = 1; round <= limit && this.#failure === null; round++) {
      this.#begin(from + round);
      this.nowMs += this.random.next() * 2;
      if (this.#stepNetwork()) await this.#settle();
      if (this.#stepMachines()) await this.#settle();
      this.checks.afterStep(from + round, this.random, this.#happened);
      if (this.parameters.clustered) this.situations.afterStep(this.#happened);
      this.#keepMirrorsNow();
      if (round % 64 === 0 && this.checks.unfinished() === null) {
        this.checks.stateMachines();
        return;
      }
      if (round % OPERATOR_STEPS === 0) this.#operate();
    }
    const left = this.checks.unfinished();
    if (this.#failure === null && left !== null) throw new SimulationFailure('I3', left);
  }

  #keepMirrorsNow(): void {
    for (const machine of this.machines) {
      const { kernel, daemon } = machine;
      if (!kernel.suspended || kernel.isOperated || daemon?.ready !== true) continue;
      kernel.operate(kernel.live === null && !kernel.hasInactive ? machine.create() : kernel.resume());
    }
  }

  /**
   * The operator reloads what waits for it: a kernel that remembers a failure, one that believes in sync what is not, one that the group waits for. And looks at a mirror whose
   * daemon knows nothing of it: with no I/O and all in sync its kernel has no question of its own, and would not find that out.
   */
  #operate(): void {
    for (const machine of this.machines) {
      const { kernel } = machine;
      if (kernel.live === null || kernel.isOperated) continue;
      if (!this.#wantsReload(machine)) {
        if (this.#isForgotten(machine)) kernel.operate(kernel.status());
        continue;
      }
      this.#options.story?.(`node ${machine.nodeId}: the operator reloads the table`);
      kernel.operate(this.reload(machine));
      this.coverage.saw('table exchanged');
      if (this.parameters.clustered) return;
    }
  }

  #wantsReload(machine: Machine): boolean {
    const { kernel, nodeId } = machine;
    const live = kernel.live as NonNullable<typeof kernel.live>;
    if (live.logFailure || live.legFailure || live.heldCount > 0) return true;
    if (!this.parameters.clustered) return machine.knowledgeLost;
    return this.checks
      .replicasOf(machine)
      .some(({ state, mirror }) => mirror === 'live' && state?.needReload.has(nodeId) === true);
  }

  #isForgotten(machine: Machine): boolean {
    if (machine.daemon?.ready !== true || !machine.isQuiet) return false;
    return this.checks.logsOf(machine).every(({ state }) => state !== 'live');
  }

  *reload({ kernel, table }: Machine) {
    const error = yield* kernel.load(table);
    return error !== 0 ? error : yield* kernel.resume();
  }
}
