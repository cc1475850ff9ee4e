import { performance } from 'node:perf_hooks';
import { Counter, Gauge, type Metric, Registry } from 'prom-client';
import { LATENCY_BOUNDS_SECONDS } from './control/latency.js';
import { requestTotals } from './control/methods.js';
import type { Operable } from './control/operable.js';
import { SECTOR_BYTES } from './device/sysfs.js';
import type { ClusterStatus, DaemonStatus, LogStatus } from './serve-types.js';

/** One value of a metric with labels. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Reads plain counters; called once per scrape, never per request. */
export type ReadValue = () => number;
export type ReadSamples = () => readonly Sample[];

/**
 * Prometheus metrics, kept off the hot path: the daemon counts in plain numbers, and they are read only when somebody asks.
 *
 * prom-client's default metrics are left out: they start an event loop monitor and a garbage collection observer, which wake the
 * process for nothing while it serves requests in microseconds.
 */
export class Metrics {
  readonly #registry = new Registry();

  /** A total that only grows. `name` ends in `_total`. */
  counter(name: string, help: string, read: ReadValue): void {
    new Counter({
      name,
      help,
      registers: [this.#registry],
      collect() {
        // The registry's counter is a copy of ours: set it by reset and add, as a prom-client counter knows no "set".
        this.reset();
        this.inc(read());
      },
    });
  }

  /** A value that goes up and down. */
  gauge(name: string, help: string, read: ReadValue): void {
    new Gauge({
      name,
      help,
      registers: [this.#registry],
      collect() {
        this.set(read());
      },
    });
  }

  /** A gauge with labels. Labels that are gone at the next scrape (a destroyed log) are gone from the text. */
  labelledGauge(name: string, help: string, labelNames: readonly string[], read: ReadSamples): void {
    new Gauge({
      name,
      help,
      labelNames: [...labelNames],
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const sample of read()) this.set(sample.labels, sample.value);
      },
    });
  }

  /** Totals with labels, see `labelledGauge`. */
  labelledCounter(name: string, help: string, labelNames: readonly string[], read: ReadSamples): void {
    new Counter({
      name,
      help,
      labelNames: [...labelNames],
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const sample of read()) this.inc(sample.labels, sample.value);
      },
    });
  }

  /**
   * A histogram that was counted elsewhere, in arrays: prom-client's own has to be told of each observation. `read` gives for each set of labels the counts of the buckets
   * (the last one has no bound) and the sum of what was observed.
   */
  histogram(
    name: string,
    help: string,
    bounds: readonly number[],
    read: () => readonly { labels: Sample['labels']; buckets: readonly number[]; sum: number }[],
  ): void {
    const get = async () => ({
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      values: read().flatMap(({ labels, buckets, sum }) =>
        histogramSamples(name, bounds, labels, buckets, sum),
      ),
    });
    // What the registry asks of a metric is its name and `get` (prom-client/lib/registry.js).
    this.#registry.registerMetric({
      name,
      help,
      type: 'histogram',
      get,
      reset: () => {},
    } as unknown as Metric);
  }

  /** The Prometheus text exposition format, version 0.0.4. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }
}

function histogramSamples(
  name: string,
  bounds: readonly number[],
  labels: Sample['labels'],
  buckets: readonly number[],
  sum: number,
): object[] {
  let total = 0;
  const samples: object[] = buckets.map((count, i) => {
    total += count;
    return {
      metricName: `${name}_bucket`,
      labels: { ...labels, le: String(bounds[i] ?? '+Inf') },
      value: total,
    };
  });
  return [
    ...samples,
    { metricName: `${name}_sum`, labels, value: sum },
    { metricName: `${name}_count`, labels, value: total },
  ];
}

const LOG_LABELS = ['uuid', 'luid', 'name', 'type'] as const;

/** What is known of a running daemon: from its status transport totals, logs, memory; from `operable`, where it has that, requests by type and how long they took. */
export function daemonMetrics(status: () => DaemonStatus, operable: Operable | null = null): Metrics {
  const metrics = new Metrics();
  // One snapshot serves all metrics of a scrape: the first one to be collected takes it, and it is dropped when the scrape has ended.
  let snapshot: DaemonStatus | null = null;
  const take = (): DaemonStatus => {
    if (snapshot === null) {
      snapshot = status();
      setImmediate(() => {
        snapshot = null;
      });
    }
    return snapshot;
  };
  metrics.labelledGauge(
    'dmlog_build_info',
    'Always 1; the labels tell version and transport.',
    ['version', 'transport'],
    () => [{ labels: { version: take().version, transport: take().transport.name }, value: 1 }],
  );
  metrics.gauge(
    'dmlog_uptime_seconds',
    'Seconds since the daemon began to serve.',
    () => take().uptimeSeconds,
  );
  metrics.gauge(
    'dmlog_hand_over_gap_seconds',
    'Seconds in which nobody read requests while this daemon took the place of another one; 0 where it did not.',
    () => (take().handOverGapMs ?? 0) / 1000,
  );
  metrics.gauge('dmlog_resident_memory_bytes', 'Resident memory of the daemon.', () =>
    process.memoryUsage.rss(),
  );
  processMetrics(metrics);
  if (operable !== null) requestMetrics(metrics, operable);
  for (const [field, name, help, factor] of TRANSPORT_TOTALS) {
    metrics.counter(name, help, () => number(take().transport[field]) * factor);
  }
  metrics.gauge('dmlog_logs', 'Dirty logs that are known, live or inactive.', () => take().logs.length);
  const ofLogs = (read: (log: LogStatus) => number) => (): readonly Sample[] =>
    take().logs.map((log) => ({
      labels: { uuid: log.uuid, luid: log.luid, name: log.dmName ?? '', type: log.type },
      value: read(log),
    }));
  for (const [name, help, read] of LOG_GAUGES) metrics.labelledGauge(name, help, LOG_LABELS, ofLogs(read));
  const ofClusters = (read: (cluster: ClusterStatus) => number) => (): readonly Sample[] =>
    take().logs.flatMap(({ uuid, luid, dmName, type, cluster }) =>
      cluster === undefined
        ? []
        : [{ labels: { uuid, luid, name: dmName ?? '', type }, value: read(cluster) }],
    );
  for (const [name, help, read] of CLUSTER_GAUGES)
    metrics.labelledGauge(name, help, LOG_LABELS, ofClusters(read));
  for (const [name, help, read] of LOG_TOTALS) metrics.labelledCounter(name, help, LOG_LABELS, ofLogs(read));
  clusterDetails(metrics, take);
  return metrics;
}

function processMetrics(metrics: Metrics): void {
  metrics.gauge('dmlog_heap_used_bytes', 'JavaScript heap in use.', () => process.memoryUsage().heapUsed);
  metrics.gauge(
    'dmlog_external_memory_bytes',
    'Memory of images and bitmaps outside of the heap.',
    () => process.memoryUsage().external,
  );
  // Kept by libuv anyway: no timer of ours.
  metrics.labelledCounter(
    'dmlog_event_loop_seconds_total',
    'Time that the event loop was active, and idle (waiting for events).',
    ['state'],
    () => {
      const { active, idle } = performance.eventLoopUtilization();
      return [
        { labels: { state: 'active' }, value: active / 1000 },
        { labels: { state: 'idle' }, value: idle / 1000 },
      ];
    },
  );
}

function requestMetrics(metrics: Metrics, operable: Operable): void {
  metrics.labelledCounter(
    'dmlog_requests_total',
    'Requests by type and by what they were answered: ok, or an error (an unknown log is one).',
    ['type', 'result'],
    () =>
      requestTotals(operable).flatMap(({ type, requests, errors }) => [
        { labels: { type, result: 'ok' }, value: requests - errors },
        { labels: { type, result: 'error' }, value: errors },
      ]),
  );
  metrics.histogram(
    'dmlog_request_seconds',
    'From the request to its answer, inside the daemon: of all answers that waited for I/O or the cluster, and of a sample of the others.',
    LATENCY_BOUNDS_SECONDS,
    () =>
      requestTotals(operable).map(({ type, buckets, timedSeconds }) => ({
        labels: { type },
        buckets,
        sum: timedSeconds,
      })),
  );
  const { counters } = operable;
  metrics.counter('dmlog_malformed_total', 'Frames that were refused.', () => counters.malformed);
  metrics.counter(
    'dmlog_unknown_logs_total',
    'Requests of logs that were not known: the kernel reconnects to each.',
    () => counters.unknownLogs,
  );
  metrics.counter(
    'dmlog_repeated_requests_total',
    'Requests that the kernel repeated because they were not answered within its 15 s.',
    () => operable.observer.repeated,
  );
  metrics.counter(
    'dmlog_silent_total',
    'Requests left unanswered because no answer would be true: the kernel repeats them after 15 s.',
    () => counters.silent,
  );
}

/** Of each clustered log: its nodes, and what the group's messages were. */
function clusterDetails(metrics: Metrics, take: () => DaemonStatus): void {
  const clustered = () =>
    take().logs.flatMap((log) => (log.cluster === undefined ? [] : [{ log, cluster: log.cluster }]));
  metrics.labelledGauge(
    'dmlog_cluster_member_marks',
    'Regions that the kernel of a node may be writing.',
    ['uuid', 'node', 'presence'],
    () =>
      clustered().flatMap(({ log, cluster }) =>
        cluster.members.map(({ nodeId, presence, marks }) => ({
          labels: { uuid: log.uuid, node: String(nodeId), presence },
          value: marks,
        })),
      ),
  );
  metrics.labelledCounter(
    'dmlog_cluster_events_total',
    'What the group did, by kind: messages sent and applied, joins, transfers, and what was refused.',
    ['uuid', 'kind'],
    () =>
      clustered().flatMap(({ log, cluster }) =>
        Object.entries(cluster.counters).map(([kind, value]) => ({
          labels: { uuid: log.uuid, kind },
          value,
        })),
      ),
  );
}

type TransportTotal = readonly [field: string, name: string, help: string, factor: number];
const TRANSPORT_TOTALS: readonly TransportTotal[] = [
  ['received', 'dmlog_transport_received_total', 'Requests handed to the daemon.', 1],
  ['sent', 'dmlog_transport_sent_total', 'Replies accepted by the socket.', 1],
  [
    'sendFailures',
    'dmlog_transport_send_failures_total',
    'Replies refused by the socket: the kernel repeats after 15 s.',
    1,
  ],
  ['foreign', 'dmlog_transport_foreign_total', 'Datagrams dropped because the kernel did not send them.', 1],
  ['oversized', 'dmlog_transport_oversized_total', 'Datagrams unusable before decoding.', 1],
  [
    'overruns',
    'dmlog_transport_overruns_total',
    'Receive buffer overruns: each is a lost request and a stall of 15 s.',
    1,
  ],
  ['handlerFaults', 'dmlog_transport_handler_faults_total', 'Requests dropped by a bug of the daemon.', 1],
  ['batches', 'dmlog_transport_batches_total', 'Wake-ups of the daemon for requests.', 1],
  ['pollIdleNs', 'dmlog_transport_poll_idle_seconds_total', 'Time spent polling in vain.', 1e-9],
  ['pollHits', 'dmlog_transport_poll_hits_total', 'Requests found by polling.', 1],
];

type LogMetric = readonly [name: string, help: string, read: (log: LogStatus) => number];
const LOG_GAUGES: readonly LogMetric[] = [
  ['dmlog_log_regions', 'Regions of the log.', (log) => log.regionCount],
  ['dmlog_log_in_sync_regions', 'Regions in which all legs agree.', (log) => log.inSyncCount],
  [
    'dmlog_log_dirty_regions',
    'Regions that are not clean: a crash now has them resynced.',
    (log) => log.dirtyCount,
  ],
  [
    'dmlog_log_recovering',
    '1 while a region is being recovered.',
    (log) => (log.recovering === null ? 0 : 1),
  ],
  [
    'dmlog_log_lazy_regions',
    'Regions that the kernel has cleared and lazy clear keeps dirty: a mark of one of them costs no write.',
    (log) => log.lazyCount,
  ],
  ['dmlog_log_size_bytes', 'Size of the mirror.', (log) => log.targetSectors * SECTOR_BYTES],
  [
    'dmlog_log_healthy',
    '0 where the log device failed (status letter D or F).',
    (log) => (log.deviceStatus === 'D' || log.deviceStatus === 'F' ? 0 : 1),
  ],
];

type ClusterMetric = readonly [name: string, help: string, read: (cluster: ClusterStatus) => number];
const CLUSTER_GAUGES: readonly ClusterMetric[] = [
  [
    'dmlog_cluster_operational',
    '0 where changes of a clustered log cannot be answered: no quorum, no group, or not caught up.',
    (cluster) => (cluster.quorate && cluster.phase === 'active' ? 1 : 0),
  ],
  [
    'dmlog_cluster_quorate',
    '1 while this node is in a ring with quorum.',
    (cluster) => (cluster.quorate ? 1 : 0),
  ],
  [
    'dmlog_cluster_position',
    'Ordered messages applied since the log was founded.',
    (cluster) => cluster.position,
  ],
  [
    'dmlog_cluster_uncommitted_messages',
    'Ordered messages that would not survive the end of this node.',
    (cluster) => (cluster.committed === null ? 0 : Math.max(0, cluster.position - cluster.committed)),
  ],
  [
    'dmlog_cluster_nodes_live',
    'Nodes on which the mirror is live.',
    (cluster) => cluster.members.filter(({ presence }) => presence === 'live').length,
  ],
  [
    'dmlog_cluster_regions_in_doubt',
    'Regions that a dead node was writing, or that could not be recovered: resynced after a reload of all tables.',
    (cluster) => cluster.staleCount + cluster.givenUpCount,
  ],
  [
    'dmlog_cluster_nodes_to_reload',
    'Nodes whose tables have to be reloaded before that.',
    (cluster) => cluster.needReload.length,
  ],
  [
    'dmlog_cluster_join_seconds',
    'From asking to be let into the group to taking part, the state brought by a checkpoint; of the last time.',
    (cluster) => cluster.joinSeconds ?? 0,
  ],
  [
    'dmlog_cluster_checkpoint_seconds',
    'From the announcement of a checkpoint of the state for this node to its taking it over; of the last one, 0 before.',
    (cluster) => cluster.snapshotSeconds ?? 0,
  ],
  [
    'dmlog_cluster_waiting_messages',
    'Messages that the group has not taken yet: a slow member.',
    (cluster) => cluster.waitingMessages,
  ],
];

const LOG_TOTALS: readonly LogMetric[] = [
  ['dmlog_log_requests_total', 'Requests of the kernel for the log.', (log) => log.requests],
  ['dmlog_log_writes_total', 'Writes to the log device.', (log) => log.writes],
  ['dmlog_log_written_bytes_total', 'Bytes written to the log device.', (log) => log.bytesWritten],
  [
    'dmlog_log_lazy_hits_total',
    'Marks of regions that lazy clear still kept dirty: none of them cost a write, or a message.',
    (log) => log.lazyHits,
  ],
  ['dmlog_log_leg_flushes_total', 'Flushes of the legs before clears.', (log) => log.legFlushes],
  [
    'dmlog_log_leg_flush_failures_total',
    'Flushes that failed: clears were held back.',
    (log) => log.legFlushFailures,
  ],
];

function number(value: unknown): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : 0;
}
