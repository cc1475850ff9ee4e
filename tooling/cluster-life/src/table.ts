import { setTimeout as sleep } from 'node:timers/promises';
import { waitUntil } from '@dmlog/corosync-lab';
import { RequestType } from '@dmlog/protocol';
import { type Answer, type Ask, KernelModel } from '../../../packages/cluster/test/kernel-model.js';
import type { LogAnswer, LogRequest } from './daemon-types.js';
import type { Mirror } from './mirror.js';

const EAGAIN = 11;
const ESRCH = 3;
/** The kernel repeats a request after 15 s; ours has less patience. */
const REPEAT_MS = 4000;
const RECONNECT_MS = 50;
/** A suspend ends when quorum is there again, and another node has recovered what a write waits for. */
const SUSPEND_MS_MAX = 180_000;

/** What a table needs of the machine that it is in. */
export interface TableHost {
  readonly name: string;
  /** Changes when the machine crashes. */
  readonly boot: number;
  /** The answer of the daemon, however late; null when there is no daemon, or it has died. */
  ask(request: LogRequest): Promise<LogAnswer | null>;
  /** Told before and after each request; see {@link QuorumWatch}. */
  readonly watch: {
    asked(mirror: Mirror): unknown;
    answered(mirror: Mirror, type: number, asked: unknown): void;
  };
  fail(error: unknown): void;
}

/** The machine crashed while one of its tasks was under way. */
export class GoneError extends Error {}

const NAMES = new Map<number, string>(Object.entries(RequestType).map(([name, type]) => [type, name]));

export type TableState = 'none' | 'live' | 'suspended';

/** One mirror on one machine: device-mapper's part, on top of the modelled mirror target. As dm-log-userspace-base.c does it. */
export class Table {
  readonly mirror: Mirror;
  readonly #host: TableHost;
  readonly #draw: () => number;
  kernel: KernelModel;
  state: TableState = 'none';
  /** How much of the data lands at each turn, 0..1. */
  speed = 0.5;
  reloads = 0;
  #luid = 0;
  #served: Ask | null = null;
  #chain: Promise<unknown> = Promise.resolve();

  constructor(mirror: Mirror, host: TableHost, draw: () => number) {
    this.mirror = mirror;
    this.#host = host;
    this.#draw = draw;
    this.kernel = new KernelModel(host.name, mirror.legs, draw);
  }

  /** Nothing of it is under way. */
  get isQuiet(): boolean {
    return this.kernel.idle && this.kernel.asking === null;
  }

  /** A moment of its kernel. */
  turn(): void {
    const { kernel } = this;
    kernel.run();
    for (let step = 0; step < 3; step++) if (this.#draw() < this.speed) kernel.land();
    this.#serve();
  }

  crash(): void {
    this.kernel.crash();
    this.kernel = new KernelModel(this.#host.name, this.mirror.legs, this.#draw);
    this.state = 'none';
    this.#served = null;
    this.#chain = Promise.resolve();
  }

  /** Creates the device where there is none, and resumes it. */
  join(): Promise<void> {
    return this.#exclusively(async () => {
      if (this.state === 'live') return;
      if (this.state === 'none') this.#luid = await this.#construct();
      await this.#resume();
    });
  }

  suspend(): Promise<void> {
    return this.#exclusively(() => this.#suspend());
  }

  /** Removes the device: the node leaves the log's group. */
  leave(): Promise<void> {
    return this.#exclusively(async () => {
      await this.#suspend();
      if (this.state === 'none') return;
      await this.#ask(RequestType.DTR);
      this.state = 'none';
    });
  }

  /** Loads the same table anew, and exchanges it for the live one. */
  reload(): Promise<void> {
    return this.#exclusively(async () => {
      if (this.state !== 'live') return;
      const before = this.#luid;
      const next = await this.#construct();
      await this.#suspend();
      this.#luid = next;
      await this.#resume();
      await this.#ask(RequestType.DTR, [], before);
      this.reloads++;
    });
  }

  /** As the kernel asks for a read whose region is not in its hash. Null: no answer in time. */
  async isInSync(region: number): Promise<boolean | null> {
    const { uuid } = this.mirror;
    const one = this.#host.ask({ type: RequestType.IN_SYNC, uuid, luid: this.#luid, words: [region] });
    const answer = await Promise.race([one, sleep(REPEAT_MS, null, { ref: false })]);
    return answer === null || answer.errno !== 0 ? null : answer.values[0] !== 0;
  }

  #exclusively(task: () => Promise<void>): Promise<void> {
    const done = this.#chain.then(task);
    this.#chain = done.catch(() => {});
    return done;
  }

  /** Returns the luid of the new table. */
  async #construct(): Promise<number> {
    const luid = 1 + Math.floor(this.#draw() * 0xffff_fff0);
    const { errno } = await this.#once(RequestType.CTR, { text: this.mirror.text }, luid);
    if (errno === 0) return luid;
    throw new Error(`${this.#host.name}: the table of ${this.mirror.uuid} is refused: ${errno}`);
  }

  async #resume(): Promise<void> {
    const { errno } = await this.#ask(RequestType.RESUME);
    if (errno !== 0) throw new Error(`${this.#host.name}: RESUME of ${this.mirror.uuid} fails: ${errno}`);
    this.state = 'live';
    this.kernel.resumed();
  }

  async #suspend(): Promise<void> {
    if (this.state !== 'live') return;
    const { kernel } = this;
    kernel.wantSuspend = true;
    const { boot } = this.#host;
    const until = (what: string, condition: () => boolean) =>
      waitUntil(`${this.#host.name}: ${what}`, () => condition() || this.#host.boot !== boot, SUSPEND_MS_MAX);
    await until('recovery stops', () => !kernel.recovers && kernel.asking === null);
    await this.#ask(RequestType.PRESUSPEND);
    await until('its I/O ends', () => this.isQuiet);
    await this.#ask(RequestType.POSTSUSPEND);
    kernel.becomeSuspended();
    this.state = 'suspended';
  }

  #serve(): void {
    const { kernel } = this;
    const ask = kernel.asking;
    if (ask === null || this.#served === ask) return;
    this.#served = ask;
    this.#ask(ask.type, ask.words).then(
      ({ errno, values }) => {
        if (kernel.asking !== ask) return;
        this.#note(ask, values);
        const answer: Answer = { errno, first: values[0] ?? 0, second: values[1] ?? 0 };
        try {
          kernel.answer(answer);
          this.#serve();
        } catch (error) {
          this.#host.fail(error);
        }
      },
      (error: unknown) => {
        if (!(error instanceof GoneError)) this.#host.fail(error);
      },
    );
  }

  #note({ type, words }: Ask, values: readonly number[]): void {
    const regions = type === RequestType.GET_RESYNC_WORK && values[0] === 1 ? [values[1] as number] : words;
    const about = type === RequestType.SET_REGION_SYNC ? regions.slice(0, 1) : regions;
    for (const region of about) {
      this.mirror.note(region, `${this.#host.name} asked ${NAMES.get(type)} ${words}: ${values}`);
    }
  }

  /** `userspace_do_request`: asks until there is an answer; a daemon that does not know the log is told of it. */
  async #ask(type: number, words: readonly number[] = [], luid = this.#luid): Promise<LogAnswer> {
    for (;;) {
      const answer = await this.#once(type, { words }, luid);
      if (answer.errno !== ESRCH || type === RequestType.DTR) return answer;
      await this.#once(RequestType.CTR, { text: `${this.mirror.text}\0` }, luid);
      await this.#once(RequestType.RESUME, {}, luid);
    }
  }

  /** `dm_consult_userspace`. */
  async #once(type: number, content: Pick<LogRequest, 'words' | 'text'>, luid: number): Promise<LogAnswer> {
    const { boot, watch } = this.#host;
    for (;;) {
      const asked = watch.asked(this.mirror);
      const one = this.#host.ask({ type, uuid: this.mirror.uuid, luid, ...content });
      const answer = await Promise.race([one, sleep(REPEAT_MS, 'late' as const, { ref: false })]);
      if (this.#host.boot !== boot) throw new GoneError();
      if (answer === null) await sleep(RECONNECT_MS);
      else if (answer !== 'late' && answer.errno !== EAGAIN) {
        if (answer.errno === 0) watch.answered(this.mirror, type, asked);
        return answer;
      }
      if (this.#host.boot !== boot) throw new GoneError();
    }
  }
}
