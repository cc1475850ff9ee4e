import {
  batchTransport,
  openTransport,
  REPLY_LATER,
  type SocketHandOver,
  type Transport,
  type TransportFault,
  type TransportOptions,
} from '@dmlog/connector';
import type { LogRegistry } from '@dmlog/log';
import { Errno } from '@dmlog/protocol';
import manifest from '../package.json' with { type: 'json' };
import { type ClusterAccess, type ClusterService, openCluster } from './cluster/access.js';
import type { DaemonConfig } from './config/schema.js';
import { LogConstructor, type LogTypes } from './construct.js';
import { LiveSettings } from './control/live-settings.js';
import type { Operable } from './control/operable.js';
import { RequestObserver } from './control/request-observer.js';
import { reason } from './device/errors.js';
import { mirrorName } from './device/sysfs.js';
import { Dispatcher } from './dispatcher.js';
import { poolIsBusy } from './lifecycle/end.js';
import { ExitCode } from './lifecycle/exit-codes.js';
import { type Logger, nameMirrors } from './logging.js';
import type { OpenedStore } from './opened-store.js';
import { statusOf } from './serve-status.js';
import type { DaemonHandOver, DaemonStatus, RunningDaemon, ServeStart } from './serve-types.js';
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

/** How long requests wait at a hand-over for writes to end, before this daemon serves on and tries again later. */
export const PAUSE_MS_MAX = 100;
const PAUSE_POLL_MS = 1;

/** What tests and tools may exchange: faults are injected here, never in the daemon itself. */
export interface ServeParts {
  readonly openTransport?: (options: TransportOptions) => Transport;
  readonly openStore?: (device: string) => Promise<OpenedStore>;
  /** Opens what outlives the process. Null: nothing does, as where the default cannot be had. */
  readonly openState?: (config: DaemonConfig, logger: Logger) => RuntimeState | null;
  /** How the groups of clustered logs are reached. Absent: clustered logs are refused. */
  readonly cluster?: ClusterAccess;
  /** Log types besides `core` and `disk`, by their name in the table line. They live in memory and take the arguments of `core`. */
  readonly logTypes?: LogTypes;
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
  start: ServeStart = { descriptor: null },
): Promise<RunningDaemon> {
  const daemon = new Daemon(config, logger, parts, start);
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

/** One clock for all processes of the machine, in milliseconds (CLOCK_MONOTONIC). */
function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1000n) / 1000;
}

class Daemon implements RunningDaemon {
  readonly closed: Promise<number>;
  readonly operable: Operable;
  readonly handOver: DaemonHandOver | null;
  readonly #start: ServeStart;
  readonly #logger: Logger;
  readonly #transport: Transport;
  readonly #dispatcher: Dispatcher;
  readonly #constructs: LogConstructor;
  readonly #state: RuntimeState | null;
  readonly #cluster: ClusterService | null;
  readonly #startedAt = performance.now();
  #ticking: NodeJS.Timeout | null = null;
  /** Between `pause` and `resume`: nothing is read, nothing begins. */
  #paused = false;
  /** Requests that were read and are not answered yet; some never are (the kernel has repeated them). */
  #owed = 0;
  /** Milliseconds from when the daemon before this one stopped to read until this one did; null: this one succeeded nobody. */
  #gapMs: number | null = null;
  #end: (exitCode: number) => void = () => {};
  #stopping: Promise<void> | null = null;

  constructor(config: DaemonConfig, logger: Logger, parts: ServeParts, start: ServeStart) {
    this.#logger = logger;
    this.#start = start;
    this.closed = new Promise((resolve) => {
      this.#end = resolve;
    });
    const observer = new RequestObserver();
    const settings = new LiveSettings(config.lazyClear, logger);
    this.#transport = observer.observe(this.#openTransport(config, parts));
    const transport = this.#transport;
    this.handOver = this.#openHandOver();
    const sendLate = (bytes: Uint8Array, port: number): void => {
      this.#owed--;
      transport.send(bytes, port);
    };
    this.#state = (parts.openState ?? openRuntimeState)(config, logger);
    this.#dispatcher = new Dispatcher({
      arena: transport.arena,
      send: sendLate,
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
            state: this.#state,
            reply: this.#dispatcher.replyLate,
            again: (seq, port) => {
              // It was not counted when it was left unanswered.
              this.#owed++;
              this.#dispatcher.replyLate(seq, port, Errno.EAGAIN);
            },
            send: sendLate,
            onTickNeeded: () => this.#startTicking(),
          });
    const allowRegularFile = config.unsafeAcceptUserRequests;
    this.#constructs = new LogConstructor({
      dispatcher: this.#dispatcher,
      send: sendLate,
      openStore: parts.openStore ?? ((device) => openStore(device, { allowRegularFile })),
      allocateImage,
      findName: parts.findName ?? mirrorName,
      lazyClear: () => settings.lazyClear,
      cluster: this.#cluster,
      state: this.#state,
      logTypes: parts.logTypes ?? new Map(),
      onRestored: () => this.#startTicking(),
      logger,
    });
    this.#dispatcher.constructWith(this.#constructs);
    const { logs, counters } = this.#dispatcher;
    this.operable = { logs, counters, observer, settings, logger };
    nameMirrors(logger, (uuid) => logs.withUuid(uuid).find(({ dmName }) => dmName !== null)?.dmName ?? null);
    parts.inspect?.(this.#dispatcher.logs);
  }

  /** Finds the logs again, then answers. The socket is open before: what the kernel asks meanwhile waits in it instead of failing. */
  async start(): Promise<void> {
    const transport = this.#transport;
    const logger = this.#logger;
    const { owedAround, pausedAtMs } = await this.#takeOver();
    const mineSince = performance.now();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, RESTORE_MS_MAX);
    });
    await Promise.race([this.#constructs.restoreAll(), late]);
    clearTimeout(timer);
    const foundAt = performance.now();
    const { handle } = this.#dispatcher;
    transport.start((offset, length, port) => {
      const reply = handle(offset, length, port);
      if (reply === REPLY_LATER) this.#owed++;
      return reply;
    });
    this.#start.onServing?.();
    this.#constructs.begun();
    if (pausedAtMs !== null) {
      this.#gapMs = Math.round((monotonicMs() - pausedAtMs) * 10) / 10;
      // Groups are joined at a tick: not one later than necessary.
      this.#tick();
    }
    this.#lookAtCluster();
    if (owedAround !== null) askAgain(owedAround, (bytes, port) => transport.send(bytes, port));
    logger.info(
      {
        transport: transport.name,
        port: transport.port,
        receiveBufferBytes: transport.receiveBufferBytes,
        ...(this.#gapMs === null ? {} : { gapMs: this.#gapMs }),
        // Of the gap, if this one has succeeded another: the part after that one was done.
        foundInMs: Math.round(foundAt - mineSince),
      },
      'answering the kernel',
    );
  }

  /**
   * `owedAround`: the request around which answers may be owed that the process before this one did not give; null where none are. `pausedAtMs`: when that process
   * stopped to read; null where it did not say. All that can be done while it still answers is done before it is asked to stop.
   */
  async #takeOver(): Promise<{ owedAround: number | null; pausedAtMs: number | null }> {
    const { takeOver } = this.#start;
    if (takeOver === undefined) return { owedAround: this.#state?.foundSeq ?? null, pausedAtMs: null };
    try {
      await this.#constructs.prepare();
      await this.#cluster?.prepare();
      const { owed, pausedAtMs } = await takeOver();
      return { owedAround: owed ? (this.#state?.lastSeq[0] ?? null) : null, pausedAtMs };
    } catch (error) {
      await this.#transport.close();
      throw error;
    }
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
      ...(this.#gapMs === null ? {} : { handOverGapMs: this.#gapMs }),
      transport: { name: this.#transport.name, ...this.#transport.stats(), ...this.#dispatchTotals() },
      logs,
    };
  }

  stop(reason: string): Promise<void> {
    this.#stopping ??= this.#close(reason, ExitCode.OK);
    return this.#stopping;
  }

  #openHandOver(): DaemonHandOver | null {
    const socket = this.#transport.handOver;
    if (socket === null) return null;
    return {
      descriptor: socket.descriptor,
      pause: () => this.#pause(socket),
      resume: () => {
        if (this.#stopping !== null) return;
        this.#paused = false;
        for (const [, served] of this.#dispatcher.logs.entries()) served.resume();
        socket.resume();
        this.#startTicking();
      },
      letGo: async () => {
        await this.#cluster?.leave();
      },
      release: () => {
        this.#stopping ??= this.#release();
        return this.#stopping;
      },
    };
  }

  async #pause(socket: SocketHandOver): Promise<{ owed: boolean; pausedAtMs: number } | null> {
    if (this.#stopping !== null) return null;
    this.#paused = true;
    const pausedAtMs = monotonicMs();
    socket.pause();
    this.#stopTicking();
    const until = performance.now() + PAUSE_MS_MAX;
    while (this.#owed > 0 || this.#writing()) {
      if (performance.now() >= until) break;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_POLL_MS));
    }
    // A write of this process must not reach the device after one of the next. An answer may be missing: the kernel is asked to repeat its request.
    // So is one that waits for a device: a log that is being made here would be made there, too.
    const busy = this.#writing() || (this.#owed > 0 && poolIsBusy());
    if (busy || this.#stopping !== null) return null;
    let owed = this.#owed !== 0;
    for (const [, served] of this.#dispatcher.logs.entries()) {
      // From this moment on nothing is written here, whatever flush of the legs ends and whatever a group says.
      served.pause();
      owed ||= served.owes === true;
    }
    return { owed, pausedAtMs };
  }

  #writing(): boolean {
    for (const [, served] of this.#dispatcher.logs.entries()) {
      if (served.writing ?? poolIsBusy()) return true;
    }
    return false;
  }

  async #release(): Promise<void> {
    this.#cluster?.close();
    for (const [, served] of this.#dispatcher.logs.entries()) served.close();
    await this.#transport.close();
    this.#end(ExitCode.OK);
  }

  async #close(reason: string, exitCode: number): Promise<void> {
    this.#stopTicking();
    this.#cluster?.close();
    await this.#transport.close();
    const waiting: string[] = [];
    const mirrors: string[] = [];
    for (const [name, served] of this.#dispatcher.logs.entries()) {
      waiting.push(name.uuid);
      if (served.dmName !== null) mirrors.push(served.dmName);
      served.close();
    }
    if (waiting.length > 0) {
      this.#logger.warn(
        { reason, waiting, mirrors },
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
    const { descriptor, onUnusable } = this.#start;
    const options: TransportOptions = {
      ...(descriptor === null ? {} : { descriptor }),
      receiveBufferBytes,
      acceptUserRequests: unsafeAcceptUserRequests,
      ...(pollMicroseconds === undefined ? {} : { pollMicroseconds }),
      onFault: (fault) => this.#fault(fault),
    };
    if (parts.openTransport !== undefined) return parts.openTransport(options);
    if (descriptor === null || onUnusable === undefined) return this.#openChosen(config, options);
    try {
      return this.#openChosen(config, options);
    } catch (error) {
      onUnusable(error);
      const { descriptor: _unusable, ...rest } = options;
      return this.#openChosen(config, rest);
    }
  }

  #openChosen(config: DaemonConfig, options: TransportOptions): Transport {
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
      this.#logger.warn(
        { err: error },
        'an overflow of the receive buffer may end this daemon: raise receiveBufferBytes',
      );
    } else {
      this.#logger.error(
        { err: error, kind },
        'a request was left unanswered: the kernel repeats it after 15 s',
      );
    }
  }

  #startTicking(): void {
    if (!this.#paused) this.#ticking ??= setInterval(() => this.#tick(), TICK_MS);
  }

  #stopTicking(): void {
    if (this.#ticking !== null) clearInterval(this.#ticking);
    this.#ticking = null;
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
