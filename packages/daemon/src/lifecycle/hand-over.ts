/**
 * How one daemon gives its place to the next while requests wait in the open socket. The daemon that serves starts the next one (SIGHUP, `systemctl reload`), which
 * inherits the socket as a descriptor and a channel to talk:
 *
 * | from | step       | what holds when it is said                                                                   |
 * |------|------------|----------------------------------------------------------------------------------------------|
 * | new  | `ready`    | code is loaded, configuration read, the socket adopted but not read, log devices open, corosync reached |
 * | old  | `yours`    | it reads nothing more, its writes to log devices have ended and none begins; `owed`: answers are missing |
 * | old  | `refused`  | a device is too slow for that: it serves on, the new one ends                                  |
 * | new  | `taken`    | it is alive and goes on, with the number of the offer; too late, the old one serves and offers again |
 * | old  | `released` | logs and socket are the new one's: it finds the logs and reads                                  |
 * | new  | (the end of the channel) | it answers: the old one lets go of control socket and lock, and ends              |
 *
 * Requests wait from `yours` until the new one reads: what can be done before or after is not done then.
 *
 * Whoever of the two dies at any step leaves a daemon that serves, or what a kill -9 leaves: the state of all logs, and a socket where a service manager keeps it.
 */
import { z } from 'zod';

/** In the environment of the next daemon: the number of the descriptor that it inherits. */
export const SUCCESSOR_VARIABLE = 'DMLOG_SUCCESSOR';
/** The first descriptor after standard error. */
export const SUCCESSOR_DESCRIPTOR = 3;

export const HandOverMessage = z.object({
  dmlog: z.enum(['ready', 'yours', 'refused', 'taken', 'released']),
  /** With `yours` and `taken`: which offer. One that is answered too late does not count. */
  offer: z.number().int().optional(),
  /** With `yours`: see `PreviousDaemon`. */
  owed: z.boolean().optional(),
  pausedAtMs: z.number().nullable().optional(),
  /** With `refused`. */
  reason: z.string().optional(),
});
export type HandOverMessage = z.infer<typeof HandOverMessage>;
export type HandOverStep = HandOverMessage['dmlog'];

/** One end of the channel: a child process, or `process` in the child. */
export interface HandOverChannel {
  readonly connected?: boolean;
  send?(
    message: HandOverMessage,
    handle: undefined,
    options: undefined,
    done: (error: Error | null) => void,
  ): boolean;
  on(event: 'message', listener: (message: unknown) => void): unknown;
  on(event: 'disconnect', listener: () => void): unknown;
  off(event: 'message' | 'disconnect', listener: (message: unknown) => void): unknown;
  disconnect?(): void;
}

/** The conversation as a sequence of steps. What comes before it is asked for waits. */
export class HandOverTalk {
  readonly #channel: HandOverChannel;
  readonly #heard: (HandOverMessage | null)[] = [];
  readonly #onMessage = (message: unknown): void => {
    const parsed = HandOverMessage.safeParse(message);
    if (parsed.success) this.#push(parsed.data);
  };
  readonly #onEnd = (): void => this.#push(null);
  #wanted: ((message: HandOverMessage | null) => void) | null = null;

  constructor(channel: HandOverChannel) {
    this.#channel = channel;
    channel.on('message', this.#onMessage);
    channel.on('disconnect', this.#onEnd);
  }

  /** The next step of the other side; null when the channel has ended, or `milliseconds` have passed. Ask again only after it has come. */
  next(milliseconds?: number): Promise<HandOverMessage | null> {
    const heard = this.#heard.shift();
    if (heard !== undefined) return Promise.resolve(heard);
    return new Promise((resolve) => {
      let timer: NodeJS.Timeout | undefined;
      const settle = (message: HandOverMessage | null): void => {
        clearTimeout(timer);
        this.#wanted = null;
        resolve(message);
      };
      this.#wanted = settle;
      if (milliseconds !== undefined) timer = setTimeout(() => settle(null), milliseconds);
    });
  }

  /** Resolves when the message is on its way; an end that is gone is heard of by `next`. */
  say(message: HandOverMessage): Promise<void> {
    return new Promise((resolve) => {
      if (this.#channel.connected !== true || this.#channel.send === undefined) resolve();
      else this.#channel.send(message, undefined, undefined, () => resolve());
    });
  }

  end(): void {
    this.#channel.off('message', this.#onMessage);
    this.#channel.off('disconnect', this.#onEnd);
    if (this.#channel.connected === true) this.#channel.disconnect?.();
  }

  #push(message: HandOverMessage | null): void {
    if (this.#wanted !== null) this.#wanted(message);
    else this.#heard.push(message);
  }
}
