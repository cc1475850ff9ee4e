import { ClusteredLog } from '@dmlog/cluster';
import {
  batchTransport,
  openTransport,
  type Transport,
  type TransportFault,
  type TransportOptions,
} from '@dmlog/connector';
import { type DirtyLog, DiskLog, type LogRegistry } from '@dmlog/log';
import manifest from '../package.json' with { type: 'json' };
import { type ClusterAccess, type ClusterService, openCluster } from './cluster/access.js';
import { ServedClusteredLog } from './cluster/served-clustered-log.js';
import { clusterStatusOf } from './cluster/status.js';
import type { DaemonConfig } from './config/schema.js';
import { LogConstructor } from './construct.js';
import { LiveSettings } from './control/live-settings.js';
import type { Operable } from './control/operable.js';
import { RequestObserver } from './control/request-observer.js';
import { reason } from './device/errors.js';
import { mirrorName } from './device/sysfs.js';
import { Dispatcher } from './dispatcher.js';
import { ExitCode } from './lifecycle/exit-codes.js';
import type { Logger } from './logging.js';
import type { OpenedStore } from './opened-store.js';
import type { DaemonStatus, LogStatus, RunningDaemon } from './serve-types.js';
import type { Served } from './served.js';
import { askAgain } from './state/ask-again.js';
import { RuntimeState } from './state/runtime-state.js';
import { allocateImage, openStore } from './store.js';

/** How often logs that wait for time to pass are told of it, in milliseconds. The timer runs only while one does. */
export const TICK_MS = 100;

/**
 * How long the start waits for logs to be found again before requests are served. Their requests wait in the socket meanwhile. A log whose device is slower
 * is unknown until then, and the kernel reconnects to it.
 */
export const RESTORE_MS_MAX = 1500;

/** What tests and tools may exchange: faults are injected here, never in the daemon itself. */
export interface ServeParts {
  readonly openTransport?: (options: TransportOptions) => Transport;
  readonly openStore?: (device: string) => Promise<OpenedStore>;
  /** Opens what outlives the process. Null: nothing does, as where the default cannot be had. */
  readonly openState?: (config: DaemonConfig, logger: Logger) => RuntimeState | null;
  /** How the groups of clustered logs are reached. Absent: clustered logs are refused. */
  readonly cluster?: ClusterAccess;
  /** The mirror's device-mapper name by its log's uuid and log device, or null. */
  readonly findName?: (uuid: string, logDeviceNumber: string | null) => Promise<string | null>;
  /** Handed the logs once, before there is any: to look at, not to change. */
  readonly inspect?: (logs: LogRegistry<Served>) => void;
}

/** Starts to answer the kernel; see `Serve`. */
export async function serve(
  config: DaemonConfig,
  logger: Logger,
  parts: ServeParts = {},
): Promise<RunningDaemon> {
  const daemon = new Daemon(config, logger, parts);
  await daemon.start();
  return daemon;
}

/** The runtime state, or null with a loud line: the daemon then serves as it can, and a restart costs a resync. */
export function openRuntimeState(config: DaemonConfig, logger: Logger): RuntimeState | null {
  try {
    return new RuntimeState({ runtimeDir: config.runtimeDir, logger });
  } catch (error) {
    logger.error(
      { err: error, runtimeDir: config.runtimeDir },
      'NO RUNTIME STATE: after a restart of this daemon no region of a core log will be taken to be in sync, and every region of a disk log will be dirty on its device',
    );
    return null;
  }
}

class Daemon implements RunningDaemon {
  readonly closed: Promise<number>;
  readonly operable: Operable;
  readonly #logger: Logger;
  readonly #transport: Transport;
  readonly #dispatcher: Dispatcher;
  readonly #constructs: LogConstructor;
  readonly #state: RuntimeState | null;
  readonly #cluster: ClusterService | null;
  readonly #startedAt = performance.now();
  #ticking: NodeJS.Timeout | null = null;
  #end: (exitCode: number) => void = () => {};
  #stopping: Promise<void> | null = null;

  constructor(config: DaemonConfig, logger: Logger, parts: ServeParts) {
    this.#logger = logger;
    this.closed = new Promise((resolve) => {
      this.#end = resolve;
    });
    const observer = new RequestObserver();
    const settings = new LiveSettings(config.lazyClear, logger);
    this.#transport = observer.observe(this.#openTransport(config, parts));
    const transport = this.#transport;
    this.#state = (parts.openState ?? openRuntimeState)(config, logger);
    this.#dispatcher = new Dispatcher({
      arena: transport.arena,
      send: (bytes, port) => transport.send(bytes, port),
      logger,
      onTickNeeded: () => this.#startTicking(),
      ...(this.#state === null ? {} : { lastSeq: this.#state.lastSeq }),
    });
    this.#cluster =
      parts.cluster === undefined
        ? null
        : openCluster(parts.cluster, {
            config,
            logger,
            allocateImage,
            reply: this.#dispatcher.replyLate,
            send: (bytes, port) => transport.send(bytes, port),
            onTickNeeded: () => this.#startTicking(),
          });
    const allowRegularFile = config.unsafeAcceptUserRequests;
    this.#constructs = new LogConstructor({
      dispatcher: this.#dispatcher,
      send: (bytes, port) => transport.send(bytes, port),
      openStore: parts.openStore ?? ((device) => openStore(device, { allowRegularFile })),
      allocateImage,
      findName: parts.findName ?? mirrorName,
      lazyClear: () => settings.lazyClear,
      cluster: this.#cluster,
      state: this.#state,
      onRestored: () => this.#startTicking(),
      logger,
    });
    this.#dispatcher.constructWith(this.#constructs);
    const { logs, counters } = this.#dispatcher;
    this.operable = { logs, counters, observer, settings, logger };
    parts.inspect?.(this.#dispatcher.logs);
  }

  /** Finds the logs again, then answers. The socket is open before: what the kernel asks meanwhile waits in it instead of failing. */
  async start(): Promise<void> {
    const transport = this.#transport;
    const logger = this.#logger;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, RESTORE_MS_MAX);
    });
    await Promise.race([this.#constructs.restoreAll(), late]);
    clearTimeout(timer);
    transport.start(this.#dispatcher.handle);
    this.#lookAtCluster();
    const { foundSeq } = this.#state ?? { foundSeq: null };
    if (foundSeq !== null) askAgain(foundSeq, (bytes, port) => transport.send(bytes, port));
    logger.info(
      { transport: transport.name, port: transport.port, receiveBufferBytes: transport.receiveBufferBytes },
      'answering the kernel',
    );
  }

  /** Local logs are served without a cluster; whoever started this daemon rather than singled should know that there is none. */
  #lookAtCluster(): void {
    this.#cluster?.check().catch((error: unknown) => {
      this.#logger.error(
        { err: error },
        `NO CLUSTER: only logs of this machine are served until there is one: ${reason(error)}`,
      );
    });
  }

  status(): DaemonStatus {
    const logs = [...this.#dispatcher.logs.entries()].map(([, served]) => statusOf(served));
    return {
      version: manifest.version,
      pid: process.pid,
      uptimeSeconds: (performance.now() - this.#startedAt) / 1000,
      transport: { name: this.#transport.name, ...this.#transport.stats(), ...this.#dispatchTotals() },
      logs,
    };
  }

  stop(reason: string): Promise<void> {
    this.#stopping ??= this.#close(reason, ExitCode.OK);
    return this.#stopping;
  }

  async #close(reason: string, exitCode: number): Promise<void> {
    if (this.#ticking !== null) clearInterval(this.#ticking);
    this.#cluster?.close();
    await this.#transport.close();
    const waiting: string[] = [];
    for (const [name, served] of this.#dispatcher.logs.entries()) {
      waiting.push(name.uuid);
      served.close();
    }
    if (waiting.length > 0) {
      this.#logger.warn(
        { reason, waiting },
        this.#state === null
          ? 'stopped: writes to these mirrors now wait until a daemon answers again'
          : 'stopped: writes to these mirrors now wait until a daemon answers again, and it will find their logs as they are',
      );
    } else {
      this.#logger.info({ reason }, 'stopped: no log was in use');
    }
    this.#end(exitCode);
  }

  #dispatchTotals(): Record<string, number> {
    const { malformed, unknownLogs, silent } = this.#dispatcher.counters;
    return { malformed, unknownLogs, silent };
  }

  #openTransport(config: DaemonConfig, parts: ServeParts): Transport {
    const { pollMicroseconds, receiveBufferBytes, unsafeAcceptUserRequests } = config;
    const options: TransportOptions = {
      receiveBufferBytes,
      acceptUserRequests: unsafeAcceptUserRequests,
      ...(pollMicroseconds === undefined ? {} : { pollMicroseconds }),
      onFault: (fault) => this.#fault(fault),
    };
    if (parts.openTransport !== undefined) return parts.openTransport(options);
    if (config.transport === 'batch') return batchTransport(options);
    return openTransport({
      ...options,
      prefer: config.transport === 'netlink' ? 'netlink' : 'batch',
      onFallback: (reason) => {
        this.#logger.warn(
          { err: reason },
          'the fast transport cannot be used: serving through the netlink package',
        );
      },
    });
  }

  #fault(fault: TransportFault): void {
    const { kind, error } = fault;
    if (kind === 'socket') {
      this.#logger.fatal(
        { err: error },
        'the netlink socket is dead: writes to all mirrors wait until a daemon answers again',
      );
      this.#stopping ??= this.#close('socket failure', ExitCode.UNAVAILABLE);
    } else if (kind === 'overrun') {
      this.#logger.error(
        { err: error },
        'requests were lost: each stalls its mirror for 15 s; raise receiveBufferBytes',
      );
    } else if (kind === 'unguarded') {
      this.#logger.warn({ err: error }, 'an overflow of the receive buffer may end this daemon');
    } else {
      this.#logger.error(
        { err: error, kind },
        'a request was left unanswered: the kernel repeats it after 15 s',
      );
    }
  }

  #startTicking(): void {
    this.#ticking ??= setInterval(() => this.#tick(), TICK_MS);
  }

  #tick(): void {
    const now = performance.now();
    let needed = false;
    for (const [, served] of this.#dispatcher.logs.entries()) {
      if (served.log.needsTick) served.tick(now);
      needed ||= served.log.needsTick;
    }
    if (needed || this.#ticking === null) return;
    clearInterval(this.#ticking);
    this.#ticking = null;
  }
}

function lazyCountOf(log: DirtyLog): number {
  if (log instanceof DiskLog) return log.lazyCount;
  return log instanceof ClusteredLog ? log.replica.lazyCount : 0;
}

function statusOf(served: Served): LogStatus {
  const { log, name, counters } = served;
  const summary = log.summary();
  const hex = (word: number) => word.toString(16).padStart(8, '0');
  return {
    uuid: name.uuid,
    luid: `0x${hex(name.luidHigh)}${hex(name.luidLow)}`,
    dmName: served.dmName,
    type: summary.type,
    state: summary.state,
    targetSectors: log.parameters.targetSectors,
    regionSizeSectors: summary.regionSizeSectors,
    regionCount: summary.regionCount,
    inSyncCount: summary.inSyncCount,
    dirtyCount: summary.dirtyCount,
    lazyCount: lazyCountOf(log),
    recovering: summary.recovering,
    logDevice: served.device,
    deviceStatus: summary.deviceStatus,
    requests: counters.requests,
    writes: counters.writes,
    bytesWritten: counters.bytesWritten,
    legFlushes: counters.legFlushes,
    legFlushFailures: counters.legFlushFailures,
    ...(served instanceof ServedClusteredLog ? { cluster: clusterStatusOf(served.host) } : {}),
  };
}
