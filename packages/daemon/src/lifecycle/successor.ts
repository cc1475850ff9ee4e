import { type ChildProcess, spawn } from 'node:child_process';
import type { Logger } from '../logging.js';
import type { DaemonHandOver } from '../serve-types.js';
import { HandOverTalk, SUCCESSOR_DESCRIPTOR, SUCCESSOR_VARIABLE } from './hand-over.js';

/** How long the next daemon may take until it is ready. Nobody waits for it: this one serves meanwhile. */
export const SUCCESSOR_START_MS_MAX = 60_000;
/** How long it may take to say that it goes on. Requests wait meanwhile. */
export const SUCCESSOR_TAKES_MS_MAX = 150;
/** How long this one waits with its own end until the next one answers: both would need the processor. */
export const SUCCESSOR_SERVES_MS_MAX = 2000;
/** How often this daemon tries to pause and offers its place, how many offers may be answered too late, and how long it serves in between. */
export const OFFERS_MAX = 30;
export const LATE_OFFERS_MAX = 8;
const OFFER_AGAIN_MS = 200;

export interface SuccessorOptions {
  readonly handOver: DaemonHandOver;
  readonly logger: Logger;
  /** Frees everything else that the next daemon needs, while that one serves: control socket, lock. */
  readonly release: (pid: number) => Promise<void>;
  /** Default: `startSuccessor`. */
  readonly start?: (descriptor: number) => ChildProcess;
  readonly startMsMax?: number;
  /** Aborted when this daemon ends by itself: the next one must not be left behind, unless it has the place already. */
  readonly signal?: AbortSignal;
}

/**
 * Starts the next daemon and gives it this one's place. Resolves with true when that is done and this process has nothing left to do; with false, and a log
 * line that says why, when this one goes on to serve. Never rejects.
 */
export async function giveWayToSuccessor(options: SuccessorOptions): Promise<boolean> {
  const { logger } = options;
  let child: ChildProcess;
  try {
    child = (options.start ?? startSuccessor)(options.handOver.descriptor);
  } catch (error) {
    logger.error({ err: error }, 'the next daemon cannot be started: this one goes on');
    return false;
  }
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  const talk = new HandOverTalk(child);
  let released = false;
  const abort = (): void => {
    if (!released) child.kill('SIGKILL');
  };
  options.signal?.addEventListener('abort', abort);
  const problem = await negotiate(options, child, talk, () => {
    released = true;
  });
  options.signal?.removeEventListener('abort', abort);
  if (problem === null) {
    talk.end();
    child.unref();
    return true;
  }
  child.kill('SIGKILL');
  await ended;
  talk.end();
  // Only now is it certain that nobody else answers.
  options.handOver.resume();
  logger.error(
    { successor: child.pid, exitCode: child.exitCode, problem },
    `no hand-over, this daemon goes on: ${problem}`,
  );
  return false;
}

/** Null when the place is released, or what went wrong; this daemon may be paused then. */
async function negotiate(
  { handOver, logger, release, startMsMax }: SuccessorOptions,
  child: ChildProcess,
  talk: HandOverTalk,
  commit: () => void,
): Promise<string | null> {
  const ready = await talk.next(startMsMax ?? SUCCESSOR_START_MS_MAX);
  if (ready?.dmlog !== 'ready') return 'the next daemon did not start (its own log lines say why)';
  const pausedAt = await offerUntilTaken(handOver, talk);
  if (typeof pausedAt === 'string') {
    await talk.say({ dmlog: 'refused', reason: pausedAt });
    return pausedAt;
  }
  commit();
  const failed = (error: unknown): void => {
    logger.error({ err: error }, 'not everything could be let go of: this process ends, which does the rest');
  };
  await handOver.letGo().catch(failed);
  await talk.say({ dmlog: 'released' });
  const pausedMs = Math.round(performance.now() - pausedAt);
  // It ends the channel when it answers.
  await talk.next(SUCCESSOR_SERVES_MS_MAX);
  await release(child.pid as number).catch(failed);
  logger.info(
    { successor: child.pid, pausedMs },
    'place handed to the next daemon: it answers what waits in the socket',
  );
  return null;
}

/**
 * Pauses and offers the place until the next daemon has taken an offer in time, serving in between. Returns when this daemon was paused (performance.now), or why that
 * is not to be had.
 */
async function offerUntilTaken(handOver: DaemonHandOver, talk: HandOverTalk): Promise<number | string> {
  let late = 0;
  for (let offer = 1; offer <= OFFERS_MAX && late < LATE_OFFERS_MAX; offer++) {
    if (offer > 1) {
      handOver.resume();
      await new Promise((resolve) => setTimeout(resolve, OFFER_AGAIN_MS));
    }
    const pausedAt = performance.now();
    const paused = await handOver.pause();
    if (paused === null) continue;
    await talk.say({ dmlog: 'yours', offer, ...paused });
    if (await isTaken(talk, offer)) return pausedAt;
    late++;
  }
  return late === 0
    ? 'a log device does not end its writes'
    : 'the next daemon did not take its place in time';
}

/** Answers to earlier offers, which came too late, are passed over. */
async function isTaken(talk: HandOverTalk, offer: number): Promise<boolean> {
  const until = performance.now() + SUCCESSOR_TAKES_MS_MAX;
  for (;;) {
    const heard = await talk.next(Math.max(0, until - performance.now()));
    if (heard === null) return false;
    if (heard.dmlog === 'taken' && heard.offer === offer) return true;
  }
}

/** The program of this process as it is on disk now, with the same words, and its environment but for what names this process. */
function startSuccessor(descriptor: number): ChildProcess {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES, WATCHDOG_PID, ...environment } = process.env;
  return spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    argv0: process.argv0,
    env: { ...environment, [SUCCESSOR_VARIABLE]: String(SUCCESSOR_DESCRIPTOR) },
    stdio: ['ignore', 'inherit', 'inherit', descriptor, 'ipc'],
  });
}
