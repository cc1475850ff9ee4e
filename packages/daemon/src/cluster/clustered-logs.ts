import { KeptReplica, keptReplicaBytes, Replica } from '@dmlog/cluster';
import type { LogMemory, LogName, LogParameters } from '@dmlog/log';
import { NameLookup } from '../name-lookup.js';
import type { OpenedStore } from '../opened-store.js';
import type { LogIdentity } from '../state/format.js';
import type { StateFile } from '../state/state-file.js';
import { type ClusterParts, ReplicaHost } from './replica-host.js';
import { ServedClusteredLog } from './served-clustered-log.js';

/** What tells the share of a node in a log from others. */
type SharedInit = Pick<ClusteredLogInit, 'name' | 'parameters' | 'opened' | 'blockBytes'>;

/** What a clustered log is made of at CTR. */
export interface ClusteredLogInit {
  readonly name: LogName;
  readonly parameters: LogParameters;
  /** Null for core logs. */
  readonly opened: OpenedStore | null;
  /** Unit of writes; not used by core logs. */
  readonly blockBytes: number;
  readonly reconnected: boolean;
  /** What outlives this process for this table; null: nothing does. */
  readonly file: StateFile | null;
  readonly findName: () => Promise<string | null>;
}

/** The clustered logs of this node, by uuid. A log has one replica here for each geometry and log device that its tables name; tables that name the same share it. */
export class ClusteredLogs {
  readonly #parts: ClusterParts;
  readonly #hosts = new Map<string, Set<ReplicaHost>>();
  readonly #seats = new Map<string, Promise<void>>();
  readonly #files = new Map<ReplicaHost, StateFile>();

  constructor(parts: ClusterParts) {
    this.#parts = parts;
  }

  make(init: ClusteredLogInit): ServedClusteredLog {
    const memory = init.file?.allocate(0) ?? null;
    return this.#serve(init, this.#hostFor(init) ?? this.#newHost(init), memory);
  }

  /** Finds a table's log again as an earlier process left it; or why that cannot be. */
  restore(init: ClusteredLogInit & { readonly file: StateFile }): ServedClusteredLog | string {
    const memory = init.file.load();
    if (typeof memory === 'string') return memory;
    const host = this.#hostFor(init) ?? this.#foundHost(init);
    if (typeof host === 'string') return host;
    const served = this.#serve(init, host, null);
    const problem = served.restore(memory);
    if (problem === null) return served;
    served.close();
    if (host.logCount === 0) this.#forget(host);
    return problem;
  }

  /** Goes through what {@link restore} does with the share of a log, on a copy of it, so that the code has run before. Throws where the copy is no whole one. */
  rehearse(init: SharedInit, bytesMax: number): void {
    const memory = this.#parts.state?.findShared(sharedIdentityOf(init))?.copy(bytesMax) ?? null;
    if (memory === null) return;
    const { parameters, opened, blockBytes } = init;
    const kept = KeptReplica.found(memory, parameters.regionCount);
    if (typeof kept === 'string') return;
    const { bootId, lazyClear } = this.#parts;
    const deviceNumber = opened?.store.deviceNumber ?? null;
    new Replica({ parameters, bootId, lazyClear, blockBytes, deviceNumber, kept }).keep();
  }

  /** All tables that there are were found again. What others shared is of no use. */
  restored(): void {
    const files = [...this.#files.values()].map(({ path }) => path);
    this.#parts.state?.keepShared(new Set(files));
  }

  /** Resolves when this process is in no group any more. Nothing is served after that. */
  async leave(): Promise<void> {
    const hosts = [...this.#hosts.values()].flatMap((ofOneLog) => [...ofOneLog]);
    await Promise.all(hosts.map((host) => host.close()));
  }

  #serve(init: ClusteredLogInit, host: ReplicaHost, memory: LogMemory | null): ServedClusteredLog {
    const { name, parameters, opened } = init;
    return new ServedClusteredLog({
      name,
      parameters,
      host,
      memory,
      file: init.file,
      reconnected: init.reconnected,
      store: opened?.store ?? null,
      legs: opened?.legs ?? null,
      lookup: new NameLookup(name.uuid, init.findName, this.#parts.logger),
      onDiscard: () => {
        if (host.logCount === 0) this.#forget(host);
      },
    });
  }

  #hostFor({ name: { uuid }, parameters, opened }: ClusteredLogInit): ReplicaHost | null {
    const deviceNumber = opened?.store.deviceNumber ?? null;
    for (const host of this.#hosts.get(uuid) ?? []) {
      if (isSameLog(host.replica.parameters, parameters) && host.deviceNumber === deviceNumber) return host;
    }
    return null;
  }

  #newHost(init: ClusteredLogInit): ReplicaHost {
    const file = this.#create(init);
    const { regionCount } = init.parameters;
    const memory = file?.allocate(keptReplicaBytes(regionCount)) ?? null;
    const kept = memory === null ? null : KeptReplica.fresh(memory, regionCount);
    return this.#addHost(init, kept, memory === null ? null : file);
  }

  /** The share that an earlier process left; or why it cannot be believed. */
  #foundHost(init: ClusteredLogInit): ReplicaHost | string {
    const file = this.#parts.state?.findShared(sharedIdentityOf(init)) ?? null;
    if (file === null) return 'what its tables shared is gone';
    const memory = file.load();
    const kept = typeof memory === 'string' ? memory : KeptReplica.found(memory, init.parameters.regionCount);
    if (typeof kept !== 'string') return this.#addHost(init, kept, file);
    file.discard();
    return kept;
  }

  #create(init: ClusteredLogInit): StateFile | null {
    try {
      return this.#parts.state?.createShared(sharedIdentityOf(init)) ?? null;
    } catch (error) {
      this.#parts.logger.error(
        { uuid: init.name.uuid, err: error },
        'the state of this log cannot be kept in the runtime directory: a restarted daemon will have to reload its tables',
      );
      return null;
    }
  }

  #addHost(init: ClusteredLogInit, kept: KeptReplica | null, file: StateFile | null): ReplicaHost {
    const { name, parameters, opened, blockBytes } = init;
    const { uuid } = name;
    const host = new ReplicaHost({
      uuid,
      parameters,
      deviceNumber: opened?.store.deviceNumber ?? null,
      blockBytes,
      parts: this.#parts,
      kept,
      seats: this.#seats,
    });
    if (file !== null) this.#files.set(host, file);
    const hosts = this.#hosts.get(uuid) ?? new Set();
    hosts.add(host);
    this.#hosts.set(uuid, hosts);
    this.#noteSuccessors(hosts);
    return host;
  }

  #forget(host: ReplicaHost): void {
    host.dispose();
    this.#files.get(host)?.discard();
    this.#files.delete(host);
    const hosts = this.#hosts.get(host.uuid);
    if (hosts === undefined) return;
    hosts.delete(host);
    if (hosts.size === 0) this.#hosts.delete(host.uuid);
    this.#noteSuccessors(hosts);
  }

  /** Replicas of one log take turns in its group: a suspended one makes room at once, so that nobody is refused for a geometry that is on its way out. */
  #noteSuccessors(hosts: ReadonlySet<ReplicaHost>): void {
    for (const host of hosts) host.noteSuccessor(hosts.size > 1);
  }
}

function isSameLog(a: LogParameters, b: LogParameters): boolean {
  return (
    a.kind === b.kind && a.targetSectors === b.targetSectors && a.regionSizeSectors === b.regionSizeSectors
  );
}

function sharedIdentityOf({ name, parameters, opened, blockBytes }: SharedInit): Omit<LogIdentity, 'bootId'> {
  const { kind, targetSectors, regionSizeSectors } = parameters;
  return {
    uuid: name.uuid,
    luidLow: 0,
    luidHigh: 0,
    constructorText: `${kind} ${targetSectors} ${regionSizeSectors}`,
    reconnected: false,
    device: opened?.store.deviceNumber ?? null,
    blockBytes: opened === null ? null : blockBytes,
  };
}
