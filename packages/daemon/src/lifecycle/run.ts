import type { DaemonConfig } from '../config/schema.js';
import { operatorMethods } from '../control/methods.js';
import { type ControlMethod, ControlServer } from '../control/server.js';
import { reason } from '../device/errors.js';
import type { Logger } from '../logging.js';
import { daemonMetrics } from '../metrics.js';
import type { RunningDaemon, Serve } from '../serve-types.js';
import { ExitCode, exitCodeOf } from './exit-codes.js';
import { acquireInstanceLock, INSTANCE_LOCK_NAME } from './instance-lock.js';
import { preflight } from './preflight.js';
import { ensureRuntimeDir } from './runtime-dir.js';
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
  /** Looks whether the kernel will listen, throws or returns warnings. Default `preflight`. */
  readonly preflight?: () => string[];
  /** Default {@link INSTANCE_LOCK_NAME}. Tests take one of their own. */
  readonly lockName?: string;
}

/**
 * Runs a daemon in the foreground until it ends, and resolves with its exit code. Never rejects.
 *
 * Order: preflight, lock, runtime directory, a look at the control socket, serve, control socket. So the socket exists only once the daemon
 * can answer: who waits for it waits for the right thing.
 */
export async function runDaemon(options: RunOptions): Promise<number> {
  const { config, logger } = options;
  const stopping = stopSwitch(options);
  const cleanUps: (() => void | Promise<void>)[] = [stopping.dispose];
  try {
    for (const warning of (options.preflight ?? preflight)()) logger.warn(warning);
    const lock = await acquireInstanceLock(options.lockName ?? INSTANCE_LOCK_NAME);
    cleanUps.push(() => lock.release());
    const directory = await ensureRuntimeDir(config.runtimeDir);
    if (!directory.inMemory) {
      logger.warn(
        { runtimeDir: directory.path },
        'the runtime directory is not on a tmpfs: saving state may wait for a disk',
      );
    }
    const methods: Record<string, ControlMethod> = {};
    const control = new ControlServer({ path: config.controlSocket, logger, methods });
    await control.check();
    if (config.unsafeAcceptUserRequests) {
      logger.warn(
        'UNSAFE: requests of any local process are served (--unsafe-accept-user-requests); use it in tests only',
      );
    }
    const running = await options.serve(config, logger);
    const metrics = daemonMetrics(() => running.status());
    Object.assign(methods, { status: () => running.status(), metrics: () => metrics.text() });
    if (running.operable !== undefined) {
      Object.assign(
        methods,
        operatorMethods(running.operable, () => running.status()),
      );
    }
    await openControl(control, running);
    cleanUps.push(() => control.close());
    const { transport } = running.status();
    logger.info({ pid: process.pid, controlSocket: config.controlSocket, transport }, 'serving dirty logs');
    stopping.arm(running);
    return await running.closed;
  } catch (error) {
    const exitCode = exitCodeOf(error);
    logger.fatal({ err: error, exitCode }, `cannot go on: ${reason(error)}`);
    return exitCode;
  } finally {
    for (const cleanUp of cleanUps.reverse()) await cleanUp();
  }
}

/** A daemon that serves but cannot be asked is not left behind. */
async function openControl(control: ControlServer, daemon: RunningDaemon): Promise<void> {
  try {
    await control.listen();
  } catch (error) {
    await daemon.stop('no control socket');
    throw error;
  }
}

interface StopSwitch {
  /** From now on a stop signal stops `daemon`; one that came earlier stops it now. */
  arm(daemon: RunningDaemon): void;
  dispose(): void;
}

/** Listens from the very start: a signal during the start must not kill a daemon that has just begun to answer. */
function stopSwitch({ logger, endNow, signals }: RunOptions): StopSwitch {
  let asked: string | null = null;
  let daemon: RunningDaemon | null = null;
  const stop = (): void => {
    if (asked === null || daemon === null) return;
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
      logger.warn({ signal, exitCode }, 'ending at once');
      endNow(exitCode);
    },
    signals,
  );
  return {
    dispose,
    arm: (running) => {
      daemon = running;
      stop();
    },
  };
}
