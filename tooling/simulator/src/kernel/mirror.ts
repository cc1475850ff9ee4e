import type { Coverage } from '../coverage.js';
import type { Random } from '../random.js';
import type { Bio } from './bio.js';
import { type Region, RegionHash, RegionState } from './region-hash.js';
import type { Body } from './thread.js';
import type { UserLog } from './user-log.js';

/** delayed_wake(): HZ / 5. */
const DELAYED_WAKE_MS = 200;

/** What a mirror asks of the machine below it. Ends are told later, never from inside these calls. */
export interface MirrorIo {
  write(leg: number, bio: Bio, done: (ok: boolean) => void): void;
  read(leg: number, bio: Bio, done: (ok: boolean) => void): void;
  /** Copies a region from one leg to the other. */
  copy(from: number, to: number, region: number, done: (readOk: boolean, writeOk: boolean) => void): void;
  /** The filesystem hears of it. */
  ended(bio: Bio, ok: boolean): void;
  /** The bio waits for the next table. */
  requeued(bio: Bio): void;
  readonly nowMs: number;
  readonly random: Random;
  readonly coverage: Coverage;
}

/**
 * dm-raid1.c of Linux 6.1, two legs: one worker that does everything, one thing after the other. What the worker waits for longest is the log's answer, and
 * what happens meanwhile (ends of I/O, new bios) it sees at its next round.
 */
export class Mirror {
  readonly log: UserLog;
  readonly hash = new RegionHash();
  readonly #regionCount: number;
  readonly #handlesErrors: boolean;
  readonly #io: MirrorIo;
  inSync = false;
  logFailure = false;
  legFailure = false;
  suspending = false;
  /** Held bios go to the next table; else they fail. */
  noflush = true;
  defaultLeg = 0;
  readonly #legErrors: [number, number] = [0, 0];
  #reads: Bio[] = [];
  #writes: Bio[] = [];
  #failures: Bio[] = [];
  #holds: Bio[] = [];
  #woken = true;
  #wakeAtMs = Number.POSITIVE_INFINITY;
  #working = false;
  readonly #hasWork = () => this.#woken || this.#io.nowMs >= this.#wakeAtMs;

  constructor(log: UserLog, regionCount: number, handlesErrors: boolean, io: MirrorIo) {
    this.log = log;
    this.#regionCount = regionCount;
    this.#handlesErrors = handlesErrors;
    this.#io = io;
  }

  /** The worker has nothing to do, as far as it knows: what flush_workqueue() waits for. */
  get isIdle(): boolean {
    return !this.#working && !this.#woken;
  }

  /** When the worker wakes up by itself. */
  get wakeAtMs(): number {
    return this.#wakeAtMs;
  }

  get heldCount(): number {
    return this.#holds.length;
  }

  /** Whether a read of the region would be served by any leg; null if the log would be asked. */
  opinion(region: number): boolean | null {
    const known = this.hash.lookup(region);
    if (known === undefined) return null;
    return known.state === RegionState.CLEAN || known.state === RegionState.DIRTY;
  }

  wake(): void {
    this.#woken = true;
  }

  /** mirror_map(): everything is queued for the worker. */
  map(bio: Bio): void {
    (bio.isWrite ? this.#writes : this.#reads).push(bio);
    this.#woken = true;
  }

  /** The machine's end of mirror_resume(). */
  startRecovery(): void {
    this.hash.permits++;
    this.#woken = true;
  }

  /** The start of mirror_presuspend(): held bios go back to where they came from. */
  releaseHolds(): void {
    this.suspending = true;
    for (const bio of this.#holds.splice(0)) this.#hold(bio);
  }

  /** kmirrord: do_mirror(), as often as it is woken. */
  *worker(): Body {
    for (;;) {
      this.#working = false;
      yield this.#hasWork;
      this.#working = true;
      this.#woken = false;
      if (this.#io.nowMs >= this.#wakeAtMs) this.#wakeAtMs = Number.POSITIVE_INFINITY;
      const reads = this.#reads.splice(0);
      const writes = this.#writes.splice(0);
      const failures = this.#failures.splice(0);
      yield* this.#updateStates();
      yield* this.#recover();
      for (const bio of reads) yield* this.#read(bio);
      if (writes.length > 0) yield* this.#doWrites(writes);
      for (const bio of failures) yield* this.#fail(bio);
    }
  }

  *#updateStates(): Body {
    const { recovered, failed, clean } = this.hash.takeStates();
    for (const region of recovered) {
      this.log.clearRegion(region.key);
      yield* this.#completeResync(region, true);
    }
    for (const region of failed) yield* this.#completeResync(region, !this.#handlesErrors);
    for (const region of clean) this.log.clearRegion(region.key);
    yield* this.log.flush();
  }

  *#completeResync(region: Region, succeeded: boolean): Body {
    yield* this.log.setRegionSync(region.key, succeeded);
    if (region.delayed.length > 0) {
      this.#writes.push(...region.delayed.splice(0));
      this.#woken = true;
    }
    this.hash.recoveriesInFlight--;
    this.hash.permits++;
  }

  *#recover(): Body {
    const { hash, log } = this;
    while (hash.permits > 0) {
      hash.permits--;
      hash.recoveriesInFlight++;
      const key = yield* log.getResyncWork();
      if (key < 0) {
        hash.recoveriesInFlight--;
        hash.permits++;
        break;
      }
      hash.prepare(yield* this.#find(key));
    }
    for (const region of hash.quiesced.splice(0)) this.#copy(region);
    if (!this.inSync && (yield* log.getSyncCount()) === this.#regionCount) {
      this.inSync = true;
      // reset_ms_flags()
      this.legFailure = false;
      this.#legErrors.fill(0);
    }
  }

  #copy(region: Region): void {
    const from = this.defaultLeg;
    this.#io.copy(from, 1 - from, region.key, (readOk, writeOk) => {
      if (!readOk) this.#failLeg(from);
      if (!writeOk) this.#failLeg(1 - from);
      if (readOk && writeOk) this.#io.coverage.saw('region recovered');
      else this.#io.coverage.saw('recovery failed');
      this.hash.recoveryEnded(region, readOk && writeOk);
      this.#woken = true;
    });
  }

  /** __rh_find(): a region that is not in the hash is asked for. */
  *#find(key: number): Body<Region> {
    const known = this.hash.lookup(key);
    if (known !== undefined) return known;
    const isInSync = yield* this.log.inSync(key);
    return this.hash.insert(key, isInSync);
  }

  /** dm_rh_get_state() */
  *#state(key: number): Body<RegionState> {
    const known = this.hash.lookup(key);
    if (known !== undefined) return known.state;
    return (yield* this.log.inSync(key)) ? RegionState.CLEAN : RegionState.NOSYNC;
  }

  *#read(bio: Bio): Body {
    const state = yield* this.#state(bio.region);
    const anyLeg = state === RegionState.CLEAN || state === RegionState.DIRTY;
    let leg = this.defaultLeg;
    if (anyLeg) {
      const good = [0, 1].filter((one) => this.#legErrors[one] === 0);
      if (good.length === 0) return this.#io.ended(bio, false);
      leg = this.#io.random.pick(good);
    } else if ((this.#legErrors[leg] as number) > 0) return this.#io.ended(bio, false);
    this.#io.read(leg, bio, (ok) => {
      if (ok) return this.#io.ended(bio, true);
      this.#failLeg(leg);
      // mirror_end_io(): tried again on another leg where one is as good.
      if (anyLeg && this.#legErrors[1 - leg] === 0) this.map(bio);
      else this.#io.ended(bio, false);
    });
  }

  *#doWrites(writes: readonly Bio[]): Body {
    const { log, hash } = this;
    const sync: Bio[] = [];
    const nosync: Bio[] = [];
    const recovering: Bio[] = [];
    for (const bio of writes) {
      if (yield* log.isRemoteRecovering(bio.region)) {
        this.#writes.push(bio);
        // The timer that waits is not started anew.
        this.#wakeAtMs = Math.min(this.#wakeAtMs, this.#io.nowMs + DELAYED_WAKE_MS);
        continue;
      }
      const state = yield* this.#state(bio.region);
      if (state === RegionState.NOSYNC) nosync.push(bio);
      else if (state === RegionState.RECOVERING) recovering.push(bio);
      else sync.push(bio);
    }
    for (const bio of [...sync, ...nosync]) {
      const region = yield* this.#find(bio.region);
      if (hash.increment(region)) log.markRegion(region.key);
    }
    yield* this.#flush();
    for (const bio of sync) {
      if (this.logFailure && this.#handlesErrors) this.#addFailure(bio);
      else this.#writeAll(bio);
    }
    for (const bio of recovering) {
      this.#io.coverage.saw('write delayed by recovery');
      // dm_rh_delay(): the region may have left the hash meanwhile.
      (yield* this.#find(bio.region)).delayed.push(bio);
    }
    for (const bio of nosync) {
      if (this.legFailure && this.#handlesErrors) this.#addFailure(bio);
      else {
        this.#io.coverage.saw('region found not in sync by a write');
        this.#writeDefault(bio);
      }
    }
  }

  *#flush(): Body {
    if ((yield* this.log.flush()) !== 0) this.logFailure = true;
  }

  #addFailure(bio: Bio): void {
    this.#failures.push(bio);
    this.#woken = true;
  }

  #writeAll(bio: Bio): void {
    bio.left = 2;
    bio.errors = 0;
    for (const leg of [0, 1]) {
      this.#io.write(leg, bio, (ok) => {
        if (!ok) bio.errors |= 1 << leg;
        if (--bio.left > 0) return;
        if (bio.errors === 0) return this.#end(bio, true);
        for (const one of [0, 1]) if ((bio.errors & (1 << one)) !== 0) this.#failLeg(one);
        this.#addFailure(bio);
      });
    }
  }

  /** map_bio(get_default_mirror(ms), bio) */
  #writeDefault(bio: Bio): void {
    this.#io.write(this.defaultLeg, bio, (ok) => this.#end(bio, ok));
  }

  #end(bio: Bio, ok: boolean): void {
    if (this.hash.decrement(bio.region)) this.#woken = true;
    this.#io.ended(bio, ok);
  }

  /** fail_mirror() */
  #failLeg(leg: number): void {
    this.legFailure = true;
    this.#legErrors[leg] = (this.#legErrors[leg] as number) + 1;
    if (!this.#handlesErrors || leg !== this.defaultLeg || !this.inSync) return;
    if (this.#legErrors[1 - leg] === 0) this.defaultLeg = 1 - leg;
  }

  /** do_failures() */
  *#fail(bio: Bio): Body {
    if (!this.logFailure) {
      this.inSync = false;
      yield* this.#markNosync(bio.region);
    }
    if (this.#legErrors[0] > 0 && this.#legErrors[1] > 0) this.#end(bio, false);
    else if (this.#handlesErrors) this.#hold(bio);
    else this.#end(bio, true);
  }

  /** dm_rh_mark_nosync() */
  *#markNosync(key: number): Body {
    yield* this.log.setRegionSync(key, false);
    const region = yield* this.#find(key);
    const wasRecovering = region.state === RegionState.RECOVERING;
    region.state = RegionState.NOSYNC;
    if (wasRecovering) yield* this.#completeResync(region, false);
  }

  /** hold_bio(): until the table is replaced. */
  #hold(bio: Bio): void {
    if (!this.suspending) {
      this.#io.coverage.saw('write held after a leg failed');
      this.#holds.push(bio);
      return;
    }
    if (this.hash.decrement(bio.region)) this.#woken = true;
    if (this.noflush) this.#io.requeued(bio);
    else this.#io.ended(bio, false);
  }
}
