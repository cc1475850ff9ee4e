import { Errno, RequestType } from '@dmlog/protocol';
import { logIdentity, type Reply } from './proxy.js';
import type { Body, LogIdentity, Request } from './thread.js';

/** MAX_FLUSH_GROUP_COUNT, dm-log-userspace-base.c. */
const FLUSH_GROUP_MAX = 32;
/** `schedule_timeout(2*HZ)` of the reconnect. */
const RECONNECT_MS = 2000;
/** `queue_delayed_work(…, 3 * HZ)`. */
const LATE_FLUSH_MS = 3000;
/** `jiffies + (HZ / 4)`. */
const REMOTE_LIMIT_MS = 250;

const NO_WORDS: readonly number[] = [];

/** What the logs of one kernel share: `static unsigned long limit` of userspace_is_remote_recovering(). */
export interface KernelWide {
  nowMs: number;
  remoteLimitMs: number;
  onReconnect: () => void;
}

/** dm-log-userspace-base.c, Linux 6.1: the log of one table. Methods are named as there. */
export class UserLog {
  readonly identity: LogIdentity;
  readonly arguments: string;
  readonly integratedFlush: boolean;
  readonly #wide: KernelWide;
  readonly #regions: number;
  regionCount = 0;
  inSyncHint = 0;
  /** What CTR's answer named: the kernel holds that device. */
  deviceName: string | null = null;
  lateFlushScheduled = false;
  /** The worker of the late flush sleeps until then. */
  lateFlushAtMs = -1;
  /** The kernel puts new entries first. */
  readonly #marks: number[] = [];
  readonly #clears: number[] = [];

  constructor(init: {
    uuid: string;
    luid: number;
    arguments: string;
    regions: number;
    integratedFlush: boolean;
    wide: KernelWide;
  }) {
    this.identity = logIdentity(init.uuid, init.luid);
    this.arguments = init.arguments;
    this.integratedFlush = init.integratedFlush;
    this.#regions = init.regions;
    this.#wide = init.wide;
  }

  get hasEntries(): boolean {
    return this.#marks.length + this.#clears.length > 0;
  }

  /** Asked once: an error is an error. */
  consult(type: number, words: readonly number[] = NO_WORDS, room = 0, text: string | null = null): Request {
    return { type, log: this.identity, words, text, room };
  }

  /** userspace_ctr(): 0 or a negative errno. */
  *ctr(): Body<number> {
    const made = yield this.consult(RequestType.CTR, NO_WORDS, 128, this.arguments);
    if (made.error !== 0) return made.error;
    if (made.size > 0) this.deviceName = made.text.replace('\0', '');
    const size = yield this.consult(RequestType.GET_REGION_SIZE, NO_WORDS, 8);
    if (size.error !== 0) {
      // Nobody tells the daemon.
      return size.error;
    }
    this.regionCount = this.#regions;
    return 0;
  }

  *dtr(): Body {
    yield this.consult(RequestType.DTR);
  }

  *presuspend(): Body {
    yield this.consult(RequestType.PRESUSPEND);
  }

  *postsuspend(): Body {
    // flush_delayed_work(): a late flush that waits is made now.
    if (this.lateFlushAtMs >= 0) {
      this.lateFlushAtMs = -1;
      yield* this.lateFlush();
    }
    yield this.consult(RequestType.POSTSUSPEND);
  }

  *resume(): Body {
    this.inSyncHint = 0;
    yield this.consult(RequestType.RESUME);
  }

  *inSync(region: number): Body<boolean> {
    const reply = yield* this.#do(RequestType.IN_SYNC, [region], 8);
    return reply.error === 0 && reply.first !== 0;
  }

  markRegion(region: number): void {
    this.#marks.unshift(region);
  }

  clearRegion(region: number): void {
    this.#clears.unshift(region);
  }

  /** userspace_flush(): 0 or a negative errno. */
  *flush(): Body<number> {
    if (!this.hasEntries) return 0;
    const marks = this.#marks.splice(0);
    const clears = this.#clears.splice(0);
    let error = yield* this.#flushByGroup(RequestType.CLEAR_REGION, clears);
    if (error !== 0) return error;
    if (!this.integratedFlush) {
      error = yield* this.#flushByGroup(RequestType.MARK_REGION, marks);
      if (error !== 0) return error;
      return (yield* this.#do(RequestType.FLUSH, NO_WORDS, 0)).error;
    }
    error = yield* this.#flushByGroup(RequestType.FLUSH, marks);
    if (error !== 0) return error;
    if (marks.length === 0 && !this.lateFlushScheduled) {
      this.lateFlushScheduled = true;
      this.lateFlushAtMs = this.#wide.nowMs + LATE_FLUSH_MS;
    } else {
      this.lateFlushScheduled = false;
      this.lateFlushAtMs = -1;
    }
    return 0;
  }

  /** do_flush() of the work queue. */
  *lateFlush(): Body {
    yield* this.#do(RequestType.FLUSH, NO_WORDS, 0);
    this.lateFlushScheduled = false;
  }

  /** The region, or -1. */
  *getResyncWork(): Body<number> {
    if (this.inSyncHint >= this.regionCount) return -1;
    const { error, first, second } = yield* this.#do(RequestType.GET_RESYNC_WORK, NO_WORDS, 16);
    return error === 0 && first !== 0 ? second : -1;
  }

  *setRegionSync(region: number, isInSync: boolean): Body {
    yield* this.#do(RequestType.SET_REGION_SYNC, [region, isInSync ? 1 : 0], 0);
  }

  *getSyncCount(): Body<number> {
    const { error, first } = yield* this.#do(RequestType.GET_SYNC_COUNT, NO_WORDS, 8);
    if (error !== 0) return 0;
    if (first >= this.regionCount) this.inSyncHint = this.regionCount;
    return first;
  }

  *isRemoteRecovering(region: number): Body<boolean> {
    const wide = this.#wide;
    if (region < this.inSyncHint) return false;
    if (wide.remoteLimitMs > wide.nowMs) return true;
    wide.remoteLimitMs = wide.nowMs + REMOTE_LIMIT_MS;
    const { error, first, second } = yield* this.#do(RequestType.IS_REMOTE_RECOVERING, [region], 16);
    if (error !== 0) return true;
    this.inSyncHint = second;
    return first !== 0;
  }

  *status(): Body<string> {
    return (yield* this.#do(RequestType.STATUS_INFO, NO_WORDS, 1024)).text;
  }

  *#flushByGroup(type: number, regions: readonly number[]): Body<number> {
    for (let from = 0; from < regions.length; from += FLUSH_GROUP_MAX) {
      const group = regions.slice(from, from + FLUSH_GROUP_MAX);
      const { error } = yield* this.#do(type, group, 0);
      if (error === 0) continue;
      if (type === RequestType.FLUSH) return error;
      // flush_one_by_one()
      for (const region of regions.slice(from)) {
        const one = yield* this.#do(type, [region], 0);
        if (one.error !== 0) return one.error;
      }
      return 0;
    }
    return 0;
  }

  /** userspace_do_request(): where nobody answers, or nobody knows the log, it is made known again first. */
  *#do(type: number, words: readonly number[], room: number): Body<Reply> {
    let request = this.consult(type, words, room);
    for (;;) {
      const reply = yield request;
      if (reply.error !== -Errno.ESRCH) return reply;
      for (;;) {
        yield RECONNECT_MS;
        const made = yield this.consult(RequestType.CTR, NO_WORDS, 0, `${this.arguments}\0`);
        if (made.error === 0) break;
      }
      this.#wide.onReconnect();
      const resumed = yield this.consult(RequestType.RESUME);
      if (resumed.error !== 0) return { ...reply, error: -Errno.ESRCH };
      // The room for the repeated answer is what the refusal said.
      if (reply.size !== request.room) request = this.consult(type, words, reply.size);
    }
  }
}
