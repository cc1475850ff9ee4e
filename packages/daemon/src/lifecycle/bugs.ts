import type { Logger } from '../logging.js';
import type { RunningDaemon } from '../serve-types.js';
import { ExitCode } from './exit-codes.js';

/** How long an orderly end may take after an exception that nobody caught. */
const END_MS_MAX = 1000;

/** What is needed of `process`; tests give an emitter. Rejections that nobody handles come as exceptions, too. */
export interface BugSource {
  on(event: 'uncaughtException', listener: (error: unknown) => void): unknown;
  off(event: 'uncaughtException', listener: (error: unknown) => void): unknown;
}

export interface BugWatch {
  /** From now on a bug stops `daemon`, which says which logs then wait. */
  arm(daemon: RunningDaemon): void;
  /** The exit code of a daemon that ended with `exitCode`: that of a bug, where one ended it. */
  exitCode(exitCode: number): number;
  dispose(): void;
}

/**
 * An exception that nobody caught ends the daemon, with its own exit code and a last line. Nothing is answered after it: what answers may be wrong by now, while the state in the
 * runtime directory can be checked by the next process. Without this Node would print a stack and end with status 1, and nobody would know what waits.
 */
export function watchForBugs(
  source: BugSource | null,
  logger: Logger,
  endNow: (exitCode: number) => void,
): BugWatch {
  let daemon: RunningDaemon | null = null;
  let seen = false;
  const onBug = (error: unknown): void => {
    logger.fatal({ err: error }, 'a bug of this daemon: it ends; please report this line');
    if (seen) return;
    seen = true;
    if (daemon === null) {
      endNow(ExitCode.INTERNAL);
      return;
    }
    setTimeout(() => endNow(ExitCode.INTERNAL), END_MS_MAX).unref();
    daemon.stop('a bug').catch(() => endNow(ExitCode.INTERNAL));
  };
  source?.on('uncaughtException', onBug);
  return {
    arm: (running) => {
      daemon = running;
    },
    exitCode: (exitCode) => (seen ? ExitCode.INTERNAL : exitCode),
    dispose: () => {
      source?.off('uncaughtException', onBug);
    },
  };
}
