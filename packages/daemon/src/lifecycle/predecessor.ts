import type { PreviousDaemon } from '../serve-types.js';
import { LifecycleError } from './errors.js';
import { type HandOverChannel, HandOverTalk, SUCCESSOR_VARIABLE } from './hand-over.js';

/** The daemon that has started this one to take its place. */
export interface Predecessor {
  /** The connector socket. */
  readonly descriptor: number;
  /**
   * Says that this process is ready, and resolves when logs and socket are its own.
   *
   * @throws LifecycleError `ERR_HANDOVER`: the predecessor serves on.
   */
  takeOver(): Promise<PreviousDaemon>;
  /** Requests are answered here: what the predecessor has still to do, it may do now. */
  serving(): void;
}

/** Null where this process was started by anybody else. Says so only once: what this process starts is no successor. */
export function inheritedPredecessor(
  channel: HandOverChannel = process as HandOverChannel,
  environment: NodeJS.ProcessEnv = process.env,
): Predecessor | null {
  const given = environment[SUCCESSOR_VARIABLE];
  delete environment[SUCCESSOR_VARIABLE];
  if (given === undefined || !/^[0-9]{1,4}$/.test(given) || channel.connected !== true) return null;
  const talk = new HandOverTalk(channel);
  return {
    descriptor: Number(given),
    takeOver: async () => {
      try {
        return await takeOver(talk);
      } catch (error) {
        talk.end();
        throw error;
      }
    },
    serving: () => talk.end(),
  };
}

/** A predecessor that dies meanwhile leaves what a kill -9 leaves: its lock is free, and its requests were perhaps not answered. */
async function takeOver(talk: HandOverTalk): Promise<PreviousDaemon> {
  await talk.say({ dmlog: 'ready' });
  let owed = true;
  let pausedAtMs: number | null = null;
  for (;;) {
    const heard = await talk.next();
    if (heard === null) return { owed: true, pausedAtMs };
    if (heard.dmlog === 'released') return { owed, pausedAtMs };
    if (heard.dmlog !== 'yours') {
      const why = heard.reason ?? `it said ${heard.dmlog}`;
      throw new LifecycleError('ERR_HANDOVER', `the daemon before this one serves on: ${why}`);
    }
    owed = heard.owed !== false;
    pausedAtMs = heard.pausedAtMs ?? null;
    await talk.say({ dmlog: 'taken', ...(heard.offer === undefined ? {} : { offer: heard.offer }) });
  }
}
