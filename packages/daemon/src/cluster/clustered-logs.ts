import type { LogName, LogParameters } from '@dmlog/log';
import { NameLookup } from '../name-lookup.js';
import type { OpenedStore } from '../opened-store.js';
import { type ClusterParts, ReplicaHost } from './replica-host.js';
import { ServedClusteredLog } from './served-clustered-log.js';

/** What a clustered log is made of at CTR. */
export interface ClusteredLogInit {
  readonly name: LogName;
  readonly parameters: LogParameters;
  /** Null for core logs. */
  readonly opened: OpenedStore | null;
  /** Unit of writes; not used by core logs. */
  readonly blockBytes: number;
  readonly reconnected: boolean;
  readonly findName: () => Promise<string | null>;
}

/** The clustered logs of this node, by uuid. A log has one replica here for each geometry and log device that its tables name; tables that name the same share it. */
export class ClusteredLogs {
  readonly #parts: ClusterParts;
  readonly #hosts = new Map<string, Set<ReplicaHost>>();
  readonly #seats = new Map<string, Promise<void>>();

  constructor(parts: ClusterParts) {
    this.#parts = parts;
  }

  make(init: ClusteredLogInit): ServedClusteredLog {
    const { name, parameters, opened } = init;
    const host = this.#hostFor(init);
    return new ServedClusteredLog({
      name,
      parameters,
      host,
      reconnected: init.reconnected,
      store: opened?.store ?? null,
      legs: opened?.legs ?? null,
      lookup: new NameLookup(name.uuid, init.findName, this.#parts.logger),
      onDiscard: () => {
        if (host.logCount === 0) this.#forget(host);
      },
    });
  }

  #hostFor({ name: { uuid }, parameters, opened, blockBytes }: ClusteredLogInit): ReplicaHost {
    const deviceNumber = opened?.store.deviceNumber ?? null;
    const hosts = this.#hosts.get(uuid) ?? new Set();
    for (const host of hosts) {
      if (isSameLog(host.replica.parameters, parameters) && host.deviceNumber === deviceNumber) return host;
    }
    const parts = this.#parts;
    const host = new ReplicaHost({ uuid, parameters, deviceNumber, blockBytes, parts, seats: this.#seats });
    hosts.add(host);
    this.#hosts.set(uuid, hosts);
    this.#noteSuccessors(hosts);
    return host;
  }

  #forget(host: ReplicaHost): void {
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
