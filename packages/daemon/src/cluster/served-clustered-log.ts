import { ClusteredLog } from '@dmlog/cluster';
import type { Effects, LogMemory, LogName, LogParameters } from '@dmlog/log';
import { type FrameView, RequestType } from '@dmlog/protocol';
import type { NameLookup } from '../name-lookup.js';
import { type ImageStore, type Legs, newServedCounters, type Served } from '../served.js';
import type { HostedLog, ReplicaHost } from './replica-host.js';

/** A clustered log as one table of this node has it. The logs of two tables share a {@link ReplicaHost}. */
export class ServedClusteredLog implements Served, HostedLog {
  readonly name: LogName;
  readonly parameters: LogParameters;
  readonly log: ClusteredLog;
  readonly host: ReplicaHost;
  readonly store: ImageStore | null;
  readonly legs: Legs | null;
  readonly counters = newServedCounters();
  readonly #lookup: NameLookup;
  readonly #onDiscard: () => void;
  readonly #file: { discard(): void } | null;
  #closed = false;

  constructor(init: {
    name: LogName;
    parameters: LogParameters;
    host: ReplicaHost;
    reconnected: boolean;
    /** The table's memory that outlives the process, and the file that it is; null: there is none. */
    memory: LogMemory | null;
    file: { discard(): void } | null;
    store: ImageStore | null;
    legs: Legs | null;
    lookup: NameLookup;
    /** The kernel does not have the log any more. */
    onDiscard: () => void;
  }) {
    this.name = init.name;
    this.parameters = init.parameters;
    this.host = init.host;
    this.log = new ClusteredLog(init.host.replica, init.reconnected, init.memory);
    this.store = init.store;
    this.legs = init.legs;
    this.#file = init.file;
    this.#lookup = init.lookup;
    this.#onDiscard = init.onDiscard;
    init.host.add(this);
  }

  get device(): string | null {
    return this.store?.deviceNumber ?? null;
  }

  get dmName(): string | null {
    return this.#lookup.name;
  }

  get imageKeeper(): object {
    return this.host;
  }

  get writing(): boolean {
    return this.host.isWriting;
  }

  get owes(): boolean {
    return this.host.owes;
  }

  request(view: FrameView, port: number, effects: Effects): void {
    this.counters.requests++;
    if (view.type === RequestType.RESUME) {
      this.#lookup.look();
      this.host.use(this, this.log.marksUnknown);
    }
    this.host.request(this.log, view, port, effects);
    if (effects.destroyed) this.discard();
  }

  /** As an earlier process left it; or why that cannot be. */
  restore(memory: LogMemory): string | null {
    const problem = this.log.restore(memory);
    if (problem !== null || this.log.state === 'constructed') return problem;
    this.#lookup.look();
    if (this.log.state === 'live') this.host.use(this, this.log.marksUnknown);
    return null;
  }

  tick(nowMs: number): void {
    this.host.tick(nowMs);
  }

  pause(): void {
    this.host.pause();
  }

  resume(): void {
    this.host.resume();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.host.release(this);
    this.#closeDevice();
  }

  discard(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.host.remove(this);
    this.#onDiscard();
    this.#file?.discard();
    this.#closeDevice();
  }

  giveUpImage(): boolean {
    this.host.yieldSeat();
    return !this.host.isWriting;
  }

  #closeDevice(): void {
    this.store?.close();
    this.legs?.close();
  }
}
