import type { SimulatedNetwork } from '@dmlog/cluster';
import type { Coverage } from './coverage.js';
import { DaemonProcess, type Ground } from './daemon-process.js';
import { SimulationFailure } from './failure.js';
import type { Bio } from './kernel/bio.js';
import { Kernel, type MirrorTable } from './kernel/kernel.js';
import type { MirrorIo } from './kernel/mirror.js';
import type { Thread } from './kernel/thread.js';
import { BLOCKS, type Legs } from './legs.js';
import type { LogDisk } from './log-disk.js';
import { memoryFiles } from './memory-fs.js';
import type { Parameters } from './parameters.js';
import type { Random } from './random.js';
import { promises, settleInNameOf } from './virtual-time.js';

/** What all machines share. */
export interface Surroundings {
  readonly parameters: Parameters;
  readonly network: SimulatedNetwork | null;
  readonly legs: Legs;
  readonly disk: LogDisk | null;
  readonly random: Random;
  readonly coverage: Coverage;
  readonly nowMs: () => number;
  readonly newBootId: () => string;
  readonly story: ((line: string) => void) | null;
  readonly fail: (error: unknown) => void;
  /** A member is about to join. */
  readonly onJoin: () => void;
  /** Whether a read of the log device fails now. */
  readonly readFails: () => boolean;
  readonly onRequest: (machine: Machine, thread: Thread) => void;
  /** Data of a machine has reached a leg. */
  readonly onWritten: (machine: Machine, region: number) => void;
  /** A machine has written a block of the log device. */
  readonly onImageWritten: (machine: Machine, offset: number) => void;
  /** Nobody can say what a read here returns: the others have taken the machine for dead. */
  readonly readsAnything: (machine: Machine, region: number) => boolean;
}

/** A step of data on its way to or from a leg. */
interface Landing {
  readonly run: () => void;
  /** The machine dies meanwhile: what becomes of it. */
  readonly torn: () => void;
}

const NOTHING = () => {};
const NO_TIME = Number.POSITIVE_INFINITY;
const RESTLESS = Number.NEGATIVE_INFINITY;
/** Of each look at a slow machine's data. */
const SLOW_CHANCE = 0.01;

/** One machine: a kernel with a mirror, and perhaps a daemon. */
export class Machine implements MirrorIo {
  readonly nodeId: number;
  readonly around: Surroundings;
  kernel: Kernel;
  daemon: DaemonProcess | null = null;
  /** The other one of two while a daemon hands over its place: first the next one, then the last one. */
  #other: DaemonProcess | null = null;
  /** It stands still. */
  paused = false;
  /** Its power is off since a crash. */
  off = false;
  /** What it writes takes very long to reach the legs. */
  slow = false;
  /** What its daemon knew was lost: its kernel may believe in sync what is not, for as long as its table lives. */
  knowledgeLost = false;
  /** Datagrams are lost with these chances at the moment. */
  lossy = 0;
  requests = 0;
  #landings: Landing[] = [];
  /** Before this time nothing can happen here, and to see that takes so many draws. */
  #restsUntilMs = RESTLESS;
  #restDraws = 0;
  #bootId: string;
  #clockOffsetMs = 0;
  #seq = 0;
  /** Bios of this machine that have not ended. */
  readonly #bios = new Set<Bio>();

  constructor(nodeId: number, around: Surroundings) {
    this.nodeId = nodeId;
    this.around = around;
    this.#bootId = around.newBootId();
    this.kernel = this.#newKernel();
  }

  // What the mirror asks of its machine

  get nowMs(): number {
    return this.around.nowMs();
  }

  get random(): Random {
    return this.around.random;
  }

  get coverage(): Coverage {
    return this.around.coverage;
  }

  write(leg: number, bio: Bio, done: (ok: boolean) => void): void {
    const { legs, random } = this.around;
    const put = (block: number) => {
      const ok = legs.write(leg, block, bio.value);
      this.around.onWritten(this, bio.region);
      return ok;
    };
    this.#landings.push({
      run: () => {
        let ok = true;
        for (let block = bio.from; block < bio.to; block++) ok = put(block) && ok;
        done(ok);
      },
      torn: () => {
        for (let block = bio.from; block < bio.to; block++) if (random.chance(0.5)) put(block);
      },
    });
  }

  read(leg: number, bio: Bio, done: (ok: boolean) => void): void {
    const { legs } = this.around;
    this.#landings.push({
      run: () => {
        if (legs.failed[leg] === true) return done(false);
        for (let block = bio.from; block < bio.to; block++) {
          const value = legs.read(leg, block);
          const floor = bio.floor[block - bio.from] as number;
          if (value >= floor || this.around.readsAnything(this, bio.region)) continue;
          const what = `read block ${block} from leg ${leg}: write ${value}, but ${floor} had been acknowledged before it was read`;
          this.around.fail(new SimulationFailure('I4', what, { node: this.nodeId, region: bio.region }));
        }
        done(true);
      },
      torn: NOTHING,
    });
  }

  copy(from: number, to: number, region: number, done: (readOk: boolean, writeOk: boolean) => void): void {
    const { legs, random } = this.around;
    const blocks = Array.from({ length: BLOCKS }, (_, i) => region * BLOCKS + i);
    this.#landings.push({
      run: () => {
        if (legs.failed[from] === true) return done(false, true);
        const values = blocks.map((block) => legs.read(from, block));
        const put = (block: number, i: number) => {
          const ok = legs.write(to, block, values[i] as number);
          this.around.onWritten(this, region);
          return ok;
        };
        this.#landings.push({
          run: () =>
            done(
              true,
              blocks.map(put).every((ok) => ok),
            ),
          torn: () => {
            for (const [i, block] of blocks.entries()) if (random.chance(0.5)) put(block, i);
          },
        });
      },
      torn: NOTHING,
    });
  }

  ended(bio: Bio, ok: boolean): void {
    this.kernel.bioLeft(null);
    this.#bios.delete(bio);
    const { legs, coverage } = this.around;
    if (!bio.isWrite) {
      if (ok) coverage.saw('read checked');
      return;
    }
    legs.busy.delete(bio.region);
    if (!ok) return;
    coverage.saw('write acknowledged');
    for (let block = bio.from; block < bio.to; block++) legs.acknowledged[block] = bio.value;
  }

  requeued(bio: Bio): void {
    this.kernel.bioLeft(bio);
  }

  // What the filesystem above does

  /** A write or a read of part of a region, or of all of it. */
  submit(region: number, isWrite: boolean): void {
    const { legs, random, story } = this.around;
    const from = region * BLOCKS + random.below(BLOCKS);
    const to = random.chance(0.5) ? (region + 1) * BLOCKS : from + 1;
    const value = isWrite ? legs.newValue() : 0;
    const floor = isWrite ? [] : Array.from(legs.acknowledged.subarray(from, to));
    const bio: Bio = { region, isWrite, from, to, value, left: 0, errors: 0, floor };
    if (isWrite) legs.busy.add(region);
    this.#bios.add(bio);
    story?.(`node ${this.nodeId} ${isWrite ? `writes ${value} to` : 'reads'} region ${region}`);
    this.kernel.submit(bio);
  }

  // Steps

  /** Something happens here, if anything can. False: nothing could. */
  step(): boolean {
    if (this.paused) return false;
    const { random } = this.around;
    const nowMs = this.around.nowMs();
    if (nowMs < this.#restsUntilMs) {
      random.skip(this.#restDraws);
      return false;
    }
    const { daemon, kernel } = this;
    const { drawn } = random;
    const first = random.below(8);
    for (let i = 0; i < 4; i++) {
      const what = first < 4 ? i : (first + i) % 4;
      if (what === 0 ? kernel.step(nowMs) : what === 1 ? this.#land() : this.#stepDaemon(daemon, what)) {
        this.stir();
        return true;
      }
    }
    // Nothing changes here before that time, unless something stirs; of a slow machine's data the next look may be lucky.
    if (this.#landings.length === 0 && !kernel.hasOldThreads) {
      this.#restsUntilMs = this.nextMs;
      this.#restDraws = random.drawn - drawn;
    }
    return false;
  }

  /** Something may be possible here that was not before. */
  readonly stir = (): void => {
    this.#restsUntilMs = RESTLESS;
  };

  #stepDaemon(daemon: DaemonProcess | null, what: number): boolean {
    if (daemon === null) return false;
    const other = this.#other;
    return what === 2
      ? daemon.runJob() || other?.runJob() === true
      : daemon.runTimer() || other?.runTimer() === true;
  }

  #land(): boolean {
    const landings = this.#landings;
    if (landings.length === 0 || (this.slow && !this.around.random.chance(SLOW_CHANCE))) return false;
    const index = this.around.random.below(landings.length);
    const landing = landings[index] as Landing;
    const last = landings.pop() as Landing;
    if (last !== landing) landings[index] = last;
    landing.run();
    return true;
  }

  /** Lets the promises of the last step go on, where there are any. */
  settle(): Promise<void> | null {
    const { daemon } = this;
    if (this.#other?.needsSettling === true) return this.#settleBoth();
    if (daemon?.needsSettling !== true) return null;
    this.stir();
    return settleInNameOf(daemon, NOTHING).then(() => daemon.settled());
  }

  async #settleBoth(): Promise<void> {
    for (const daemon of [this.daemon, this.#other]) {
      if (daemon?.needsSettling !== true) continue;
      this.stir();
      await settleInNameOf(daemon, NOTHING);
      daemon.settled();
    }
    if (this.#other?.dead === true) this.#other = null;
  }

  /** When something happens here by itself. */
  get nextMs(): number {
    if (this.paused) return Number.POSITIVE_INFINITY;
    if (this.#restsUntilMs !== RESTLESS) return this.#restsUntilMs;
    const timer =
      Math.min(this.daemon?.nextMs ?? NO_TIME, this.#other?.nextMs ?? NO_TIME) - this.#clockOffsetMs;
    return Math.min(this.kernel.nextMs, timer);
  }

  /** Data is on its way to or from the legs. */
  get writesLegs(): boolean {
    return this.#landings.length > 0;
  }

  get isQuiet(): boolean {
    return (
      this.kernel.isQuiet &&
      this.#landings.length === 0 &&
      this.daemon?.hasJobs !== true &&
      (this.#other === null || this.#other.dead)
    );
  }

  // Faults

  crash(): void {
    this.stir();
    for (const landing of this.#landings.splice(0)) landing.torn();
    this.#killBoth(true);
    this.#forgetBios();
    this.#bootId = this.around.newBootId();
    this.#clockOffsetMs = 0;
    this.paused = false;
    this.kernel = this.#newKernel();
    // A runtime directory that is not on a tmpfs outlives the machine.
    if (this.around.random.chance(0.5)) for (const path of this.statePaths()) memoryFiles.remove(path);
    else if (this.statePaths().length > 0) this.coverage.saw('state of another boot left behind');
  }

  #forgetBios(): void {
    for (const { isWrite, region } of this.#bios) if (isWrite) this.around.legs.busy.delete(region);
    this.#bios.clear();
  }

  killDaemon(): void {
    this.stir();
    this.#killBoth(false);
  }

  #killBoth(withMachine: boolean): void {
    this.daemon?.kill(withMachine);
    this.#other?.kill(withMachine);
    this.daemon = null;
    this.#other = null;
  }

  /** The daemon begins to hand over its place to another process, unless it does already. */
  async handOver(): Promise<void> {
    const { daemon } = this;
    if (daemon?.ready !== true || this.#other !== null) return;
    this.stir();
    const next = new DaemonProcess(this.#ground());
    this.#other = next;
    await next.succeed(daemon, (taken) => {
      if (!taken) this.#other = null;
      else {
        this.coverage.saw('daemon handed over its place');
        this.daemon = next;
        this.#other = daemon;
      }
    });
  }

  /** Of the kernel that runs now. */
  get bootId(): string {
    return this.#bootId;
  }

  /** The files of its runtime directory. */
  statePaths(): string[] {
    return memoryFiles.list(`${this.#runtimeDir}/state`);
  }

  async startDaemon(): Promise<void> {
    if (this.daemon !== null) return;
    this.stir();
    this.daemon = new DaemonProcess(this.#ground());
    await this.daemon.start();
  }

  jumpClock(byMs: number): void {
    this.stir();
    this.#clockOffsetMs += byMs;
  }

  get #runtimeDir(): string {
    return `/run/${this.nodeId}`;
  }

  get table(): MirrorTable {
    const { parameters } = this.around;
    return { ...parameters, integratedFlush: parameters.integratedFlush.includes(this.nodeId) };
  }

  /** `dmsetup create` */
  *create() {
    const error = yield* this.kernel.load(this.table);
    return error !== 0 ? error : yield* this.kernel.resume();
  }

  #newKernel(): Kernel {
    const { around } = this;
    const kernel = new Kernel({
      io: this,
      random: around.random,
      // Different boots, the same pointers: the allocator has its habits.
      firstLuid: 0x6600_0000 + 0x10_0000 * around.random.below(2),
      firstSeq: this.#seq,
      onStir: this.stir,
      send: (thread, frame, length) => this.#send(thread, frame, length),
    });
    kernel.wide.onReconnect = () => around.coverage.saw('kernel reconnected');
    return kernel;
  }

  #send(thread: Thread, frame: Uint8Array, length: number): boolean {
    const { random, coverage, story } = this.around;
    this.requests++;
    this.#seq = this.kernel.proxy.seq;
    story?.(`node ${this.nodeId} asks ${describeRequest(thread)} (seq ${thread.seq})`);
    const { daemon } = this;
    if (daemon === null) return false;
    this.around.onRequest(this, thread);
    if (this.lossy > 0 && random.chance(this.lossy)) {
      coverage.saw('request lost');
      return true;
    }
    const replyIsLost = this.lossy > 0 && random.chance(this.lossy);
    if (replyIsLost) coverage.saw('reply lost');
    return daemon.deliver(frame, length, replyIsLost);
  }

  #ground(): Ground {
    const { around, nodeId } = this;
    const { parameters } = around;
    const daemonNow = () => around.nowMs() + this.#clockOffsetMs;
    const ground: Ground = {
      nodeId,
      clusterNetwork: around.network,
      legs: around.legs,
      disk: around.disk,
      random: around.random,
      coverage: around.coverage,
      bootId: this.#bootId,
      runtimeDir: this.#runtimeDir,
      lazyClear: parameters.lazyClear,
      reload: parameters.reload,
      nowMs: daemonNow,
      holdsLogDevice: () => this.kernel.holdsLogDevice,
      readFails: around.readFails,
      onImageWritten: (offset) => around.onImageWritten(this, offset),
      toKernel: (bytes) => {
        if (this.daemon?.dead === false) this.#toKernel(bytes);
      },
      dmsetup: (args) => this.#dmsetup(args),
      onJoin: around.onJoin,
      story: (line) => around.story?.(`node ${nodeId}${line}`),
      fail: around.fail,
      stir: this.stir,
    };
    return ground;
  }

  #toKernel(bytes: Uint8Array): void {
    this.stir();
    const { story } = this.around;
    if (story !== null) {
      const answered = this.kernel.proxy.describe(bytes);
      if (answered !== null) story(`node ${this.nodeId}   is answered ${answered}`);
    }
    const before = this.kernel.proxy.again;
    this.kernel.proxy.receive(bytes);
    if (this.kernel.proxy.again > before) this.coverage.saw('asked again by EAGAIN');
  }

  /** What the daemon's reload hook runs. */
  #dmsetup(args: readonly string[]): Promise<string> {
    const { kernel } = this;
    const run = (command: ReturnType<Kernel['resume']>) =>
      new Promise<string>((resolve, reject) => {
        const accepted = kernel.operate(command, (result) => {
          promises.pending = true;
          if (result === 0) resolve('');
          else reject(new Error(`dmsetup ${args.join(' ')}: ${result}`));
        });
        if (!accepted) reject(new Error('the device is busy'));
      });
    switch (args[0]) {
      case 'table':
        if (kernel.live === null) return Promise.resolve('');
        return Promise.resolve(`m: 0 8 mirror userspace 4 ${this.around.parameters.uuid} `);
      case 'info':
        if (kernel.isOperated) return Promise.resolve('L-sw');
        return Promise.resolve(`${kernel.suspended ? 'L-s' : kernel.hasInactive ? 'LI-' : 'L--'}w`);
      case 'load':
        return run(kernel.load(this.table));
      default:
        this.coverage.saw('reload by the daemon');
        return run(kernel.resume());
    }
  }
}

const NAMES = [
  '',
  'CTR',
  'DTR',
  'PRESUSPEND',
  'POSTSUSPEND',
  'RESUME',
  'GET_REGION_SIZE',
  'IS_CLEAN',
  'IN_SYNC',
  'FLUSH',
  'MARK_REGION',
  'CLEAR_REGION',
  'GET_RESYNC_WORK',
  'SET_REGION_SYNC',
  'GET_SYNC_COUNT',
  'STATUS_INFO',
  'STATUS_TABLE',
  'IS_REMOTE_RECOVERING',
];

function describeRequest({ request, name }: Thread): string {
  if (request === null) return name;
  return `${NAMES[request.type]} ${request.text ?? request.words.join(' ')}`;
}
