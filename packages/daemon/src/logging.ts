import pino from 'pino';

export type Logger = pino.Logger;

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Bytes of log lines that may wait for a reader who does not read; what comes after is dropped and counted. Some ten thousand lines. */
export const LOG_BACKLOG_BYTES_MAX = 4 << 20;

/** Who knows the mirrors' names, for loggers that were told of somebody. */
const namers = new WeakMap<Logger, (uuid: string) => string | null>();

/** Lines of `logger` that name a log by its uuid have the device-mapper name of its mirror besides (`mirror`), where `nameOf` knows it. */
export function nameMirrors(logger: Logger, nameOf: (uuid: string) => string | null): void {
  namers.set(logger, nameOf);
}

function withMirror(logger: Logger, fields: Record<string, unknown>): Record<string, unknown> {
  const { uuid } = fields;
  if (typeof uuid !== 'string') return fields;
  const mirror = namers.get(logger)?.(uuid) ?? null;
  return mirror === null ? fields : { mirror, ...fields };
}

export interface LoggerOptions {
  /** Default `info`. */
  readonly level?: LogLevel;
  /** Name of the program in every line. */
  readonly name: string;
  /** File descriptor to write to. Default 2, standard error; any other is closed by `close`. */
  readonly fd?: number;
}

/** A logger and the end of its pipe. */
export interface Logging {
  readonly logger: Logger;
  /** Lines dropped because nobody read them in time. */
  droppedLines(): number;
  /** Writes out what waits, for at most `timeoutMs`, and lets go of the descriptor. Later lines are lost. */
  close(timeoutMs: number): Promise<void>;
  /** Lets go at once; what waits is lost. */
  abandon(): void;
}

/**
 * A pino logger: JSON lines on standard error, where systemd or a shell takes them.
 *
 * Asynchronous on purpose. The reader of standard error may be journald, and its journal may be on the very mirror that waits for this
 * daemon's answer: a synchronous write would then wait for itself, for ever, and every mirror of the machine with it. So lines go out by a
 * thread of the pool; if they back up, memory stays bounded ({@link LOG_BACKLOG_BYTES_MAX}) and lines are dropped, which is the lesser evil.
 * The price: lines of the last moment are lost when the process is killed. `close` bounds the wait at an orderly end, and then
 * destroys the destination, because pino would otherwise write the rest synchronously at exit.
 */
export function createLogger(options: LoggerOptions): Logging {
  const destination = pino.destination({
    dest: options.fd ?? 2,
    sync: false,
    maxLength: LOG_BACKLOG_BYTES_MAX,
  });
  let dropped = 0;
  destination.on('drop', () => {
    dropped++;
  });
  // A reader that went away must not end the daemon: mirrors matter more than their log lines.
  destination.on('error', () => {});
  const logger: Logger = pino(
    {
      name: options.name,
      level: options.level ?? 'info',
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: {
        level: (label) => ({ level: label }),
        log: (fields) => withMirror(logger, fields),
      },
    },
    destination,
  );
  return {
    logger,
    droppedLines: () => dropped,
    abandon: () => destination.destroy(),
    close: (timeoutMs) =>
      new Promise((resolve) => {
        const finish = (): void => {
          clearTimeout(timer);
          destination.destroy();
          resolve();
        };
        const timer = setTimeout(finish, timeoutMs);
        destination.once('close', finish);
        // Not `flush`: its callback comes at once, before the lines are out, where no minimum is buffered. `end` writes all, then closes.
        destination.end();
      }),
  };
}
