import { ClusteredLog } from '@dmlog/cluster';
import { type DirtyLog, DiskLog, type LazyClearOptions } from '@dmlog/log';
import { z } from 'zod';
import { FileSchema, type LazyClearConfig } from '../config/schema.js';
import { LOG_LEVELS, type Logger } from '../logging.js';

/** What may be changed while the daemon runs, with the bounds of the configuration file. */
export const SettingsChange = z.strictObject({
  lazyClearMs: FileSchema.shape.lazyClear.unwrap().shape.milliseconds,
  lazyClearRegionsMax: FileSchema.shape.lazyClear.unwrap().shape.regionsMax,
  logLevel: z.enum(LOG_LEVELS).optional(),
});
export type SettingsChange = z.infer<typeof SettingsChange>;

export interface Settings {
  readonly lazyClearMs: number;
  readonly lazyClearRegionsMax: number;
  readonly logLevel: string;
}

/** Settings of a daemon that runs. A change lasts until its end: its configuration is not written. */
export class LiveSettings {
  #lazyClear: LazyClearConfig;
  readonly #logger: Logger;

  constructor(lazyClear: LazyClearConfig, logger: Logger) {
    this.#lazyClear = lazyClear;
    this.#logger = logger;
  }

  /** For logs that are created from now on. */
  get lazyClear(): LazyClearConfig {
    return this.#lazyClear;
  }

  read(): Settings {
    const { milliseconds, regionsMax } = this.#lazyClear;
    return { lazyClearMs: milliseconds, lazyClearRegionsMax: regionsMax, logLevel: this.#logger.level };
  }

  /** Applies `change` to the daemon and to `logs`, all logs that it has. */
  change(change: SettingsChange, logs: Iterable<DirtyLog>): Settings {
    const { milliseconds, regionsMax } = this.#lazyClear;
    this.#lazyClear = {
      milliseconds: change.lazyClearMs ?? milliseconds,
      regionsMax: change.lazyClearRegionsMax ?? regionsMax,
    };
    for (const log of logs) setLazyClear(log, this.#lazyClear);
    if (change.logLevel !== undefined) this.#logger.level = change.logLevel;
    return this.read();
  }
}

/** Changes lazy clear of a log; one that has none stays as it is. */
export function setLazyClear(log: DirtyLog, options: LazyClearOptions): void {
  if (log instanceof DiskLog) log.setLazyClear(options);
  else if (log instanceof ClusteredLog) log.replica.setLazyClear(options);
}

/** Regions that the kernel has cleared and lazy clear keeps dirty. */
export function lazyCountOf(log: DirtyLog): number {
  if (log instanceof DiskLog) return log.lazyCount;
  return log instanceof ClusteredLog ? log.replica.lazyCount : 0;
}

/** Marks of regions that lazy clear kept dirty. */
export function lazyHitsOf(log: DirtyLog): number {
  if (log instanceof DiskLog) return log.lazyHits;
  return log instanceof ClusteredLog ? log.replica.lazyHits : 0;
}
