import type { ClusterStatus, DaemonStatus, LogStatus } from '../serve-types.js';

/** How often the logs are compared with what they were. Only while somebody watches. */
export const WATCH_MS = 250;

export const LOG_EVENTS = [
  'present',
  'created',
  'removed',
  'resumed',
  'suspended',
  'synced',
  'out-of-sync',
  'log-device-failed',
  'log-device-returned',
  'leg-failed',
  'quorum-lost',
  'quorum-regained',
  'refused',
  'member-joined',
  'member-left',
  'member-died',
  'orphan',
  'recovered',
  'writer-changed',
] as const;
export type LogEventName = (typeof LOG_EVENTS)[number];

/** Something that happened to a log. */
export interface LogEvent {
  /** ISO 8601, when it was seen: at most {@link WATCH_MS} after it happened. */
  readonly time: string;
  readonly event: LogEventName;
  readonly uuid: string;
  readonly luid: string;
  /** Device-mapper name, where it is known. */
  readonly name: string | null;
  /** What happened, what the kernel now does, what to do. */
  readonly message: string;
  /** The other node, of events of members. */
  readonly nodeId?: number;
  /** How many, of events of regions. */
  readonly regions?: number;
}

type Change = Pick<LogEvent, 'event' | 'message' | 'nodeId' | 'regions'>;

/**
 * Finds events by comparing one status with the one before: nothing of it runs while requests are served, and every kind of log has them. What comes and goes
 * between two looks is not seen.
 */
export class EventWatch {
  readonly #status: () => DaemonStatus;
  readonly #emit: (event: LogEvent) => void;
  #before = new Map<string, LogStatus>();
  #first = true;

  constructor(status: () => DaemonStatus, emit: (event: LogEvent) => void) {
    this.#status = status;
    this.#emit = emit;
  }

  /** Looks now and every {@link WATCH_MS}; returns what ends it. The first look tells of the logs that are there (`present`). */
  start(): () => void {
    this.look();
    const timer = setInterval(() => this.look(), WATCH_MS);
    return () => clearInterval(timer);
  }

  look(): void {
    const looked = this.#status().logs.map((log): [string, LogStatus] => [`${log.uuid} ${log.luid}`, log]);
    const now = new Map(looked.map(([key, log]) => [key, withKnownState(log, this.#before.get(key))]));
    for (const [key, log] of now) {
      const before = this.#before.get(key);
      if (before !== undefined) for (const change of changes(before, log)) this.#tell(log, change);
      else this.#tell(log, appeared(log, this.#first));
    }
    for (const [key, log] of this.#before) {
      if (!now.has(key))
        this.#tell(log, { event: 'removed', message: 'the kernel has given up the table of this log' });
    }
    this.#before = now;
    this.#first = false;
  }

  #tell({ uuid, luid, dmName }: LogStatus, { event, message, ...rest }: Change): void {
    this.#emit({ time: new Date().toISOString(), event, uuid, luid, name: dmName, message, ...rest });
  }
}

/**
 * While a node hears nobody, or a round of hellos goes on, it knows of no members and no regions: that is not the end of those, and no leg has failed. What it knew
 * last is compared then with what it knows next.
 */
export function withKnownState(now: LogStatus, before: LogStatus | undefined): LogStatus {
  if (now.cluster === undefined || now.cluster.phase === 'active' || before?.cluster === undefined)
    return now;
  const { inSyncCount, dirtyCount } = before;
  const { members, staleCount, givenUpCount, needReload } = before.cluster;
  const cluster = { ...now.cluster, members, staleCount, givenUpCount, needReload };
  return { ...now, inSyncCount, dirtyCount, cluster };
}

function appeared(log: LogStatus, first: boolean): Change {
  const size = `${log.type} log of ${log.regionCount} regions, ${log.inSyncCount} in sync, ${log.state}`;
  return first ? { event: 'present', message: size } : { event: 'created', message: size };
}

/** What happened between two looks at a log. */
export function changes(before: LogStatus, now: LogStatus): Change[] {
  const found: Change[] = [
    ...stateChanges(before, now),
    ...syncChanges(before, now),
    ...deviceChanges(before, now),
  ];
  if (before.cluster !== undefined && now.cluster !== undefined)
    found.push(...clusterChanges(before.cluster, now.cluster));
  return found;
}

function* stateChanges(before: LogStatus, now: LogStatus): Iterable<Change> {
  if (before.state === now.state) return;
  if (now.state === 'live') yield { event: 'resumed', message: 'the mirror is resumed and asks this log' };
  else if (now.state === 'suspended')
    yield { event: 'suspended', message: 'the mirror is suspended, or another table took its place' };
}

function* syncChanges(before: LogStatus, now: LogStatus): Iterable<Change> {
  if (before.regionCount !== now.regionCount || before.state !== 'live') return;
  if (before.inSyncCount < now.inSyncCount && now.inSyncCount === now.regionCount) {
    yield { event: 'synced', message: 'all regions are in sync', regions: now.regionCount };
  } else if (now.inSyncCount < before.inSyncCount) {
    yield {
      event: 'out-of-sync',
      regions: now.regionCount - now.inSyncCount,
      message:
        'regions fell out of sync: a leg could not be written. The kernel writes them to the leg that is left; look at dmsetup status for the leg, repair it, then reload the table: they are resynced',
    };
  }
}

function* deviceChanges(before: LogStatus, now: LogStatus): Iterable<Change> {
  const failed = (log: LogStatus): boolean => log.deviceStatus === 'D' || log.deviceStatus === 'F';
  const device = now.logDevice ?? 'log device';
  if (!failed(before) && failed(now)) {
    yield {
      event: 'log-device-failed',
      message: `log device ${device} failed: every FLUSH is answered with an error, so the kernel holds the writes to this mirror (handle_errors) or lets them through unlogged; repair the device, then reload the table`,
    };
  } else if (failed(before) && !failed(now)) {
    yield { event: 'log-device-returned', message: `log device ${device} works again` };
  }
  if (now.legFlushFailures > before.legFlushFailures) {
    yield {
      event: 'leg-failed',
      message:
        'a leg could not be flushed: regions that were written stay dirty and are resynced after a crash; look at dmsetup status for the leg',
    };
  }
}

function* clusterChanges(before: ClusterStatus, now: ClusterStatus): Iterable<Change> {
  if (before.quorate && !now.quorate) {
    yield {
      event: 'quorum-lost',
      message:
        'this node has no quorum: writes to regions that are not marked yet wait in the kernel until it has; nothing is lost',
    };
  } else if (!before.quorate && now.quorate) {
    yield { event: 'quorum-regained', message: 'this node has quorum: writes that waited go on' };
  }
  if (now.refusal !== null && now.refusal !== before.refusal) {
    yield { event: 'refused', message: `the group does not let this node take part: ${now.refusal}` };
  }
  yield* memberChanges(before, now);
  const doubt = (cluster: ClusterStatus): number => cluster.staleCount + cluster.givenUpCount;
  if (doubt(now) > doubt(before)) {
    yield {
      event: 'orphan',
      regions: doubt(now),
      message: `regions are in doubt that a dead node was writing, or that could not be recovered: they are resynced once the tables of nodes ${now.needReload.join(', ') || '(none)'} are reloaded`,
    };
  } else if (doubt(before) > 0 && doubt(now) === 0) {
    yield { event: 'recovered', message: 'no region is in doubt any more' };
  }
  if (now.writer !== null && before.writer !== null && now.writer !== before.writer) {
    yield { event: 'writer-changed', nodeId: now.writer, message: `node ${now.writer} keeps the image now` };
  }
}

function* memberChanges(before: ClusterStatus, now: ClusterStatus): Iterable<Change> {
  const old = new Map(before.members.map((member) => [member.nodeId, member]));
  for (const { nodeId, presence, marks } of now.members) {
    const was = old.get(nodeId)?.presence;
    old.delete(nodeId);
    if (presence === 'live' && was !== 'live') {
      yield { event: 'member-joined', nodeId, message: `node ${nodeId} takes part` };
    } else if (presence === 'absent' && was !== undefined && was !== 'absent') {
      yield {
        event: 'member-died',
        nodeId,
        regions: marks,
        message: `the daemon of node ${nodeId} is gone; its kernel may still be writing ${marks} regions, which stay marked until it returns or is known to be dead`,
      };
    } else if (presence === 'suspended' && was === 'live') {
      yield { event: 'member-left', nodeId, message: `node ${nodeId} has suspended its mirror` };
    }
  }
  for (const nodeId of old.keys()) {
    if (now.vanished.includes(nodeId)) {
      const message = `node ${nodeId} is dead, or cannot be heard: regions that its kernel was writing, if any, are in doubt`;
      yield { event: 'member-died', nodeId, message };
    } else yield { event: 'member-left', nodeId, message: `node ${nodeId} does not take part any more` };
  }
}
