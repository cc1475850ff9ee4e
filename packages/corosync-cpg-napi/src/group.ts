import { BatchReader } from './batch.js';
import {
  CONTROL_BYTES,
  Control,
  Counter,
  type CpgBinding,
  Job,
  loadBinding,
  type NativeHandle,
  Sent,
  Signal,
} from './binding.js';
import { CpgError, CsError, corosyncError } from './errors.js';
import { type CheckedOptions, type CpgOptions, checkOptions } from './options.js';
import { EventOrder } from './order.js';
import type { CpgMember, CpgRing, CpgStats } from './types.js';

/** Corosync asks us to try again: it starts, synchronises, or our previous leave is still on its way. */
const TRY_AGAIN_MS = 20;
/** How long `close` waits for a corosync that does not answer. Then the rest happens in the background. */
const CLOSE_GRACE_MS = 1000;

type State = 'opening' | 'open' | 'joining' | 'joined' | 'leaving' | 'died' | 'closed';

interface Waiter {
  resolve(): void;
  reject(error: Error): void;
}

/**
 * One membership of one group. One life: after `leave`, `close` or `died` it cannot be used again; open another one, which joins as a new member.
 * It keeps the process alive until then.
 */
export class CpgGroup {
  readonly pid = process.pid;
  readonly #binding: CpgBinding;
  readonly #options: CheckedOptions;
  readonly #handle: NativeHandle;
  readonly #words: Uint32Array;
  readonly #counters: Float64Array;
  readonly #order: EventOrder;
  readonly #reader: BatchReader;
  #state: State = 'opening';
  /** Of the native job that runs. */
  #jobDone: ((csError: number, text: string) => void) | undefined;
  #left: Waiter | undefined;
  #ringWaiter: Waiter | undefined;
  /** Whoever waits for corosync; called when the group ends under them. */
  readonly #onEnd = new Set<(error: Error) => void>();
  #closing: Promise<void> | undefined;
  #closed: (() => void) | undefined;

  /** Use {@link openCpg}. */
  constructor(options: CheckedOptions, binding: CpgBinding) {
    const control = new ArrayBuffer(CONTROL_BYTES);
    this.#binding = binding;
    this.#options = options;
    this.#words = new Uint32Array(control, 0, Control.WORDS);
    this.#counters = new Float64Array(control, Control.WORDS * 4, Control.COUNTERS);
    this.#order = new EventOrder(
      options.handlers,
      {
        joined: () => {
          if (this.#state === 'joining') this.#state = 'joined';
        },
        ringKnown: () => this.#ringWaiter?.resolve(),
        left: () => this.#onLeft(),
      },
      () => this.self,
      options.quorumLibrary !== null,
    );
    this.#reader = new BatchReader(control, this.#order);
    this.#handle = binding.create(
      options.group,
      options.cpgLibrary,
      options.quorumLibrary,
      control,
      options.maxInFlightMessages,
      options.maxInFlightBytes,
      (bytes, quorums, events) => {
        if (bytes === undefined) this.#reader.resume();
        else this.#reader.read(bytes, quorums!, events!);
      },
      (kind, job, csError, text) => this.#onSignal(kind, job, csError, text),
    );
  }

  /** Of this node, as corosync.conf says. */
  get nodeId(): number {
    return this.#words[Control.NODE_ID]!;
  }

  get self(): CpgMember {
    return { nodeId: this.nodeId, pid: this.pid };
  }

  /** Largest message, in bytes (1,047,552). Large ones hold up everybody's small ones: prefer chunks of at most 64 KiB. */
  get maxMessageBytes(): number {
    return this.#words[Control.MESSAGE_BYTES_MAX]!;
  }

  /** The ring that was last announced; undefined before the first. */
  get ring(): CpgRing | undefined {
    return this.#order.currentRing;
  }

  /** Whether corosync.conf names a quorum provider (and `quorum` was not switched off). Without one, `ring.quorate` is undefined. */
  get hasQuorum(): boolean {
    return this.#options.quorumLibrary !== null && this.#words[Control.QUORUM_TYPE] !== 0;
  }

  /**
   * Joins. Resolves when one's own confchg and the first ring have been handled; handlers may be called before, and may send. Rejects with ERR_CPG_EXIST, _TIMEOUT,
   * _DIED, …: then close.
   */
  async join(): Promise<void> {
    if (this.#state !== 'open') throw this.#usage('join');
    this.#state = 'joining';
    const ring = this.#wait((waiter) => {
      this.#ringWaiter = waiter;
    });
    ring.catch(() => {}); // the job fails first, and is awaited first
    await this.#runJob(Job.JOIN, `join the group ${this.#options.group}`);
    await ring;
  }

  /**
   * Gives one message to the order; `bytes` is copied. False: too much is on its way, nothing was taken; wait for `drain`.
   *
   * Messages of one sender keep their order. True promises delivery to nobody: a message accepted while the ring changes may be delivered in a later ring, to all or
   * to some of its members, or (this node being cut off) on this side only.
   *
   * Throws ERR_CPG_TOO_BIG for more than `maxMessageBytes`, ERR_CPG_USAGE before one's own confchg and after `leave`, ERR_CPG_CLOSED after `close`, ERR_CPG_DIED after
   * `died` was called.
   */
  send(bytes: Uint8Array): boolean {
    if (this.#state !== 'joined') throw this.#usage('send');
    switch (this.#binding.send(this.#handle, bytes)) {
      case Sent.TAKEN:
        return true;
      case Sent.FULL:
        return false;
      case Sent.TOO_BIG:
        throw new CpgError(
          'ERR_CPG_TOO_BIG',
          `a message of ${bytes.length} bytes: at most ${this.maxMessageBytes}`,
        );
      case Sent.NO_MEMORY:
        throw new CpgError('ERR_CPG_RESOURCES', 'no memory left to queue a message');
      default:
        // Ended below us; `died` is about to say so. The message shares the fate of those under way.
        return true;
    }
  }

  /**
   * Sends what is queued, leaves, and closes. Resolves after the group was left: one's own confchg with reason LEAVE is the last event. Rejects when the group
   * dies or is closed meanwhile; then it is left, too, but not in order. Stays pending while corosync does not answer: `close` ends it.
   */
  async leave(): Promise<void> {
    if (this.#state === 'open') return this.close();
    if (this.#state !== 'joined') throw this.#usage('leave');
    this.#state = 'leaving';
    const left = this.#wait((waiter) => {
      this.#left = waiter;
    });
    left.catch(() => {});
    await this.#runJob(Job.LEAVE, `leave the group ${this.#options.group}`);
    await left;
    await this.close();
  }

  /**
   * Ends without leaving, as a dying process does: others see PROCDOWN, after every message that corosync has taken; those queued here are dropped. No event
   * follows, from the moment of the call. Safe at any time, from handlers, twice. Never rejects; resolves when corosync knows, or does not answer for a second
   * (then it learns of it as soon as it answers).
   */
  close(): Promise<void> {
    if (this.#closing !== undefined) return this.#closing;
    const died = this.#state === 'died';
    if (!died) this.#state = 'closed';
    this.#reader.drop();
    this.#closing = new Promise((resolve) => {
      const grace = setTimeout(() => {
        this.#binding.release(this.#handle);
        resolve();
      }, CLOSE_GRACE_MS);
      this.#closed = () => {
        clearTimeout(grace);
        resolve();
      };
    });
    this.#binding.close(this.#handle);
    this.#end(new CpgError('ERR_CPG_CLOSED', 'the group was closed'));
    return this.#closing;
  }

  stats(): CpgStats {
    const counters = this.#counters;
    return {
      inFlightMessages: counters[Counter.IN_FLIGHT_MESSAGES]!,
      inFlightBytes: counters[Counter.IN_FLIGHT_BYTES]!,
      queuedMessages: counters[Counter.QUEUED_MESSAGES]!,
      queuedBytes: counters[Counter.QUEUED_BYTES]!,
      sentMessages: counters[Counter.SENT_MESSAGES]!,
      sentBytes: counters[Counter.SENT_BYTES]!,
      deliveredMessages: counters[Counter.DELIVERED_MESSAGES]!,
      deliveredBytes: counters[Counter.DELIVERED_BYTES]!,
      batches: counters[Counter.BATCHES]!,
      tryAgains: counters[Counter.TRY_AGAINS]!,
    };
  }

  /** @internal For {@link openCpg}. */
  async open(): Promise<void> {
    await this.#runJob(Job.OPEN, 'connect to corosync');
    if (!this.hasQuorum) this.#order.untrackQuorum();
    this.#state = 'open';
  }

  /** Runs a native job, again while corosync says TRY_AGAIN, for `timeoutMs` at most. Throws its error, or that of the group's end. */
  async #runJob(job: number, what: string): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    try {
      const result = await this.#wait<{ csError: number; text: string }>((waiter) => {
        const deadline = Date.now() + this.#options.timeoutMs;
        const start = (): void => {
          this.#binding.run(this.#handle, job);
        };
        timer = setTimeout(
          () => waiter.resolve({ csError: CsError.TIMEOUT, text: '' }),
          this.#options.timeoutMs,
        );
        this.#jobDone = (csError, text) => {
          if (csError !== CsError.TRY_AGAIN || Date.now() >= deadline) waiter.resolve({ csError, text });
          else setTimeout(start, TRY_AGAIN_MS);
        };
        start();
      });
      if (result.csError !== CsError.OK) throw corosyncError(result.csError, what, result.text);
    } finally {
      clearTimeout(timer);
      this.#jobDone = undefined;
    }
  }

  /** A promise that the end of the group rejects. */
  #wait<T = void>(
    start: (waiter: { resolve(value: T): void; reject(error: Error): void }) => void,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const onEnd = (error: Error): void => {
        reject(error);
      };
      this.#onEnd.add(onEnd);
      start({
        resolve: (value) => {
          this.#onEnd.delete(onEnd);
          resolve(value);
        },
        reject,
      });
    });
  }

  #end(error: Error): void {
    for (const onEnd of [...this.#onEnd]) onEnd(error);
    this.#onEnd.clear();
  }

  #onSignal(kind: number, _job: number, csError: number, text: string): void {
    switch (kind) {
      case Signal.JOB:
        this.#jobDone?.(csError, text);
        break;
      case Signal.DRAIN:
        if (this.#state === 'joined') this.#options.handlers.drain?.();
        break;
      case Signal.DIED:
        this.#die(
          new CpgError('ERR_CPG_DIED', `corosync ended, or dropped this process (${csError}): join anew`, {
            csError,
          }),
        );
        break;
      case Signal.CLOSED:
        this.#closed?.();
        break;
    }
  }

  #onLeft(): void {
    if (this.#state === 'leaving') {
      // Corosync goes on sending the group's events until the handle is closed.
      // Its own LEAVE may overtake the answer to cpg_leave.
      this.#jobDone?.(CsError.OK, '');
      this.#left?.resolve();
      void this.close();
    } else {
      this.#die(new CpgError('ERR_CPG_DIED', 'corosync threw this process out of the group: join anew'));
    }
  }

  #die(error: CpgError): void {
    if (this.#state === 'died' || this.#state === 'closed') return;
    this.#state = 'died';
    this.#end(error);
    void this.close();
    this.#options.handlers.died(error);
  }

  #usage(method: string): CpgError {
    switch (this.#state) {
      case 'closed':
        return new CpgError('ERR_CPG_CLOSED', `${method}: the group was closed`);
      case 'died':
        return new CpgError('ERR_CPG_DIED', `${method}: the membership is lost, join anew`);
      default:
        return new CpgError('ERR_CPG_USAGE', `${method}: not now, this group is ${this.#state}`);
    }
  }
}

/**
 * Connects to corosync. Handlers are called from {@link CpgGroup.join} on, except `died`, which may come at once.
 *
 * Rejects with {@link CpgError}: _LIBRARY (not installed), _NOT_RUNNING, _ACCESS, _TIMEOUT, _RESOURCES, _BINDING, _USAGE.
 */
export async function openCpg(options: CpgOptions): Promise<CpgGroup> {
  const group = new CpgGroup(checkOptions(options), options.binding ?? loadBinding());
  try {
    await group.open();
  } catch (error) {
    await group.close();
    throw error;
  }
  return group;
}
