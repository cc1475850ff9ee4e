/**
 * What a daemon tells of itself, and what runs one. The schema is the contract of the control method `status`: the command line of one version
 * may ask a daemon of another, so its answer is checked and not believed.
 */
import { z } from 'zod';
import type { DaemonConfig } from './config/schema.js';
import type { Operable } from './control/operable.js';
import type { Logger } from './logging.js';

const Count = z.number().int().min(0);

/** A node's share in a clustered log. */
export const ClusterStatus = z.object({
  /** This node's id in the cluster; null while it is not in the log's group. */
  nodeId: Count.nullable(),
  /** The ring of nodes that hear each other, by its representative and its number. */
  ring: z.object({ nodeId: Count, seq: Count }).nullable(),
  quorate: z.boolean(),
  /** `introducing`, `founding`, `joining`, `active`, `out`; `none` while this node is not in the group. */
  phase: z.string(),
  /** How this node's mirror stands: `suspended`, `resuming`, `live`, `suspending`. */
  mirror: z.string(),
  /** Why the group does not let this node take part. */
  refusal: z.string().nullable(),
  /** Ordered messages applied since the log was founded. */
  position: Count,
  /** 16 hexadecimal digits over that history: members with equal positions and digests hold equal states. Null without a state. */
  digest: z.string().nullable(),
  /** The node that keeps the disk image and brings joiners the state. */
  writer: Count.nullable(),
  /** Changes up to this position survive the end of this node; null: all do, or nothing can be said. */
  committed: Count.nullable(),
  members: z.array(
    z.object({
      nodeId: Count,
      bootId: z.string(),
      /** `live`, `suspended`, or `absent`: its daemon does not take part, its kernel may still be writing. */
      presence: z.string(),
      /** Regions that its kernel may be writing. */
      marks: Count,
      /** Regions that it alone may recover. */
      leases: Count,
    }),
  ),
  /** Nodes whose tables have to be reloaded before stale and given-up regions are resynced. */
  needReload: z.array(Count),
  /** Regions that kernels are told to be in sync although the legs may differ. */
  staleCount: Count,
  /** Regions that could not be recovered. */
  givenUpCount: Count,
  /** Whether this node is the one that writes the image at the moment. */
  keepsImage: z.boolean(),
  /** Messages that the group has not taken yet. */
  waitingMessages: Count,
  /** From asking to be let into the group to taking part, the state's transfer included; of the last time. Null before. */
  joinSeconds: z.number().min(0).nullable().default(null),
  /** From the announcement of the state's snapshot (checkpoint) to this node's taking it over; of the last one. Null before: who founds a group needs none. */
  snapshotSeconds: z.number().min(0).nullable().default(null),
  /** Nodes that went from the group without leaving it: dead, or not to be heard. Since this node joined. */
  vanished: z.array(Count).default([]),
  /** MemberCounters of @dmlog/cluster. */
  counters: z.record(z.string(), z.number()),
});
export type ClusterStatus = z.infer<typeof ClusterStatus>;

/** A `LogSummary` of @dmlog/log and what the daemon knows besides. */
export const LogStatus = z.object({
  uuid: z.string(),
  /** `0x` and 16 hexadecimal digits: a kernel pointer, which does not fit a double. */
  luid: z.string(),
  /** Device-mapper name of the mirror, where it is known. */
  dmName: z.string().nullable(),
  /** As the table says it: `core`, `disk`, `clustered-disk`, … */
  type: z.string(),
  /** `constructed`, `resuming`, `live`, `suspended`, `destroyed`. */
  state: z.string(),
  /** Length of the mirror target, in sectors of 512 bytes. */
  targetSectors: Count,
  regionSizeSectors: Count,
  regionCount: Count,
  /** Regions in which all legs agree. */
  inSyncCount: Count,
  /** Regions that are not clean: marked, held by lazy clear, or out of sync. */
  dirtyCount: Count,
  /** The region handed out for recovery, 0-based; null where there is none. */
  recovering: Count.nullable(),
  /** Path of the log device; null for `core`. */
  logDevice: z.string().nullable(),
  /** As in STATUS_INFO: A alive, D log device failed, F its flush failed; null without a log device. */
  deviceStatus: z.enum(['A', 'D', 'F']).nullable(),
  /** Regions that the kernel has cleared and lazy clear keeps dirty. */
  lazyCount: Count,
  /** Totals since the log was created. */
  requests: Count,
  writes: Count,
  bytesWritten: Count,
  legFlushes: Count,
  legFlushFailures: Count,
  /** Marks of regions that lazy clear still kept dirty: none of them cost a write, or a message. */
  lazyHits: Count.default(0),
  /** Of clustered logs only. */
  cluster: ClusterStatus.optional(),
});
export type LogStatus = z.infer<typeof LogStatus>;

/** `name` and the transport's totals (TransportStats of @dmlog/connector), and whatever else a transport has to tell. */
export const TransportStatus = z
  .object({ name: z.string() })
  .catchall(z.union([z.number(), z.string(), z.boolean()]));
export type TransportStatus = z.infer<typeof TransportStatus>;

export const DaemonStatus = z.object({
  version: z.string(),
  pid: z.number().int().min(1),
  uptimeSeconds: z.number().min(0),
  /** Milliseconds in which nobody read requests while this daemon took the place of another one. Absent: it did not. */
  handOverGapMs: z.number().optional(),
  transport: TransportStatus,
  logs: z.array(LogStatus),
});
export type DaemonStatus = z.infer<typeof DaemonStatus>;

/** A daemon that answers the kernel. */
export interface RunningDaemon {
  /** A snapshot; allocates, so not for the hot path. */
  status(): DaemonStatus;
  /** What operators may look at and change. A daemon without it can only be asked for its status. */
  readonly operable?: Operable;
  /** Resolves with the exit code when the daemon has ended, whether it was asked to or not. Never rejects. */
  readonly closed: Promise<number>;
  /** Saves what must be saved, says which logs now wait for the next start, ends. Resolves when it has ended. Safe to call twice. */
  stop(reason: string): Promise<void>;
  /** How its place is given to another process; null where its socket cannot be. */
  readonly handOver: DaemonHandOver | null;
}

/** A daemon's side of a hand-over: see lifecycle/hand-over.ts. */
export interface DaemonHandOver {
  /** The connector socket. */
  readonly descriptor: number;
  /**
   * Stops to read requests, between two of them, and waits until writes to log devices have ended: none begins after that. `owed` where requests were read and are still
   * to be answered; `pausedAtMs`: when it stopped, on the clock of {@link PreviousDaemon}. Null where a device takes too long: then `resume`.
   */
  pause(): Promise<PreviousDaemon | null>;
  /** Serves again. Nothing is lost meanwhile. */
  resume(): void;
  /** For good: resolves when another process may serve the logs. After `pause` only. */
  letGo(): Promise<void>;
  /** What is left to do after {@link letGo}, which nobody waits for: frees all that the logs hold, closes the socket, ends. */
  release(): Promise<void>;
}

/** What a daemon leaves to the one that takes its place. */
export interface PreviousDaemon {
  /** Requests were read and not answered. */
  readonly owed: boolean;
  /** When it stopped to read requests: milliseconds of CLOCK_MONOTONIC, which all processes share. Null: it died before it could say. */
  readonly pausedAtMs: number | null;
}

/** How a daemon begins that takes the place of another one, or finds a socket that the last one left. */
export interface ServeStart {
  /** The socket; null: open one. */
  readonly descriptor: number | null;
  /** The socket cannot be used, and one was opened instead. Absent: then the start fails. */
  readonly onUnusable?: (error: unknown) => void;
  /** Resolves when the logs may be touched. All that can be done before has been done when it is called. */
  readonly takeOver?: () => Promise<PreviousDaemon>;
  /** Called as soon as requests are answered. */
  readonly onServing?: () => void;
}

/**
 * Starts to answer the kernel. Resolves only once requests can be answered; rejects with an error that has a `code` where that
 * cannot be. Does not open the control socket, handle signals or lock anything: `runDaemon` does.
 */
export type Serve = (config: DaemonConfig, logger: Logger, start?: ServeStart) => Promise<RunningDaemon>;
