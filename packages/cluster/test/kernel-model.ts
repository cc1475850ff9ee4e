import { DecodeCode, encodeRequestInto, FrameView, RequestType } from '@dmlog/protocol';

/** What a request came to: numbers as they stand in the reply. */
export interface Answer {
  readonly errno: number;
  readonly first: number;
  readonly second: number;
}

export interface Ask {
  readonly type: number;
  readonly words: readonly number[];
}

/** The legs of the mirror, one value for each region: the number of the last write that reached it. */
export class Legs {
  readonly values: [number[], number[]];
  /** Newest acknowledged write of each region. */
  readonly acknowledged: number[];
  /** Regions with a write that has not ended: nobody else writes them then, as a filesystem sees to it. */
  readonly busy = new Set<number>();
  readonly regions: number;
  writes = 0;
  /** Told of whatever reaches a leg, for whoever asks why legs differ. */
  note: (region: number, text: string) => void = () => {};
  /** Told of each write that has ended on all the legs it was for, and whose it was. */
  ended: (region: number, kernel: string) => void = () => {};

  constructor(regions: number) {
    this.regions = regions;
    this.values = [new Array<number>(regions).fill(0), new Array<number>(regions).fill(0)];
    this.acknowledged = new Array<number>(regions).fill(0);
  }

  differ(region: number): boolean {
    return this.values[0][region] !== this.values[1][region];
  }
}

type HashState = 'clean' | 'dirty' | 'nosync' | 'recovering';

interface HashEntry {
  state: HashState;
  pending: number;
  delayed: number[];
}

/** One step of data on its way to a leg. */
interface Landing {
  readonly apply: () => void;
}

/**
 * One kernel's mirror target as dm-raid1.c, dm-region-hash.c and dm-log-userspace-base.c of Linux 6.1 have it: a worker that asks one question at a time, a region hash,
 * one recovery at a time, and data that reaches the legs in its own time.
 */
export class KernelModel {
  readonly name: string;
  readonly legs: Legs;
  /** The question that waits for an answer. */
  asking: Ask | null = null;
  suspended = true;
  /** Someone wants it suspended: the worker stops where it has nothing under way. */
  wantSuspend = false;
  dead = false;
  recoveries = 0;
  readonly #draw: () => number;
  readonly #hash = new Map<number, HashEntry>();
  readonly #landings: Landing[] = [];
  #hint = 0;
  readonly #owned = new Set<number>();
  /** Regions with a write on its way to the legs, and how many. */
  readonly #issued = new Map<number, number>();
  #queue: number[] = [];
  #cleared: number[] = [];
  #recoveryDone: { region: number; ok: boolean }[] = [];
  #recovering = -1;
  #worker: Generator<Ask, void, Answer> | null = null;
  /** Whether the worker has something to do, as far as it knows. */
  #woken = false;

  constructor(name: string, legs: Legs, draw: () => number) {
    this.name = name;
    this.legs = legs;
    this.#draw = draw;
  }

  get idle(): boolean {
    return this.#worker === null && this.#landings.length === 0 && this.#queue.length === 0 && !this.#woken;
  }

  /** A recovery is under way: suspending waits for it first. */
  get recovers(): boolean {
    return this.#recovering >= 0;
  }

  resumed(): void {
    this.suspended = false;
    this.wantSuspend = false;
    this.#hint = 0;
    this.#woken = true;
  }

  /** All writes have ended and recovery is stopped. What is in the hash dies with the table. */
  becomeSuspended(): void {
    this.suspended = true;
    this.#hash.clear();
    this.#cleared = [];
    this.#recoveryDone = [];
  }

  /** Whether this kernel would read the region from any leg; null if it has to ask its log. */
  opinion(region: number): boolean | null {
    const entry = this.#hash.get(region);
    return entry === undefined ? null : entry.state === 'clean' || entry.state === 'dirty';
  }

  /** Regions with a write that the log has let go and that has not ended. */
  get issued(): number[] {
    return [...this.#issued.keys()];
  }

  write(region: number): void {
    this.legs.busy.add(region);
    this.#owned.add(region);
    this.#queue.push(region);
    this.#woken = true;
  }

  wake(): void {
    this.#woken = true;
  }

  /** The machine is gone: data on its way lands or does not. */
  crash(): void {
    this.dead = true;
    for (const landing of this.#landings) if (this.#draw() < 0.5) landing.apply();
    this.#landings.length = 0;
    this.#queue = [];
    for (const region of this.#owned) this.legs.busy.delete(region);
    this.#worker = null;
    this.asking = null;
  }

  /** Lets some data land. True if any did. */
  land(): boolean {
    if (this.#landings.length === 0) return false;
    const [landing] = this.#landings.splice(Math.floor(this.#draw() * this.#landings.length), 1);
    landing?.apply();
    return true;
  }

  /** Starts the worker if there is work. */
  run(): void {
    if (this.dead || this.suspended || this.#worker !== null || !this.#woken) return;
    this.#woken = false;
    this.#worker = this.#work();
    this.#advance(undefined);
  }

  answer(answer: Answer): void {
    this.asking = null;
    this.#advance(answer);
  }

  #advance(answer: Answer | undefined): void {
    const worker = this.#worker as Generator<Ask, void, Answer>;
    const { done, value } = answer === undefined ? worker.next() : worker.next(answer);
    if (done === true) this.#worker = null;
    else this.asking = value;
  }

  /** do_mirror: update states, recovery, writes. */
  *#work(): Generator<Ask, void, Answer> {
    yield* this.#updateStates();
    if (!this.wantSuspend) yield* this.#recover();
    yield* this.#doWrites();
  }

  *#updateStates(): Generator<Ask, void, Answer> {
    const done = this.#recoveryDone.splice(0);
    for (const { region, ok } of done) {
      yield { type: RequestType.SET_REGION_SYNC, words: [region, ok ? 1 : 0] };
      yield { type: RequestType.CLEAR_REGION, words: [region] };
      const entry = this.#hash.get(region);
      this.#hash.delete(region);
      this.#recovering = -1;
      for (const delayed of entry?.delayed ?? []) this.#queue.push(delayed);
      this.#woken = true;
    }
    const cleared = this.#cleared.splice(0).filter((region) => this.#hash.get(region)?.state === 'clean');
    for (const region of cleared) {
      this.#hash.delete(region);
      yield { type: RequestType.CLEAR_REGION, words: [region] };
    }
    if (cleared.length > 0) yield { type: RequestType.FLUSH, words: [] };
  }

  *#recover(): Generator<Ask, void, Answer> {
    if (this.#recovering >= 0 || this.#hint >= this.legs.regions) return;
    const { first, second: region } = yield { type: RequestType.GET_RESYNC_WORK, words: [] };
    if (first === 0) return;
    const entry = this.#hash.get(region) ?? { state: 'recovering', pending: 0, delayed: [] };
    entry.state = 'recovering';
    this.#hash.set(region, entry);
    this.#recovering = region;
    if (entry.pending === 0) this.#copy(region);
  }

  /** Reads the default leg, writes the other: two moments. */
  #copy(region: number): void {
    const [from, to] = this.legs.values;
    this.#landings.push({
      apply: () => {
        const value = from[region] as number;
        this.legs.note(region, `${this.name} reads ${value} to copy it`);
        this.#landings.push({
          apply: () => {
            to[region] = value;
            this.legs.note(region, `${this.name} copies ${value} to leg 1`);
            this.recoveries++;
            this.#recoveryDone.push({ region, ok: true });
            this.#woken = true;
          },
        });
      },
    });
  }

  *#doWrites(): Generator<Ask, void, Answer> {
    const writes = this.#queue.splice(0);
    const sync: number[] = [];
    const nosync: number[] = [];
    for (const region of writes) {
      if (region >= this.#hint) {
        const { first, second } = yield { type: RequestType.IS_REMOTE_RECOVERING, words: [region] };
        this.#hint = second;
        if (first !== 0) {
          this.#queue.push(region);
          continue;
        }
      }
      const entry = this.#hash.get(region);
      if (entry?.state === 'recovering') {
        entry.delayed.push(region);
        continue;
      }
      const isSync = entry === undefined ? yield* this.#inSync(region) : entry.state !== 'nosync';
      (isSync ? sync : nosync).push(region);
    }
    const marks: number[] = [];
    for (const region of [...sync, ...nosync]) {
      let entry = this.#hash.get(region);
      if (entry === undefined) {
        entry = { state: (yield* this.#inSync(region)) ? 'clean' : 'nosync', pending: 0, delayed: [] };
        this.#hash.set(region, entry);
      }
      entry.pending++;
      if (entry.state !== 'clean') continue;
      entry.state = 'dirty';
      marks.push(region);
    }
    if (marks.length > 0) {
      yield { type: RequestType.MARK_REGION, words: marks };
      const flushed = yield { type: RequestType.FLUSH, words: [] };
      if (flushed.errno !== 0) throw new Error(`${this.name}: FLUSH failed with ${flushed.errno}`);
    }
    for (const region of sync) this.#issue(region, 2);
    for (const region of nosync) this.#issue(region, 1);
  }

  *#inSync(region: number): Generator<Ask, boolean, Answer> {
    return (yield { type: RequestType.IN_SYNC, words: [region] }).first !== 0;
  }

  #issue(region: number, legs: 1 | 2): void {
    // Two writers of one region are ordered by nobody: the filesystem above sees to it that they do not meet.
    const value = ++this.legs.writes;
    this.#issued.set(region, (this.#issued.get(region) ?? 0) + 1);
    let left = legs;
    for (let leg = 0; leg < legs; leg++) {
      const target = this.legs.values[leg] as number[];
      this.#landings.push({
        apply: () => {
          target[region] = value;
          this.legs.note(region, `${this.name} writes ${value} to leg ${leg} of ${legs}`);
          if (--left === 0) this.#ended(region, value);
        },
      });
    }
  }

  #ended(region: number, value: number): void {
    if (this.dead) return;
    const others = (this.#issued.get(region) as number) - 1;
    if (others > 0) this.#issued.set(region, others);
    else this.#issued.delete(region);
    this.legs.acknowledged[region] = value;
    this.legs.ended(region, this.name);
    this.legs.busy.delete(region);
    this.#owned.delete(region);
    const entry = this.#hash.get(region) as HashEntry;
    if (--entry.pending > 0) return;
    if (entry.state === 'recovering') this.#copy(region);
    else if (entry.state === 'dirty') {
      entry.state = 'clean';
      this.#cleared.push(region);
      this.#woken = true;
    }
  }
}

/** Writes a request as the kernel does and reads replies. */
export class Wire {
  readonly arena = new Uint8Array(2048);
  readonly view = new FrameView(this.arena);
  seq = 0;

  request(uuid: string, luid: number, ask: Ask): FrameView {
    const data = new Uint8Array(8 * ask.words.length);
    const words = new DataView(data.buffer);
    for (const [i, word] of ask.words.entries()) words.setBigUint64(8 * i, BigInt(word), true);
    this.seq++;
    const request = { type: ask.type, version: 3, seq: this.seq, luid: { low: luid, high: 0 }, uuid, data };
    const length = encodeRequestInto(this.arena, 0, request);
    const code = this.view.decode(0, length);
    if (code !== DecodeCode.OK) throw new Error(`the model's request does not decode: ${code}`);
    return this.view;
  }
}
