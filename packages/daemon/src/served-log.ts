import { type DirtyLog, DiskLog, Effects, type LogName, type LogParameters } from '@dmlog/log';
import { Errno, type FrameView, RequestType } from '@dmlog/protocol';
import type { Logger } from './logging.js';
import { NameLookup } from './name-lookup.js';
import { type ImageStore, type LateReply, type Legs, newServedCounters, type Served } from './served.js';

/** What keeps a log's state for the process after this one. */
export interface KeptLog {
  /** The log is gone: there is nothing to find again. */
  discard(): void;
}

/**
 * One log with what it stands on. Performs the log's effects and reports their ends to it; everything else is the log's own business.
 */
export class ServedLog implements Served {
  readonly name: LogName;
  readonly log: DirtyLog;
  readonly counters = newServedCounters();
  readonly #disk: DiskLog | null;
  readonly #store: ImageStore | null;
  readonly #legs: Legs | null;
  readonly #kept: KeptLog | null;
  readonly #reply: LateReply;
  readonly #logger: Logger;
  readonly #lookup: NameLookup;
  /** For the ends of I/O; requests bring their own. */
  readonly #effects = new Effects();
  readonly #onWritten: (error: Error | null) => void;
  readonly #onLegsFlushed: (error: Error | null) => void;
  #closed = false;
  #paused = false;
  /** The end of a flush of the legs that came while this was paused: what follows from it is a write. */
  #legsFlushedMeanwhile: { readonly error: Error | null } | null = null;
  #writes = 0;
  #writeFailing = false;
  #legsFailing = false;

  constructor(init: {
    name: LogName;
    log: DirtyLog;
    store?: ImageStore;
    legs?: Legs;
    kept?: KeptLog | null;
    reply: LateReply;
    logger: Logger;
    /** Looks the mirror's name up; asked at each RESUME. */
    findName?: () => Promise<string | null>;
  }) {
    this.name = init.name;
    this.log = init.log;
    this.#disk = init.log instanceof DiskLog ? init.log : null;
    this.#store = init.store ?? null;
    this.#legs = init.legs ?? null;
    this.#kept = init.kept ?? null;
    this.#reply = init.reply;
    this.#logger = init.logger;
    this.#lookup = new NameLookup(init.name.uuid, init.findName ?? (async () => null), init.logger);
    this.#onWritten = (error) => this.#written(error);
    this.#onLegsFlushed = (error) => this.#legsFlushed(error);
  }

  get parameters(): LogParameters {
    return this.log.parameters;
  }

  get imageKeeper(): object {
    return this;
  }

  get device(): string | null {
    return this.#store?.deviceNumber ?? null;
  }

  get writing(): boolean {
    return this.#writes > 0;
  }

  get dmName(): string | null {
    return this.#lookup.name;
  }

  request(view: FrameView, port: number, effects: Effects): void {
    this.counters.requests++;
    if (view.type === RequestType.RESUME) this.#lookup.look();
    this.log.request(view, port, effects);
    this.#perform(effects);
  }

  tick(nowMs: number): void {
    this.#effects.reset();
    this.log.tick(nowMs, this.#effects);
    this.#perform(this.#effects);
  }

  /** For logs in which nothing is written at the moment. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    const flushed = this.#legsFlushedMeanwhile;
    this.#legsFlushedMeanwhile = null;
    if (flushed !== null) this.#legsFlushed(flushed.error);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#store?.close();
    this.#legs?.close();
  }

  discard(): void {
    this.close();
    this.#kept?.discard();
  }

  /** Reads the image of a restored log and tells it. Resolves when the log can be asked; never rejects. */
  restoreImage(): Promise<void> {
    const disk = this.#disk;
    this.#lookup.look();
    if (!disk?.needsImage) return Promise.resolve();
    return new Promise((resolve) => {
      (this.#store as ImageStore).readImage(disk.image, (error) => {
        if (error !== null) {
          this.#logger.error(
            { uuid: this.name.uuid, device: this.device, err: error },
            'log device cannot be read: all of the log is written again before the next FLUSH is answered',
          );
        }
        this.#effects.reset();
        disk.imageRestored(error === null ? 0 : Errno.EIO, this.#effects);
        this.#perform(this.#effects);
        resolve();
      });
    });
  }

  giveUpImage(): boolean {
    this.#effects.reset();
    const given = (this.#disk as DiskLog).giveUpImage(this.#effects);
    this.#perform(this.#effects);
    return given;
  }

  #perform(effects: Effects): void {
    const late = effects.late;
    for (let i = 0; i < late.count; i++) {
      this.counters.lateReplies++;
      this.#reply(late.seq[i] as number, late.port[i] as number, late.errno[i] as number);
    }
    late.count = 0;
    if (effects.write) this.#write();
    if (effects.flushLegs) this.#flushLegs();
    if (effects.readImage) this.#readImage();
    if (effects.destroyed) this.discard();
  }

  #write(): void {
    const disk = this.#disk as DiskLog;
    this.counters.writes++;
    this.#writes++;
    for (let i = 0; i < disk.runCount; i++) this.counters.bytesWritten += disk.runs[2 * i + 1] as number;
    (this.#store as ImageStore).writeRuns(disk.image, disk.runs, disk.runCount, this.#onWritten);
  }

  #written(error: Error | null): void {
    this.#writes--;
    if (this.#closed) return;
    if (error !== null) {
      if (!this.#writeFailing) {
        this.#logger.error(
          { uuid: this.name.uuid, device: this.device, err: error },
          'log device cannot be written: the kernel is told so at every FLUSH and holds or fails writes to this mirror; repair the device, then reload the table',
        );
      }
      this.#writeFailing = true;
    } else if (this.#writeFailing) {
      this.#writeFailing = false;
      this.#logger.warn({ uuid: this.name.uuid, device: this.device }, 'log device can be written again');
    }
    this.#effects.reset();
    (this.#disk as DiskLog).written(error === null ? 0 : Errno.EIO, this.#effects);
    this.#perform(this.#effects);
  }

  #flushLegs(): void {
    this.counters.legFlushes++;
    (this.#legs as Legs).flush(this.#onLegsFlushed);
  }

  #legsFlushed(error: Error | null): void {
    if (this.#closed) return;
    if (this.#paused) {
      this.#legsFlushedMeanwhile = { error };
      return;
    }
    if (error !== null) {
      this.counters.legFlushFailures++;
      this.#legs?.invalidate();
      if (!this.#legsFailing) {
        this.#logger.warn(
          { uuid: this.name.uuid, err: error },
          'legs cannot be flushed: cleared regions stay dirty on the log, which costs their resync after a crash and nothing else',
        );
      }
    }
    this.#legsFailing = error !== null;
    this.#effects.reset();
    (this.#disk as DiskLog).legsFlushed(error === null, this.#effects);
    this.#perform(this.#effects);
  }

  #readImage(): void {
    this.#legs?.invalidate();
    const disk = this.#disk as DiskLog;
    (this.#store as ImageStore).readImage(disk.image, (error) => this.#imageRead(disk, error));
  }

  #imageRead(disk: DiskLog, error: Error | null): void {
    if (this.#closed) return;
    const about = { uuid: this.name.uuid, device: this.device };
    if (error !== null) {
      this.#logger.error(
        { ...about, err: error },
        'log device cannot be read: no region is taken to be in sync, so the kernel copies everything; repair the device before it fails for good',
      );
    }
    this.#effects.reset();
    const refused = disk.imageRead(error === null ? 0 : Errno.EIO, this.#effects);
    if (refused !== null) this.#logger.error(about, refused);
    else if (error === null) {
      this.#logger.info(
        { ...about, inSync: disk.inSyncCount, regions: disk.regionCount },
        'log resumed from its image',
      );
      if (disk.marksUnknown) {
        this.#logger.warn(
          about,
          'the kernel was using this log before this daemon started: every region is dirty on the log until the mirror is suspended and resumed (dmsetup suspend, resume); a crash before that resyncs all of it',
        );
      }
    }
    this.#perform(this.#effects);
  }
}
