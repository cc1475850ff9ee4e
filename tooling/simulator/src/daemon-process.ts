import {
  type GroupHandlers,
  LeaveReason,
  type OrderedGroup,
  type SimulatedMember,
  type SimulatedNetwork,
} from '@dmlog/cluster';
import { type FrameHandler, SLOT_BYTES, type Transport } from '@dmlog/connector';
import {
  type DaemonConfig,
  type Logger,
  type OpenedStore,
  type PreviousDaemon,
  type RunningDaemon,
  RuntimeState,
  type Served,
  type ServeParts,
  type ServeStart,
  serve,
} from '@dmlog/daemon';
import type { DirtyLog } from '@dmlog/log';
import { RequestType } from '@dmlog/protocol';
import type { Coverage } from './coverage.js';
import type { Legs } from './legs.js';
import { type BlockWrite, LOG_BLOCK_BYTES, type LogDisk } from './log-disk.js';
import { mapping } from './memory-fs.js';
import type { Random } from './random.js';
import { actAs, inNameOf, promises, settleInNameOf, type TimeOwner, type Timer } from './virtual-time.js';

/** A netlink receive buffer of this many requests: more than mirrors have under way, less than a stuck kernel repeats. */
const RECEIVE_QUEUE_MAX = 64;
/** Of the socket, which goes from one daemon to the next: any number. */
const DESCRIPTOR = 3;

/** What a daemon stands on: shared with, or owned by, its machine. */
export interface Ground {
  readonly nodeId: number;
  readonly clusterNetwork: SimulatedNetwork | null;
  readonly legs: Legs;
  readonly disk: LogDisk | null;
  readonly random: Random;
  readonly coverage: Coverage;
  readonly bootId: string;
  readonly runtimeDir: string;
  readonly lazyClear: { readonly milliseconds: number; readonly regionsMax: number };
  readonly reload: 'dmsetup' | 'off';
  readonly nowMs: () => number;
  /** Whether a table of the kernel holds the log device. */
  readonly holdsLogDevice: () => boolean;
  /** Whether a read of the log device fails now. */
  readonly readFails: () => boolean;
  /** A block of the log device was written. */
  readonly onImageWritten: (offset: number) => void;
  readonly toKernel: (bytes: Uint8Array) => void;
  readonly dmsetup: (args: readonly string[]) => Promise<string>;
  /** A new group member may be told of while others join. */
  readonly onJoin: () => void;
  readonly story: (line: string) => void;
  readonly fail: (error: unknown) => void;
  /** Something may be possible on the machine that was not before. */
  readonly stir: () => void;
}

type Job = () => void;

/**
 * A daemon as a process: our real one, from the datagram on, on a transport, a clock, a log device, legs, a runtime directory and a group that are the simulation's. It
 * dies at any moment between two steps, and its files outlive it.
 */
export class DaemonProcess implements TimeOwner {
  dead = false;
  ready = false;
  /** Found by the registry of its logs. */
  logs: { entries(): Iterable<[unknown, Served]> } | null = null;
  /** Group members, with what they were told last. */
  readonly members = new Set<SimulatedMember>();
  readonly #ground: Ground;
  readonly #arena = new Uint8Array(SLOT_BYTES);
  readonly #jobs: Job[] = [];
  readonly #asyncJobs: Job[] = [];
  #timers: Timer[] = [];
  /** Writes that are on their way to the log device. */
  #writing: BlockWrite[][] = [];
  #handler: FrameHandler | null = null;
  #running: RunningDaemon | null = null;
  /** It reads nothing: another one is to take its place. */
  #paused = false;
  #received: { bytes: Uint8Array; lost: boolean }[] = [];
  #nextAtMs = Number.POSITIVE_INFINITY;
  /** Promises may have something to go on with. */
  needsSettling = false;
  /** Logs come by promises and go with DTR. */
  #servedLogs: readonly DirtyLog[] | null = null;

  constructor(ground: Ground) {
    this.#ground = ground;
  }

  get nowMs(): number {
    return this.#ground.nowMs();
  }

  get servedLogs(): readonly DirtyLog[] {
    this.#servedLogs ??= [...(this.logs?.entries() ?? [])].map(([, served]) => served.log);
    return this.#servedLogs;
  }

  /** To be called when promises went on. */
  settled(): void {
    this.needsSettling = false;
    this.#servedLogs = null;
  }

  addTimer(timer: Timer): void {
    if (this.dead) return;
    this.#ground.stir();
    this.#timers.push(timer);
    this.#nextAtMs = Math.min(this.#nextAtMs, timer.atMs);
  }

  removeTimer(timer: Timer): void {
    this.#timers = this.#timers.filter((one) => one !== timer);
    this.#findNext();
  }

  addImmediate(run: () => void): void {
    this.#addJob(this.#jobs, run);
  }

  #addJob(jobs: Job[], job: Job): void {
    if (this.dead) return;
    this.#ground.stir();
    jobs.push(job);
  }

  /** A write of several blocks to the log device is under way, and most of it is to come. */
  get writesSeveralBlocks(): boolean {
    return this.#writing.some(({ length }) => length > 1);
  }

  /** When its next timer is due. */
  get nextMs(): number {
    return this.#nextAtMs;
  }

  /** A write to the log device is on its way. */
  get writesImage(): boolean {
    return this.#writing.length > 0;
  }

  get hasJobs(): boolean {
    return this.#jobs.length > 0 || this.#asyncJobs.length > 0;
  }

  /** Begins to start. It serves once {@link ready}. */
  async start(): Promise<void> {
    await settleInNameOf(this, () => this.#start(undefined));
  }

  /**
   * Begins to start in the place of `previous`, which serves on until this one is ready to, and the other way round where it is refused: `onEnd` is told whether the place is
   * this one's now.
   */
  async succeed(previous: DaemonProcess, onEnd: (taken: boolean) => void): Promise<void> {
    const refused = new Error('refused');
    const takeOver = () =>
      new Promise<PreviousDaemon>((resolve, reject) => {
        previous.#giveWay((paused) => {
          if (paused === null) return this.#addJob(this.#asyncJobs, () => reject(refused));
          this.#addJob(this.#asyncJobs, () => {
            this.#received.push(...previous.#received.splice(0));
            onEnd(true);
            resolve(paused);
          });
        });
      });
    const start: ServeStart = {
      descriptor: null,
      takeOver,
      onServing: () => previous.#addJob(previous.#asyncJobs, () => previous.#release()),
    };
    await settleInNameOf(this, () =>
      this.#start(start, (error) => {
        if (error !== refused) return this.#ground.fail(error);
        this.kill(false);
        onEnd(false);
      }),
    );
  }

  /** Pauses, and lets go of everything where it can; else it serves on, and tells null. */
  #giveWay(done: (paused: PreviousDaemon | null) => void): void {
    const fail = (error: unknown) => this.#ground.fail(error);
    this.#addJob(this.#asyncJobs, () => {
      const handOver = this.#running?.handOver;
      if (handOver == null) return done(null);
      const offer = async () => {
        const paused = await handOver.pause();
        if (paused === null) inNameOf(this, () => handOver.resume());
        else await inNameOf(this, () => handOver.letGo());
        done(paused);
      };
      offer().catch(fail);
    });
  }

  #release(): void {
    this.#running?.handOver
      ?.release()
      .then(() => this.kill(false))
      .catch((error: unknown) => this.#ground.fail(error));
  }

  #start(start: ServeStart | undefined, onFailed: (error: unknown) => void = this.#ground.fail): void {
    const ground = this.#ground;
    const config: DaemonConfig = {
      runtimeDir: ground.runtimeDir,
      controlSocket: `${ground.runtimeDir}/control`,
      logLevel: 'info',
      receiveBufferBytes: 1 << 20,
      lazyClear: ground.lazyClear,
      cluster: { reload: ground.reload },
      transport: 'auto',
      unsafeAcceptUserRequests: false,
    };
    const logger = this.#logger();
    const parts: ServeParts = {
      openTransport: () => this.#transport(),
      openStore: () => this.#openStore(),
      openState: () =>
        new RuntimeState({ runtimeDir: ground.runtimeDir, logger, binding: mapping, bootId: ground.bootId }),
      findName: async () => null,
      inspect: (logs) => {
        this.logs = logs;
      },
      ...(ground.clusterNetwork === null
        ? {}
        : {
            cluster: {
              joinGroup: (name: string, handlers: GroupHandlers) => this.#join(name, handlers),
              check: async () => {},
              bootId: ground.bootId,
              dmsetup: (args: readonly string[]) => this.#dmsetup(args),
            },
          }),
    };
    serve(config, logger, parts, start).then((running) => {
      this.#running = running;
    }, onFailed);
  }

  /** A datagram of the kernel. False: nobody listens. */
  deliver(frame: Uint8Array, length: number, replyIsLost: boolean): boolean {
    if (this.dead) return false;
    if (this.#handler === null || this.#paused || this.#received.length > 0) {
      // It waits in the socket.
      if (this.#received.length < RECEIVE_QUEUE_MAX)
        this.#received.push({ bytes: frame.slice(0, length), lost: replyIsLost });
      return true;
    }
    this.#serve(frame, length, replyIsLost);
    return true;
  }

  #serve(frame: Uint8Array, length: number, replyIsLost: boolean): void {
    const arena = this.#arena;
    arena.set(frame);
    const before = actAs(this);
    let reply = 0;
    try {
      reply = (this.#handler as FrameHandler)(0, length, 0);
    } finally {
      actAs(before);
    }
    // CTR goes on by promises, and so do joins and leaves of a group.
    const type = arena[188] as number;
    if (type <= RequestType.DTR) this.needsSettling = true;
    if (type <= RequestType.RESUME) promises.pending = true;
    if (reply > 0 && !replyIsLost) this.#ground.toKernel(arena);
  }

  /** Does one thing that waits. False: nothing does. */
  runJob(): boolean {
    if (this.#handler !== null && !this.#paused && this.#received.length > 0) {
      const { bytes, lost } = this.#received.shift() as { bytes: Uint8Array; lost: boolean };
      this.#serve(bytes, bytes.length, lost);
      return true;
    }
    const isAsync =
      this.#asyncJobs.length > 0 && (this.#jobs.length === 0 || this.#ground.random.chance(0.5));
    const job = (isAsync ? this.#asyncJobs : this.#jobs).shift();
    if (job === undefined) return false;
    promises.pending = true;
    if (isAsync) this.needsSettling = true;
    inNameOf(this, job);
    return true;
  }

  /** Runs one timer that is due. */
  runTimer(): boolean {
    const now = this.nowMs;
    if (now < this.#nextAtMs) return false;
    let timer: Timer | undefined;
    for (let i = 0; timer === undefined && i < this.#timers.length; i++) {
      const one = this.#timers[i] as Timer;
      if (one.atMs <= now) timer = one;
    }
    if (timer === undefined) return false;
    promises.pending = true;
    if (timer.periodMs > 0) timer.atMs = now + timer.periodMs;
    else {
      this.#timers = this.#timers.filter((one) => one !== timer);
      this.needsSettling = true;
    }
    this.#findNext();
    inNameOf(this, timer.run);
    return true;
  }

  /** `kill -9`: what it wrote goes on to the device, in part where the whole machine dies. */
  kill(withMachine: boolean): void {
    const { disk, random, coverage, onImageWritten } = this.#ground;
    this.dead = true;
    for (const member of this.members) member.close();
    for (const blocks of this.#writing.splice(0)) {
      if (withMachine && disk?.tear(blocks, random) === true) coverage.saw('log device write torn');
      else if (!withMachine) {
        for (const block of blocks) {
          disk?.put(block);
          onImageWritten(block.offset);
        }
      }
    }
    this.#jobs.length = 0;
    this.#asyncJobs.length = 0;
    this.#timers = [];
    this.#nextAtMs = Number.POSITIVE_INFINITY;
    this.#received = [];
  }

  #findNext(): void {
    let next = Number.POSITIVE_INFINITY;
    for (const { atMs } of this.#timers) next = Math.min(next, atMs);
    this.#nextAtMs = next;
  }

  #transport(): Transport {
    const stats = {
      received: 0,
      sent: 0,
      sendFailures: 0,
      foreign: 0,
      oversized: 0,
      overruns: 0,
      handlerFaults: 0,
      batches: 0,
      pollIdleNs: 0,
      pollHits: 0,
    };
    return {
      name: 'loopback',
      arena: this.#arena,
      port: 1,
      receiveBufferBytes: 1 << 20,
      start: (handler) => {
        this.#handler = handler;
        this.ready = true;
      },
      send: (bytes) => {
        if (this.dead) return;
        this.#ground.coverage.saw('late reply');
        this.#ground.toKernel(bytes);
      },
      stats: () => stats,
      close: async () => {},
      handOver: {
        descriptor: DESCRIPTOR,
        pause: () => {
          this.#paused = true;
        },
        resume: () => {
          this.#paused = false;
          this.#ground.stir();
        },
      },
    };
  }

  /** Resolves with what `make` makes, as a job of its own. */
  #later<T>(make: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#addJob(this.#asyncJobs, () => {
        try {
          resolve(make());
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  #openStore(): Promise<OpenedStore> {
    const { disk, legs, holdsLogDevice, random, readFails, onImageWritten } = this.#ground;
    if (disk === null) return Promise.reject(new Error('there is no log device'));
    const later = (job: () => void) => {
      this.#addJob(this.#jobs, job);
    };
    const failure = () => Object.assign(new Error('simulated I/O error'), { errno: 5 });
    return this.#later(() => ({
      store: {
        deviceNumber: '7:0',
        readImage: (image, done) =>
          later(() => {
            this.needsSettling = true;
            if (readFails()) return done(failure());
            image.set(disk.media.subarray(0, image.byteLength));
            done(null);
          }),
        writeRuns: (image, runs, count, done) => {
          const blocks = disk.blocksOf(image, runs, count);
          this.#writing.push(blocks);
          const step = () => {
            if (disk.failing) {
              this.#writing = this.#writing.filter((one) => one !== blocks);
              return done(failure());
            }
            const [block] = blocks.splice(random.below(blocks.length), 1);
            if (block !== undefined) {
              disk.put(block);
              onImageWritten(block.offset);
            }
            if (blocks.length > 0) return later(step);
            this.#writing = this.#writing.filter((one) => one !== blocks);
            later(() => done(null));
          };
          later(step);
        },
        close: () => {},
      },
      legs: {
        flush: (done) => {
          let begun: ReturnType<Legs['snapshot']> | null = null;
          later(() => {
            begun = legs.snapshot();
            later(() => {
              if (legs.failed[0] || legs.failed[1]) return done(failure());
              legs.flushed(begun ?? []);
              done(null);
            });
          });
        },
        invalidate: () => {},
        close: () => {},
      },
      kernelName: '7:0',
      held: holdsLogDevice(),
      sizeBytes: disk.media.byteLength,
      logicalBlockBytes: LOG_BLOCK_BYTES,
      blockBytes: LOG_BLOCK_BYTES,
    }));
  }

  #dmsetup(args: readonly string[]): Promise<string> {
    const answer = this.#ground.dmsetup(args);
    return new Promise((resolve, reject) => {
      answer.then(
        (text) => void this.#addJob(this.#asyncJobs, () => resolve(text)),
        (error: unknown) => void this.#addJob(this.#asyncJobs, () => reject(error)),
      );
    });
  }

  async #join(name: string, handlers: GroupHandlers): Promise<OrderedGroup> {
    const { clusterNetwork, nodeId, coverage, fail, onJoin } = this.#ground;
    const guarded =
      <A extends unknown[]>(handle: (...args: A) => void) =>
      (...args: A) => {
        if (this.dead) return;
        try {
          inNameOf(this, () => handle(...args));
        } catch (error) {
          fail(error);
        }
      };
    return await this.#later(() => {
      onJoin();
      const member = (clusterNetwork as SimulatedNetwork).join(nodeId, name, {
        deliver: guarded(handlers.deliver),
        confchg: guarded((members, left, joined) => {
          if (left.some(({ reason }) => reason === LeaveReason.NODEDOWN)) this.needsSettling = true;
          handlers.confchg(members, left, joined);
        }),
        ring: guarded(handlers.ring),
        drain: guarded(() => {
          coverage.saw('member refused by a full queue');
          handlers.drain();
        }),
        died: guarded((error) => {
          this.needsSettling = true;
          handlers.died(error);
        }),
      });
      this.members.add(member);
      return {
        self: member.self,
        maxMessageBytes: member.maxMessageBytes,
        send: (bytes: Uint8Array) => member.send(bytes),
        leave: () =>
          new Promise<void>((resolve) => {
            member.leave().then(() => void this.#addJob(this.#asyncJobs, resolve));
          }),
        close: () => member.close(),
      };
    });
  }

  #logger(): Logger {
    const { story } = this.#ground;
    const line = (about: unknown, text?: string) =>
      story(`  daemon: ${text ?? String(about)}${describe(about)}`);
    const silent = () => {};
    return {
      trace: silent,
      debug: silent,
      info: line,
      warn: line,
      error: line,
      fatal: line,
    } as unknown as Logger;
  }
}

function describe(about: unknown): string {
  const { err } = (about ?? {}) as { err?: unknown };
  return err instanceof Error ? ` (${err.message})` : '';
}
