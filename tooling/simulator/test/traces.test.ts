import { readFileSync } from 'node:fs';
import { RequestType } from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import { Coverage } from '../src/coverage.js';
import { ROOT } from '../src/index.js';
import type { Bio } from '../src/kernel/bio.js';
import { Kernel, type MirrorTable } from '../src/kernel/kernel.js';
import type { MirrorIo } from '../src/kernel/mirror.js';
import { type Thread, ThreadState } from '../src/kernel/thread.js';
import { Random } from '../src/random.js';

/** One datagram of a recorded conversation between a real kernel and a daemon (packages/protocol/test/fixtures). */
interface Recorded {
  readonly us: number;
  readonly fromKernel: boolean;
  readonly bytes: Uint8Array;
}

function recorded(name: string): Recorded[] {
  const lines = readFileSync(`${ROOT}/packages/protocol/test/fixtures/${name}.jsonl`, 'utf8')
    .trim()
    .split('\n');
  return lines.slice(1).map((line) => {
    const { us, dir, hex } = JSON.parse(line) as { us: number; dir: string; hex: string };
    return { us, fromKernel: dir === 'from-kernel', bytes: Buffer.from(hex, 'hex') };
  });
}

const u32 = (bytes: Uint8Array, at: number) =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
const typeOf = (bytes: Uint8Array) => u32(bytes, 188) & 0xff;
/** The netlink datagram is padded to 4 bytes; what counts is its stated length. */
const frameOf = (bytes: Uint8Array) => Buffer.from(bytes.subarray(0, u32(bytes, 0))).toString('hex');

type Command = (kernel: Kernel, uuid: string) => Parameters<Kernel['operate']>[0];
type Event = Command | { readonly region: number; readonly isWrite: boolean };

const write = (region: number): Event => ({ region, isWrite: true });
const read = (region: number): Event => ({ region, isWrite: false });
const status: Command = (kernel) => kernel.status();
const remove: Command = (kernel) => kernel.remove();
const suspend: Command = (kernel) => kernel.suspend(true);
const resume: Command = (kernel) => kernel.resume();
const clear: Command = (kernel) => kernel.clear();
const load =
  (logArguments: string): Command =>
  (kernel, uuid) =>
    kernel.load(tableOf(uuid, logArguments, false));

interface Scenario {
  readonly name: string;
  readonly logArguments: string;
  readonly integratedFlush?: boolean;
  /** RESUME forgot what the kernel knew of the sync count before the worker's first question, which was on its way, was answered: so the answer counts. */
  readonly resumesBeforeAnswer?: true;
  /** Writes that come while the mirror is made in sync: {@link Playback.settleAsRecorded}. Default: none do. */
  readonly writesMeanwhile?: readonly number[];
  readonly events: readonly Event[];
}

const luidOf = (bytes: Uint8Array) => u32(bytes, 36) + u32(bytes, 40) * 2 ** 32;

/** Chance, but where the recording says which of several threads went first. */
class Chosen extends Random {
  choice = -1;

  override below(end: number): number {
    return this.choice >= 0 ? this.choice : super.below(end);
  }
}

const STEPS_MAX = 100_000;
/** Longer than what machines are slow for. */
const PAUSE_US = 1_500_000;

/** The model's own end of a conversation: what was recorded answers it. */
class Playback implements MirrorIo {
  nowMs = 0;
  readonly random = new Chosen(1, 1);
  readonly coverage = new Coverage();
  readonly kernel: Kernel;
  readonly sent: string[] = [];
  readonly #frames: readonly Recorded[];
  readonly #landings: { readonly region: number; readonly isCopy: boolean; readonly run: () => void }[] = [];
  #at = 0;

  constructor(frames: readonly Recorded[]) {
    this.#frames = frames;
    const first = (frames[0] as Recorded).bytes;
    this.kernel = new Kernel({
      io: this,
      random: this.random,
      firstLuid: luidOf(first),
      luids: frames
        .filter(({ bytes, fromKernel }) => fromKernel && typeOf(bytes) === RequestType.CTR)
        .map(({ bytes }) => luidOf(bytes)),
      firstSeq: u32(first, 184),
      send: (thread, frame, length) => this.#send(thread, frame, length),
    });
  }

  get isOver(): boolean {
    return this.#at >= this.#frames.length;
  }

  /** What the recorded kernel sends next. */
  get expected(): string {
    const next = this.#frames[this.#at];
    return next === undefined ? 'nothing' : frameOf(next.bytes);
  }

  /** The recorded kernel let time pass here. */
  get #pauses(): boolean {
    const [last, next] = [this.#frames[this.#at - 1], this.#frames[this.#at]];
    return last !== undefined && next !== undefined && next.us - last.us > PAUSE_US;
  }

  #send(_thread: Thread, frame: Uint8Array, length: number): boolean {
    this.sent.push(Buffer.from(frame.subarray(0, length)).toString('hex'));
    expect(this.sent.at(-1), `frame ${this.sent.length}`).toBe(this.expected);
    this.#at++;
    const reply = this.#frames[this.#at];
    if (reply !== undefined && !reply.fromKernel) {
      this.#at++;
      this.kernel.proxy.receive(reply.bytes);
    }
    return true;
  }

  write(_leg: number, { region }: Bio, done: (ok: boolean) => void): void {
    this.#landings.push({ region, isCopy: false, run: () => done(true) });
  }

  read(_leg: number, { region }: Bio, done: (ok: boolean) => void): void {
    this.#landings.push({ region, isCopy: false, run: () => done(true) });
  }

  copy(_from: number, _to: number, region: number, done: (readOk: boolean, writeOk: boolean) => void): void {
    this.#landings.push({ region, isCopy: true, run: () => done(true, true) });
  }

  ended(): void {
    this.kernel.bioLeft(null);
  }

  requeued(bio: Bio): void {
    this.kernel.bioLeft(bio);
  }

  /** Which thread goes on: the one whose request was recorded next, else one that has not come to its request yet. -1: none. */
  #next(): number {
    const { threads } = this.kernel;
    const expected = this.#frames[this.#at]?.bytes;
    const asks = threads.findIndex(
      ({ state, request }) =>
        state === ThreadState.ASKS &&
        request !== null &&
        (expected === undefined ||
          (request.type === typeOf(expected) && request.log.luid === luidOf(expected))),
    );
    if (asks >= 0) return asks;
    return threads.findIndex((thread) => thread.state !== ThreadState.ASKS && thread.isReady(this.nowMs));
  }

  /** It is as late as it was when the next datagram was recorded. */
  catchUp(): void {
    this.nowMs = Math.max(this.nowMs, (this.#frames[this.#at]?.us ?? 0) / 1000);
  }

  /** One thread goes on. False: none can. */
  step(): boolean {
    const next = this.#next();
    if (next >= 0) this.run(next);
    return next >= 0;
  }

  run(thread: number): void {
    this.random.choice = thread;
    this.kernel.step(this.nowMs);
    this.random.choice = -1;
  }

  /** Runs until nothing is left to do at this moment; then lets data land, one after the other; then lets time pass. */
  settle(): void {
    for (let i = 0; i < STEPS_MAX; i++) {
      if (this.step()) continue;
      const landing = this.#landings.shift();
      if (landing !== undefined) landing.run();
      else if (this.#pauses && this.kernel.nextMs < Number.POSITIVE_INFINITY) {
        this.nowMs = this.kernel.nextMs;
        // What is due now is sent, or goes on.
        this.kernel.step(this.nowMs);
      } else return;
    }
    throw new Error('the model never comes to rest');
  }

  /**
   * As {@link settle}, with `writes` that come, and data that lands, when the recording says so: nothing but a landed copy makes the kernel ask for SET_REGION_SYNC,
   * nothing but a write that has landed for CLEAR_REGION. Else the worker looked up because a delayed write became due, a write landed or one came, in this order: one comes
   * when the one before has ended.
   */
  settleAsRecorded(writes: readonly number[]): void {
    const left = [...writes];
    for (let i = 0; i < STEPS_MAX; i++) {
      const next = this.#frames[this.#at];
      if (this.step()) continue;
      if (next === undefined) return;
      const isDue = this.kernel.nextMs <= next.us / 1000;
      // Timers are late, by up to a jiffy and more.
      this.catchUp();
      if (isDue) continue;
      const type = typeOf(next.bytes);
      if (type === RequestType.SET_REGION_SYNC || type === RequestType.CLEAR_REGION)
        this.#land(this.#cleared);
      else if (!this.#land(null)) {
        const region = left.shift();
        if (region === undefined) return;
        this.submit({ region, isWrite: true });
      }
    }
    throw new Error('the model never comes to rest');
  }

  /** Regions of the next CLEAR_REGION. */
  get #cleared(): ReadonlySet<number> {
    for (let at = this.#at; at < this.#frames.length; at++) {
      const { bytes, fromKernel } = this.#frames[at] as Recorded;
      if (!fromKernel || typeOf(bytes) !== RequestType.CLEAR_REGION) continue;
      return new Set(Array.from({ length: u32(bytes, 192) / 8 }, (_, i) => u32(bytes, 196 + 8 * i)));
    }
    return new Set();
  }

  /** What was on its way to these regions lands; null: writes to any. False: nothing was. */
  #land(regions: ReadonlySet<number> | null): boolean {
    const landing = this.#landings.filter(({ region, isCopy }) => regions?.has(region) ?? !isCopy);
    for (const one of landing) {
      this.#landings.splice(this.#landings.indexOf(one), 1);
      one.run();
    }
    return landing.length > 0;
  }

  submit({ region, isWrite }: { region: number; isWrite: boolean }): void {
    this.kernel.submit({ region, isWrite, from: 0, to: 1, value: 1, left: 0, errors: 0, floor: [] });
  }
}

/** The table of a mirror with these log arguments: length of the target, log type, its own arguments. */
function tableOf(uuid: string, logArguments: string, integratedFlush: boolean): MirrorTable {
  const [sectors, , ...rest] = logArguments.split(' ');
  const regionSize = Number(rest.find((word) => /^\d+$/.test(word)));
  return {
    uuid,
    logArguments,
    regionCount: Number(sectors) / regionSize,
    integratedFlush,
    handlesErrors: true,
  };
}

function play({
  name,
  logArguments,
  integratedFlush = false,
  resumesBeforeAnswer,
  writesMeanwhile,
  events,
}: Scenario): Playback {
  const frames = recorded(name);
  const playback = new Playback(frames);
  const first = Buffer.from((frames[0] as Recorded).bytes);
  const uuid = first.subarray(44, first.indexOf(0, 44)).toString('latin1');
  const { kernel } = playback;
  const table = tableOf(uuid, logArguments, integratedFlush);
  // Two commands, as `dmsetup create` is two calls: the worker asks its first question between them.
  kernel.operate(kernel.load(table));
  if (resumesBeforeAnswer) {
    for (let i = 0; kernel.isOperated && i < STEPS_MAX; i++) playback.step();
    kernel.operate(kernel.resume());
    // Last in the list: it runs as far as its request.
    playback.run(kernel.threads.length - 1);
  } else playback.settle();
  if (kernel.hasInactive) kernel.operate(kernel.resume());
  if (writesMeanwhile === undefined) playback.settle();
  else playback.settleAsRecorded(writesMeanwhile);
  for (const event of events) {
    playback.catchUp();
    if (typeof event === 'function') kernel.operate(event(kernel, uuid));
    else playback.submit(event);
    playback.settle();
  }
  return playback;
}

/** One direct write for each region that the recorded kernel marked, each after the end of the one before. */
function writesIn(name: string): Event[] {
  return recorded(name).flatMap(({ fromKernel, bytes }) => {
    const type = typeOf(bytes);
    const marks = fromKernel && (type === RequestType.MARK_REGION || type === RequestType.FLUSH);
    return marks && u32(bytes, 192) > 0 ? [write(u32(bytes, 196))] : [];
  });
}

describe('fed with the same replies, the modelled kernel sends what the real one sent, byte for byte', () => {
  it.each<Scenario>([
    { name: 'constructor-rejected', logArguments: '16384 core 1024', events: [] },
    {
      name: 'disk-device-returned',
      logArguments: '16384 disk /dev/ram4 1024',
      events: [...writesIn('disk-device-returned'), status, remove],
    },
    { name: 'unknown-log-reconnect', logArguments: '16384 core 1024', events: [status, remove] },
    {
      name: 'core-resync-write',
      logArguments: '16384 core 1024',
      events: [...writesIn('core-resync-write'), read(0), read(0), read(0), read(0), status, remove],
    },
    {
      name: 'core-nosync-integrated-flush',
      logArguments: '16384 core 1024 nosync',
      integratedFlush: true,
      events: [...writesIn('core-nosync-integrated-flush'), status, remove],
    },
    {
      name: 'reply-lost',
      logArguments: '16384 core 1024 nosync',
      resumesBeforeAnswer: true,
      events: [write(0), remove],
    },
    {
      name: 'resync-with-writes',
      logArguments: '16384 core 256',
      resumesBeforeAnswer: true,
      writesMeanwhile: [0, 0, 0, 46, 46, 46, 63, 63],
      events: [status, remove],
    },
    {
      name: 'table-exchange',
      logArguments: '16384 core 1024 nosync',
      resumesBeforeAnswer: true,
      events: [
        write(0),
        write(0),
        load('16384 core 512 nosync'),
        suspend,
        resume,
        write(1),
        write(1),
        load('32768 core 512 nosync'),
        clear,
        suspend,
        resume,
        write(0),
        remove,
      ],
    },
  ])('$name', (scenario) => {
    const playback = play(scenario);
    expect(playback.isOver, playback.expected).toBe(true);
  });
});

it('the recordings hold every type of request that the model sends', () => {
  const types = new Set<number>();
  for (const name of ['core-resync-write', 'resync-with-writes', 'table-exchange'])
    for (const { fromKernel, bytes } of recorded(name)) if (fromKernel) types.add(typeOf(bytes));
  expect(types).toContain(RequestType.IS_REMOTE_RECOVERING);
});
