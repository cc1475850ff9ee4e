import type { Logger } from '../logging.js';
import type { RunningDaemon } from '../serve-types.js';
import type { Place } from './place.js';
import type { ServiceManager } from './service-manager.js';
import { HAND_OVER_SIGNAL, type SignalSource } from './signals.js';
import { giveWayToSuccessor } from './successor.js';

export interface HandOverSwitch {
  /** Resolves when a hand-over that is under way has ended, in one way or the other. To be awaited once the daemon is closed. */
  settled(): Promise<void>;
  dispose(): void;
}

/** Gives way to another process at SIGHUP. One at a time: a signal that comes during a hand-over is told to the next daemon by nobody, and says nothing new. */
export function handOverSwitch(
  daemon: RunningDaemon,
  parts: { logger: Logger; manager: ServiceManager; place: Place; signals: SignalSource | undefined },
): HandOverSwitch {
  const { logger, manager, place, signals = process } = parts;
  const stop = new AbortController();
  let underWay: Promise<unknown> | null = null;
  const release = async (pid: number): Promise<void> => {
    await daemon.handOver?.release();
    // Before the next daemon can say anything to the manager, which hears the main process only.
    await manager.handedTo(pid);
    await place.release();
  };
  const onSignal = (): void => {
    const { handOver } = daemon;
    if (handOver === null) {
      logger.error(
        'SIGHUP: this transport cannot hand its socket over; restart the daemon instead (a pause of about a second; no log is lost)',
      );
      return;
    }
    if (underWay !== null) return;
    logger.info('SIGHUP: starting the next daemon, which takes the place of this one');
    underWay = giveWayToSuccessor({ handOver, logger, release, signal: stop.signal }).finally(() => {
      underWay = null;
    });
  };
  signals.on(HAND_OVER_SIGNAL, onSignal);
  return {
    settled: async () => {
      stop.abort();
      await underWay;
    },
    dispose: () => {
      signals.off(HAND_OVER_SIGNAL, onSignal);
    },
  };
}
