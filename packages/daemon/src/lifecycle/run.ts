import type { DaemonConfig } from '../config/schema.js';
import { operatorMethods } from '../control/methods.js';
import { type ControlMethod, ControlServer } from '../control/server.js';
import { reason } from '../device/errors.js';
import { serveHttp } from '../http/index.js';
import type { Logger } from '../logging.js';
import { addMemoryMetrics, observePauses } from '../memory-metrics.js';
import { daemonMetrics } from '../metrics.js';
import type { RunningDaemon, Serve, ServeStart } from '../serve-types.js';
import { type BugSource, watchForBugs } from './bugs.js';
import { ExitCode, exitCodeOf } from './exit-codes.js';
import { handOverSwitch } from './hand-over-switch.js';
import type { InstanceLockOptions } from './instance-lock.js';
import { Place } from './place.js';
import { inheritedPredecessor, type Predecessor } from './predecessor.js';
import { preflight } from './preflight.js';
import { watchForRivals } from './rivals.js';
import { ensureRuntimeDir } from './runtime-dir.js';
import { openServiceManager, type ServiceManager } from './service-manager.js';
import { onStopSignals, type SignalSource } from './signals.js';

export interface RunOptions {
  readonly config: DaemonConfig;
  readonly logger: Logger;
  /** Starts to answer the kernel. */
  readonly serve: Serve;
  /** Called at a second stop signal; must end the process. */
  readonly endNow: (exitCode: number) => void;
  /** Default `process`. */
  readonly signals?: SignalSource;
  /** Where exceptions that nobody caught are heard of: `process`. Default: nobody listens, as in a program that does so itself. */
  readonly bugs?: BugSource;
  /** Looks whether the kernel will listen, throws or returns warnings. Default `preflight`. */
  readonly preflight?: () => string[];
  /** Default: the host's one lock. Tests take one of their own. */
  readonly lock?: InstanceLockOptions;
  /** The daemon whose place is taken. Default: the one that started this process for that, if one did. */
  readonly predecessor?: Predecessor | null;
  /** Called once requests are answered and the control socket is there: what may take a moment and need not be done before. */
  readonly onServing?: () => void;
  /** Default: the one that started this process, if one did. */
  readonly serviceManager?: ServiceManager;
}

/**
 * Runs a daemon in the foreground until it ends, and resolves with its exit code. Never rejects.
 *
 * Order: preflight, lock, runtime directory, a look at the control socket, serve, control socket. So the socket exists only once the daemon
 * can answer: who waits for it waits for the right thing. A successor serves before it takes lock and control socket: requests wait meanwhile, those do not.
 */
export async function runDaemon(options: RunOptions): Promise<number> {
  const { config, logger } = options;
  const stopping = stopSwitch(options);
  const bugs = watchForBugs(options.bugs ?? null, logger, options.endNow);
  const cleanUps: (() => void | Promise<void>)[] = [stopping.dispose, bugs.dispose];
  try {
    const manager = options.serviceManager ?? openServiceManager(logger);
    const predecessor = options.predecessor === undefined ? inheritedPredecessor() : options.predecessor;
    for (const warning of (options.preflight ?? preflight)()) logger.warn(warning);
    const methods: Record<string, ControlMethod> = {};
    const control = new ControlServer({ path: config.controlSocket, logger, methods });
    const place = new Place(options.lock ?? {}, control);
    cleanUps.push(() => place.release());
    if (predecessor === null) await place.take();
    await useRuntimeDir(options);
    if (predecessor === null) await place.checkControl();
    if (config.unsafeAcceptUserRequests) {
      logger.warn(
        'UNSAFE: requests of any local process are served (--unsafe-accept-user-requests); use it in tests only',
      );
    }
    const running = await options.serve(config, logger, startOf(predecessor, manager, logger));
    bugs.arm(running);
    const metrics = daemonMetrics(() => running.status(), running.operable ?? null);
    const pauses = observePauses();
    cleanUps.push(() => pauses.close());
    addMemoryMetrics(metrics, pauses);
    Object.assign(methods, { status: () => running.status(), metrics: () => metrics.text() });
    if (running.operable !== undefined) {
      Object.assign(
        methods,
        operatorMethods(running.operable, () => running.status()),
      );
    }
    await openControl(running, async () => {
      if (predecessor !== null) {
        await place.takeFromDying();
        await place.checkControl();
      }
      await control.listen();
    });
    options.onServing?.();
    await manager.ready(running.handOver?.descriptor ?? null);
    const closeHttp = await serveHttp(running, () => metrics.text(), config.http, logger);
    cleanUps.push(closeHttp);
    const { transport } = running.status();
    logger.info({ pid: process.pid, controlSocket: config.controlSocket, transport }, 'serving dirty logs');
    const handingOver = handOverSwitch(running, { logger, manager, place, signals: options.signals });
    cleanUps.push(handingOver.dispose, watchForRivals(logger));
    stopping.arm(running, manager);
    const exitCode = bugs.exitCode(await running.closed);
    await handingOver.settled();
    // Whoever comes next must not go on with a socket that is dead.
    if (exitCode === ExitCode.UNAVAILABLE) await manager.forgetDescriptor();
    return exitCode;
  } catch (error) {
    const exitCode = exitCodeOf(error);
    logger.fatal({ err: error, exitCode }, `cannot go on: ${reason(error)}`);
    return exitCode;
  } finally {
    for (const cleanUp of cleanUps.reverse()) await cleanUp();
  }
}

async function useRuntimeDir({ config, logger }: RunOptions): Promise<void> {
  const directory = await ensureRuntimeDir(config.runtimeDir);
  if (directory.inMemory) return;
  logger.warn(
    { runtimeDir: directory.path },
    'the runtime directory is not on a tmpfs: saving state may wait for a disk, and mirrors with it; mount a tmpfs there, or choose another (--runtime-dir)',
  );
}

/** Where the socket comes from, and when the logs are this process's. */
function startOf(predecessor: Predecessor | null, manager: ServiceManager, logger: Logger): ServeStart {
  if (predecessor !== null) {
    return {
      descriptor: predecessor.descriptor,
      takeOver: () => predecessor.takeOver(),
      onServing: () => predecessor.serving(),
    };
  }
  return {
    descriptor: manager.storedDescriptor,
    onUnusable: (error) => {
      logger.error(
        { err: error },
        'the socket that the service manager has kept cannot be used: another is opened, and requests that wait in it are repeated by the kernel after 15 s',
      );
      void manager.forgetDescriptor();
    },
  };
}

/** A daemon that serves but cannot be asked is not left behind. */
async function openControl(daemon: RunningDaemon, open: () => Promise<void>): Promise<void> {
  try {
    await open();
  } catch (error) {
    await daemon.stop('no control socket');
    throw error;
  }
}

interface StopSwitch {
  /** From now on a stop signal stops `daemon`; one that came earlier stops it now. */
  arm(daemon: RunningDaemon, manager: ServiceManager): void;
  dispose(): void;
}

/** Listens from the very start: a signal during the start must not kill a daemon that has just begun to answer. */
function stopSwitch({ logger, endNow, signals }: RunOptions): StopSwitch {
  let asked: string | null = null;
  let armed: readonly [RunningDaemon, ServiceManager] | null = null;
  const stop = (): void => {
    if (asked === null || armed === null) return;
    const [daemon, manager] = armed;
    void manager.stopping(`stopping (${asked})`);
    daemon.stop(asked).catch((error: unknown) => {
      logger.fatal({ err: error }, 'stopping failed');
      endNow(ExitCode.INTERNAL);
    });
  };
  const dispose = onStopSignals(
    (signal) => {
      asked = signal;
      logger.info({ signal }, 'stopping; a second signal ends the daemon at once');
      stop();
    },
    (exitCode, signal) => {
      const waiting = armed?.[0].status().logs.map(({ uuid }) => uuid) ?? [];
      logger.warn(
        { signal, exitCode, waiting },
        'ending at once: writes to these mirrors now wait until a daemon answers again',
      );
      endNow(exitCode);
    },
    signals,
  );
  return {
    dispose,
    arm: (running, manager) => {
      armed = [running, manager];
      stop();
    },
  };
}
