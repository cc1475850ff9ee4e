import type { Random } from '../random.js';
import type { Bio } from './bio.js';
import { Mirror, type MirrorIo } from './mirror.js';
import { RequestProxy, type Send } from './proxy.js';
import { type Body, Thread, ThreadState } from './thread.js';
import { type KernelWide, UserLog } from './user-log.js';

export interface MirrorTable {
  readonly uuid: string;
  /** What the log is told at CTR: target length in sectors, log type, its arguments. */
  readonly logArguments: string;
  readonly regionCount: number;
  readonly integratedFlush: boolean;
  readonly handlesErrors: boolean;
}

/** One loaded table with its threads. */
interface Loaded {
  readonly mirror: Mirror;
  readonly threads: Thread[];
}

/** The worker and the late flush. */
const THREADS_PER_TABLE = 2;
const NO_TIME = Number.POSITIVE_INFINITY;

/**
 * One kernel with one mirror device: its tables, its threads and what an operator does to it. Everything happens by {@link step}: one thread goes on, or sends
 * what it has to ask.
 */
export class Kernel {
  readonly proxy: RequestProxy;
  readonly wide: KernelWide = { nowMs: 0, remoteLimitMs: -1, onReconnect: () => {} };
  /** The device is suspended: bios wait for the next table. */
  suspended = true;
  readonly #io: MirrorIo;
  readonly #random: Random;
  readonly #onStir: () => void;
  #live: Loaded | null = null;
  #inactive: Loaded | null = null;
  #threads: Thread[] = [];
  #operator: Thread | null = null;
  #deferred: Bio[] = [];
  #inFlight = 0;
  #nextLuid: number;
  readonly #luids: number[];

  constructor(init: {
    io: MirrorIo;
    send: Send;
    random: Random;
    firstLuid: number;
    /** Pointers of the tables, in the order of their loads, where they are known; after them comes `firstLuid`. */
    luids?: readonly number[];
    firstSeq?: number;
    /** There may be something to do again. */
    onStir?: () => void;
  }) {
    this.#io = init.io;
    this.#onStir = init.onStir ?? (() => {});
    this.#random = init.random;
    this.#nextLuid = init.firstLuid;
    this.#luids = [...(init.luids ?? [])];
    this.proxy = new RequestProxy(init.send, init.firstSeq);
  }

  /** The live table, or null. */
  get live(): Mirror | null {
    return this.#live?.mirror ?? null;
  }

  get hasInactive(): boolean {
    return this.#inactive !== null;
  }

  get threads(): readonly Thread[] {
    return this.#threads;
  }

  /** A request of this type waits for its answer. */
  isAsking(type: number): boolean {
    return this.#threads.some(({ state, request }) => state === ThreadState.WAITS && request?.type === type);
  }

  /** An operator's command is under way. */
  get isOperated(): boolean {
    return this.#operator !== null;
  }

  get isQuiet(): boolean {
    return (
      this.#operator === null &&
      this.#inFlight === 0 &&
      this.#deferred.length === 0 &&
      this.#threads.every(({ state }) => state === ThreadState.BLOCKED) &&
      this.#live?.mirror.isIdle !== false
    );
  }

  /** Whether a table here holds the log device. */
  get holdsLogDevice(): boolean {
    return this.#live?.mirror.log.deviceName != null || this.#inactive?.mirror.log.deviceName != null;
  }

  submit(bio: Bio): void {
    this.#onStir();
    if (this.suspended || this.#live === null) {
      this.#deferred.push(bio);
      return;
    }
    this.#inFlight++;
    this.#live.mirror.map(bio);
  }

  /** A bio that a table was given has left it. */
  bioLeft(requeued: Bio | null): void {
    this.#inFlight--;
    if (requeued !== null) this.#deferred.push(requeued);
  }

  /** Starts a command of an operator, unless one is under way. `done` is told 0 or a negative errno. */
  operate(command: Body<number>, done: (result: number) => void = () => {}): boolean {
    if (this.#operator !== null) return false;
    this.#onStir();
    const thread: Thread = new Thread('operator', this.#operation(command, done));
    this.#operator = thread;
    this.#threads.push(thread);
    return true;
  }

  *#operation(command: Body<number>, done: (result: number) => void): Body {
    const result = yield* command;
    this.#operator = null;
    done(result);
  }

  /** `dmsetup load`: mirror_ctr(). */
  *load(table: MirrorTable): Body<number> {
    const luid = this.#luids.shift() ?? this.#nextLuid;
    // A pointer: the allocator likes to give the same one again.
    if (luid === this.#nextLuid) this.#nextLuid += 0x1000;
    const log = new UserLog({
      uuid: table.uuid,
      luid,
      arguments: table.logArguments,
      regions: table.regionCount,
      integratedFlush: table.integratedFlush,
      wide: this.wide,
    });
    const error = yield* log.ctr();
    if (error !== 0) return error;
    const mirror = new Mirror(log, table.regionCount, table.handlesErrors, this.#io);
    const threads = [new Thread('kmirrord', mirror.worker()), new Thread('dmlog_wq', this.#lateFlusher(log))];
    this.#threads.push(...threads);
    const before = this.#inactive;
    this.#inactive = { mirror, threads };
    if (before !== null) yield* this.#destroy(before);
    return 0;
  }

  /** `dmsetup clear`. */
  *clear(): Body<number> {
    const table = this.#inactive;
    this.#inactive = null;
    if (table !== null) yield* this.#destroy(table);
    return 0;
  }

  /** `dmsetup suspend` */
  *suspend(noflush: boolean): Body<number> {
    const table = this.#live;
    if (table === null || this.suspended) return 0;
    const { mirror } = table;
    mirror.noflush = noflush;
    mirror.releaseHolds();
    // dm_rh_stop_recovery(): down(), then wait for what is in flight.
    yield () => mirror.hash.permits > 0;
    mirror.hash.permits--;
    yield () => mirror.hash.recoveriesInFlight === 0;
    yield* mirror.log.presuspend();
    yield () => mirror.isIdle;
    this.suspended = true;
    yield () => this.#inFlight === 0;
    yield* mirror.log.postsuspend();
    return 0;
  }

  /** `dmsetup resume`: the inactive table, if there is one, takes the live one's place. */
  *resume(): Body<number> {
    const next = this.#inactive;
    if (next !== null) {
      yield* this.suspend(true);
      const before = this.#live;
      this.#inactive = null;
      this.#live = next;
      yield* this.#resumeLive(next.mirror);
      if (before !== null) yield* this.#destroy(before);
    } else if (this.#live !== null && this.suspended) yield* this.#resumeLive(this.#live.mirror);
    return 0;
  }

  *#resumeLive(mirror: Mirror): Body {
    mirror.suspending = false;
    yield* mirror.log.resume();
    mirror.startRecovery();
    this.suspended = false;
    for (const bio of this.#deferred.splice(0)) this.submit(bio);
  }

  /** `dmsetup remove` */
  *remove(): Body<number> {
    if (this.#inactive !== null) yield* this.clear();
    yield* this.suspend(false);
    const table = this.#live;
    this.#live = null;
    if (table !== null) yield* this.#destroy(table);
    return 0;
  }

  /** `dmsetup status`: mirror_status() */
  *status(): Body<number> {
    const mirror = this.live;
    if (mirror === null) return 0;
    yield* mirror.log.getSyncCount();
    yield* mirror.log.status();
    return 0;
  }

  *#destroy({ mirror, threads }: Loaded): Body {
    yield () => mirror.isIdle;
    const { log } = mirror;
    if (log.lateFlushAtMs >= 0) {
      log.lateFlushAtMs = -1;
      yield* log.lateFlush();
    }
    yield () => threads[1]?.state === ThreadState.BLOCKED && mirror.isIdle;
    this.#threads = this.#threads.filter((thread) => !threads.includes(thread));
    yield* log.dtr();
  }

  *#lateFlusher(log: UserLog): Body {
    for (;;) {
      yield () => log.lateFlushAtMs >= 0 && this.wide.nowMs >= log.lateFlushAtMs;
      log.lateFlushAtMs = -1;
      yield* log.lateFlush();
    }
  }

  /** One thread goes on. False: none can. */
  step(nowMs: number): boolean {
    this.wide.nowMs = nowMs;
    const threads = this.#threads;
    const { length } = threads;
    const first = length > 1 ? this.#random.below(length) : 0;
    for (let i = 0; i < length; i++) {
      const thread = threads[(first + i) % length] as Thread;
      if (thread.state === ThreadState.ASKS) {
        this.#send(thread);
        return true;
      }
      if (thread.state === ThreadState.WAITS) {
        if (nowMs < thread.wakeAtMs) continue;
        this.#io.coverage.saw('request repeated after 15 s');
        this.#send(thread);
        return true;
      }
      if (!thread.isReady(nowMs)) continue;
      this.#run(thread);
      return true;
    }
    return false;
  }

  /** Goes on at once with an answer that comes at once. */
  #send(thread: Thread): void {
    this.proxy.send(thread, this.wide.nowMs);
    if (thread.reply !== null) this.#run(thread);
  }

  #run(thread: Thread): void {
    thread.run(this.wide.nowMs);
    if (thread.state === ThreadState.ENDED) this.#threads = this.#threads.filter((one) => one !== thread);
  }

  /** Threads of a table that goes are left: {@link nextMs} does not know when they wake up. */
  get hasOldThreads(): boolean {
    const tables = (this.#live === null ? 0 : 1) + (this.#inactive === null ? 0 : 1);
    return this.#threads.length > THREADS_PER_TABLE * tables + (this.#operator === null ? 0 : 1);
  }

  /** When something happens here by itself. */
  get nextMs(): number {
    let next = this.#live?.mirror.wakeAtMs ?? NO_TIME;
    for (const { state, wakeAtMs } of this.#threads) {
      if (state === ThreadState.SLEEPS || state === ThreadState.WAITS) next = Math.min(next, wakeAtMs);
    }
    for (const table of [this.#live, this.#inactive]) {
      const atMs = table?.mirror.log.lateFlushAtMs ?? -1;
      if (atMs >= 0) next = Math.min(next, atMs);
    }
    return next;
  }

  /** What waits in a thread: for stories and failures. */
  describe(): string {
    return this.#threads
      .map(({ name, state, request }) => `${name} ${state}${request === null ? '' : ` type ${request.type}`}`)
      .join(', ');
  }
}
