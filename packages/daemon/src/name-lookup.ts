import type { Logger } from './logging.js';

/** A mirror's device-mapper name, looked up in the background; for people only. */
export class NameLookup {
  /** The last one that was found. */
  name: string | null = null;
  readonly #uuid: string;
  readonly #find: () => Promise<string | null>;
  readonly #logger: Logger;

  constructor(uuid: string, find: () => Promise<string | null>, logger: Logger) {
    this.#uuid = uuid;
    this.#find = find;
    this.#logger = logger;
  }

  /** A failed one changes nothing. */
  look(): void {
    this.#find().then(
      (name) => {
        this.name = name ?? this.name;
      },
      (error: unknown) =>
        this.#logger.debug({ uuid: this.#uuid, err: error }, 'the name of the mirror was not found'),
    );
  }
}
