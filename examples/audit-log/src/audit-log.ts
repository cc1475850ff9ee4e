import { CoreLog, type Effects, type LogParameters, type MemoryHome } from '@dmlog/log';

/** What happened to a region. */
export interface AuditEntry {
  /** Counts from 1 in each log; a gap never occurs. */
  readonly number: number;
  readonly event: 'dirtied' | 'cleaned';
  /** 0-based. */
  readonly region: number;
}

/** Entries that a log keeps for those who ask. The oldest go first: a log must not grow with what is written to its mirror. */
export const AUDIT_ENTRIES_MAX = 1024;

export interface AuditLogInit {
  readonly parameters: LogParameters;
  /** As for `CoreLog`. */
  readonly reconnected?: boolean;
  readonly home?: MemoryHome | null;
  /** Told of each entry. Called while a request is served: it must neither throw nor wait. */
  readonly note?: (entry: AuditEntry) => void;
}

/**
 * The third log type: bits in memory, as `core`, and an audit of every region that turns dirty or clean.
 *
 * It is pure as the others are: no clock, no file. What is to be done with an entry is the business of `note`. The audit is of changes: a mark of a region
 * that is dirty already leaves no entry, so that the kernel's repetitions do not either.
 */
export class AuditLog extends CoreLog {
  readonly #entries: AuditEntry[] = [];
  readonly #note: (entry: AuditEntry) => void;
  #count = 0;

  constructor(init: AuditLogInit) {
    super(init.parameters, init.reconnected ?? false, init.home ?? null);
    this.#note = init.note ?? (() => {});
  }

  /** The latest entries, at most {@link AUDIT_ENTRIES_MAX}, oldest first. */
  get entries(): readonly AuditEntry[] {
    return this.#entries;
  }

  protected override onDirtied(region: number): void {
    super.onDirtied(region);
    this.#record('dirtied', region);
  }

  protected override onCleared(region: number, effects: Effects): void {
    super.onCleared(region, effects);
    this.#record('cleaned', region);
  }

  #record(event: AuditEntry['event'], region: number): void {
    const entry: AuditEntry = { number: ++this.#count, event, region };
    if (this.#entries.length === AUDIT_ENTRIES_MAX) this.#entries.shift();
    this.#entries.push(entry);
    this.#note(entry);
  }
}
