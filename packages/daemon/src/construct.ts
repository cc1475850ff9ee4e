import {
  ConstructorError,
  CoreLog,
  type DirtyLog,
  DiskLog,
  Effects,
  imageBytes,
  type LazyClearOptions,
  type LogName,
  type LogParameters,
  type MemoryHome,
  parseConstructor,
} from '@dmlog/log';
import { DecodeCode, Errno, FrameView } from '@dmlog/protocol';
import type { ClusterService } from './cluster/access.js';
import type { ClusteredLogs } from './cluster/clustered-logs.js';
import { requireSize } from './device/log-device.js';
import type { Constructor, Dispatcher } from './dispatcher.js';
import type { Logger } from './logging.js';
import {
  blockBytesFor,
  closeStore,
  type OpenedStore,
  RefusedError,
  refuseForeignImage,
} from './opened-store.js';
import type { Served } from './served.js';
import { ServedLog } from './served-log.js';
import type { LogIdentity } from './state/format.js';
import type { RuntimeState } from './state/runtime-state.js';
import type { StateFile } from './state/state-file.js';

/** CTR's answer may name a device from this version of the protocol on (dm-log-userspace.h). */
const DEVICE_NAME_VERSION = 2;

/**
 * Makes a log of a further type: one that lives in memory and takes the arguments of `core`. `reconnected` and `home` are those of `CoreLog`: a log that
 * does not use its home is not found again after a restart of the daemon.
 */
export type MakeLog = (parameters: LogParameters, reconnected: boolean, home: MemoryHome | null) => DirtyLog;
export type LogTypes = ReadonlyMap<string, MakeLog>;

export interface ConstructInit {
  readonly dispatcher: Dispatcher;
  readonly send: (bytes: Uint8Array, port: number) => void;
  /** Opens a log device by path or `major:minor`; rejects with an error that has a positive `errno` and says what to do. */
  readonly openStore: (device: string) => Promise<OpenedStore>;
  readonly allocateImage: (bytes: number) => Uint8Array;
  /** The mirror's device-mapper name by its log's uuid and log device, or null. */
  readonly findName: (uuid: string, logDeviceNumber: string | null) => Promise<string | null>;
  /** For a log that is made now. */
  readonly lazyClear: () => LazyClearOptions;
  /** What serves clustered logs; null: they are refused. */
  readonly cluster: Pick<ClusterService, 'logs' | 'check'> | null;
  /** What outlives this process; null: nothing does. */
  readonly state: RuntimeState | null;
  /** Log types besides those of @dmlog/log, by their name in the table line. */
  readonly logTypes: LogTypes;
  /** Told of each log that was found again: it may want ticks. */
  readonly onRestored: () => void;
  readonly logger: Logger;
}

/** Logs that are found again at the same time: as many as may use the thread pool without filling it. */
const RESTORES_AT_ONCE = 16;

/** Logs whose restoring is rehearsed, how large their state may be and how often: enough to have the code compiled, and memory for it. */
const REHEARSALS_MAX = 4;
const REHEARSAL_BYTES_MAX = 4 << 20;
const REHEARSAL_TIMES = 2;

/** Answers CTR: makes logs, and finds again the ones the kernel reconnects to. */
export class LogConstructor implements Constructor {
  readonly #init: ConstructInit;
  /** Constructions under way by name: a CTR that the kernel repeats joins the first one. */
  readonly #underWay = new Map<string, Promise<OpenedStore | null>>();
  /** Log devices that were opened before their logs may be touched, by what the log's state file says. */
  readonly #prepared = new Map<string, OpenedStore>();
  /** Fulfilled by {@link begun}. */
  readonly #beginning: Promise<void>;
  #begin: () => void = () => {};
  /** Logs that are being found again, by name. */
  readonly #restoring = new Map<string, Promise<void>>();

  constructor(init: ConstructInit) {
    this.#init = init;
    this.#beginning = new Promise((resolve) => {
      this.#begin = resolve;
    });
  }

  construct(frame: Uint8Array, port: number, found: Served | null): void {
    const view = new FrameView(frame);
    if (view.decode(0, frame.byteLength) !== DecodeCode.OK) return;
    const uuid = view.uuidText();
    this.#answer(view, found).then(
      (deviceName) => this.#send(view, port, frame, 0, deviceName),
      (error: unknown) => {
        const errno = errnoOf(error);
        const text = error instanceof Error ? error.message : String(error);
        this.#init.logger.error({ uuid, arguments: view.text(), errno }, `log refused: ${text}`);
        this.#send(view, port, frame, errno, null);
      },
    );
  }

  /** The name of the log device, for the kernel's first CTR only: a reconnecting one has no room for it and would try for ever. */
  async #answer(view: FrameView, found: Served | null): Promise<string | null> {
    const name: LogName = { uuid: view.uuidText(), luidLow: view.luidLow, luidHigh: view.luidHigh };
    const reconnecting = view.nulTerminated;
    let known = found;
    if (known === null) {
      // The log may be one that the process before this one left, and whose device was not there, or not yet, when this one started.
      if (reconnecting) await this.#restoreNamed(name);
      else await this.#restoring.get(keyOf(name));
      known = this.#init.dispatcher.logs.get(name);
    }
    if (known !== null && reconnecting) {
      const about = { uuid: name.uuid };
      if (isSame(known, this.#parse(view.text()))) {
        this.#init.logger.info(about, 'the kernel reconnected to a log that is known');
        return null;
      }
      this.#init.logger.warn(
        about,
        'the kernel reconnected with other arguments: nothing that is known of the log is used',
      );
    }
    const key = `${keyOf(name)} ${view.text()}`;
    let underWay = this.#underWay.get(key);
    if (underWay === undefined) {
      underWay = this.#make(name, view.text(), reconnecting, known);
      this.#underWay.set(key, underWay);
      const done = () => this.#underWay.delete(key);
      underWay.then(done, done);
    }
    const opened = await underWay;
    return reconnecting || view.version < DEVICE_NAME_VERSION ? null : (opened?.kernelName ?? null);
  }

  /**
   * Finds the logs again that the process before this one left, each exactly as it was. Resolves when all were tried; never rejects. A log that is not
   * found is unknown to the kernel's next question, whose reconnect tries once more.
   */
  async restoreAll(): Promise<void> {
    await atOnce(this.#found(), (file) => this.#restoreOnce(file));
    this.#init.cluster?.logs.restored();
    for (const opened of this.#prepared.values()) closeStore(opened);
    this.#prepared.clear();
  }

  /**
   * Opens the devices of all logs that there are, while another process still serves them: what takes most of {@link restoreAll}. Nothing is changed. A device that cannot
   * be opened now is tried again then. Never rejects.
   */
  async prepare(): Promise<void> {
    const files = this.#found();
    await atOnce([...files], (file) => this.#prepareOne(file).catch(() => undefined));
    for (const file of files.slice(0, REHEARSALS_MAX)) this.#rehearse(file);
  }

  /** Requests are answered now: what is for people only need not wait any longer. */
  begun(): void {
    this.#begin();
  }

  /**
   * Goes through what {@link restoreAll} does, on a copy of what is there, and forgets it: code that runs for the first time takes twenty times as long (measured: 20 ms
   * for a log of 2^16 regions, then 1 ms), and while it does requests would wait.
   */
  #rehearse(file: StateFile): void {
    try {
      const parameters = this.#parse(file.identity.constructorText);
      const opened = this.#prepared.get(JSON.stringify(file.identity)) ?? null;
      if (parameters.clustered) {
        const blockBytes = opened === null ? 0 : blockBytesFor(parameters, opened);
        const { uuid, luidLow, luidHigh } = file.identity;
        const name = { uuid, luidLow, luidHigh };
        this.#init.cluster?.logs.rehearse({ name, parameters, opened, blockBytes }, REHEARSAL_BYTES_MAX);
        return;
      }
      if (parameters.device !== null && opened === null) return;
      for (let time = 0; time < REHEARSAL_TIMES; time++) {
        const memory = file.copy(REHEARSAL_BYTES_MAX);
        if (memory === null) return;
        const log =
          opened === null
            ? this.#coreLog(parameters, false, null)
            : this.#diskLog(parameters, opened, false, null);
        if (log.restore(memory) !== null) return;
        if (log instanceof DiskLog && log.needsImage) log.imageRestored(0, new Effects());
        log.summary();
      }
    } catch (error) {
      // The copy was made while the file was written; a log that is really so is found out later.
      this.#init.logger.debug({ uuid: file.identity.uuid, err: error }, 'a rehearsal failed');
    }
  }

  async #prepareOne({ identity }: StateFile): Promise<void> {
    const parameters = this.#parse(identity.constructorText);
    if (parameters.device === null) return;
    const opened = await this.#openUnshared({ ...parameters, device: identity.device }, true);
    // A device that no mirror holds tells of a log that is being made or was given up: its state is to be looked at when it is certain.
    if (opened.held === true) this.#prepared.set(JSON.stringify(identity), opened);
    else closeStore(opened);
  }

  #takePrepared(identity: LogIdentity): OpenedStore | null {
    const key = JSON.stringify(identity);
    const opened = this.#prepared.get(key) ?? null;
    this.#prepared.delete(key);
    return opened;
  }

  #found(): StateFile[] {
    try {
      return this.#init.state?.found() ?? [];
    } catch (error) {
      this.#init.logger.error(
        { err: error },
        'the logs of the daemon before this one cannot be listed: none is found again, so core logs copy everything, and all regions of disk logs are dirty until their mirrors are suspended',
      );
      return [];
    }
  }

  async #restoreNamed(name: LogName): Promise<void> {
    const underWay = this.#restoring.get(keyOf(name));
    if (underWay !== undefined) return underWay;
    const file = this.#init.state?.find(name) ?? null;
    if (file !== null) await this.#restoreOnce(file);
  }

  #restoreOnce(file: StateFile): Promise<void> {
    const key = keyOf(file.identity);
    const restoring = this.#restore(file).catch((error: unknown) => {
      const { uuid } = file.identity;
      this.#init.logger.error(
        { uuid, err: error },
        'a log of the daemon before this one cannot be served yet: writes to its mirror wait, and it is tried again when the kernel asks',
      );
    });
    this.#restoring.set(key, restoring);
    return restoring.finally(() => this.#restoring.delete(key));
  }

  async #restore(file: StateFile): Promise<void> {
    const { dispatcher, logger } = this.#init;
    const { identity } = file;
    const { uuid, luidLow, luidHigh, reconnected } = identity;
    const name: LogName = { uuid, luidLow, luidHigh };
    const parameters = this.#parse(identity.constructorText);
    // By number, where the device has one: the kernel holds it, while a path may lead elsewhere by now.
    const opened =
      parameters.device === null
        ? null
        : (this.#takePrepared(identity) ??
          (await this.#open(name, { ...parameters, device: identity.device }, true)));
    const served = parameters.clustered
      ? this.#restoreClustered(name, parameters, opened, reconnected, file)
      : this.#restoreLocal(name, parameters, opened, reconnected, file);
    if (typeof served === 'string') {
      logger.warn({ uuid, path: file.path, problem: served }, `the state of a log is not used: ${served}`);
      file.discard();
      closeStore(opened);
      return;
    }
    if (served instanceof ServedLog) await served.restoreImage();
    dispatcher.logs.add(name, served)?.close();
    const { state, inSyncCount, regionCount, dirtyCount } = served.log.summary();
    logger.info(
      { uuid, state, inSync: inSyncCount, regions: regionCount, dirty: dirtyCount },
      'log found again as it was',
    );
    this.#init.onRestored();
  }

  /** The log as it was, or why the state is not its. */
  #restoreLocal(
    name: LogName,
    parameters: LogParameters,
    opened: OpenedStore | null,
    reconnected: boolean,
    file: StateFile,
  ): ServedLog | string {
    const log =
      opened === null
        ? this.#coreLog(parameters, reconnected, file)
        : this.#diskLog(parameters, opened, reconnected, file);
    const problem = blocksProblem(parameters, opened, file);
    if (problem !== null) return problem;
    const memory = file.load();
    const refusal = typeof memory === 'string' ? memory : log.restore(memory);
    return refusal ?? abandoned(log, opened) ?? this.#serve(name, log, opened, file);
  }

  #restoreClustered(
    name: LogName,
    parameters: LogParameters,
    opened: OpenedStore | null,
    reconnected: boolean,
    file: StateFile,
  ): Served | string {
    const { cluster } = this.#init;
    if (cluster === null) return 'this daemon serves no clustered logs';
    const problem = blocksProblem(parameters, opened, file);
    if (problem !== null) return problem;
    const blockBytes = opened === null ? 0 : blockBytesFor(parameters, opened);
    const findName = this.#nameFinder(name, opened);
    const served = cluster.logs.restore({
      name,
      parameters,
      opened,
      blockBytes,
      reconnected,
      file,
      findName,
    });
    if (typeof served === 'string') return served;
    const gone = abandoned(served.log, opened);
    if (gone !== null) served.discard();
    return gone ?? served;
  }

  async #make(
    name: LogName,
    text: string,
    reconnected: boolean,
    found: Served | null,
  ): Promise<OpenedStore | null> {
    const { dispatcher, logger, cluster } = this.#init;
    const parameters = this.#parse(text);
    // Better `dmsetup create` fails than a mirror that waits for a group which cannot be had. A log that is in use is helped later.
    if (parameters.clustered && !reconnected) await cluster?.check();
    // A first CTR of a name that is known: the kernel repeats it, or the luid was used again after a DTR that got lost.
    if (found !== null) {
      found.discard();
      dispatcher.logs.remove(name);
    }
    const opened = parameters.device === null ? null : await this.#open(name, parameters, reconnected);
    const served =
      parameters.clustered && cluster !== null
        ? this.#clustered(cluster.logs, name, text, parameters, opened, reconnected)
        : this.#local(name, text, parameters, opened, reconnected);
    dispatcher.logs.add(name, served)?.close();
    logger.info(
      {
        uuid: name.uuid,
        type: parameters.typeName,
        regions: parameters.regionCount,
        regionSizeSectors: parameters.regionSizeSectors,
        device: served.device,
        reconnected,
      },
      'log created',
    );
    return opened;
  }

  #parse(text: string): LogParameters {
    const { cluster, logTypes } = this.#init;
    return parseConstructor(text, { clustered: cluster !== null, memoryTypes: [...logTypes.keys()] });
  }

  #clustered(
    logs: ClusteredLogs,
    name: LogName,
    text: string,
    parameters: LogParameters,
    opened: OpenedStore | null,
    reconnected: boolean,
  ): Served {
    const blockBytes = opened === null ? 0 : blockBytesFor(parameters, opened);
    const findName = this.#nameFinder(name, opened);
    const file = this.#keep(name, text, reconnected, parameters, opened);
    return logs.make({ name, parameters, opened, blockBytes, reconnected, file, findName });
  }

  #local(
    name: LogName,
    text: string,
    parameters: LogParameters,
    opened: OpenedStore | null,
    reconnected: boolean,
  ): ServedLog {
    const file = this.#keep(name, text, reconnected, parameters, opened);
    const log =
      opened === null
        ? this.#coreLog(parameters, reconnected, file)
        : this.#diskLog(parameters, opened, reconnected, file);
    return this.#serve(name, log, opened, file);
  }

  #nameFinder(name: LogName, opened: OpenedStore | null): () => Promise<string | null> {
    return async () => {
      await this.#beginning;
      return this.#init.findName(name.uuid, opened?.kernelName == null ? null : opened.store.deviceNumber);
    };
  }

  /** The file of a new log, or null: then nobody will find the log again. */
  #keep(
    name: LogName,
    constructorText: string,
    reconnected: boolean,
    parameters: LogParameters,
    opened: OpenedStore | null,
  ): StateFile | null {
    const { state, logger } = this.#init;
    if (state === null) return null;
    try {
      return state.create({
        ...name,
        constructorText,
        reconnected,
        device: opened?.store.deviceNumber ?? null,
        blockBytes: opened === null ? null : blockBytesFor(parameters, opened),
      });
    } catch (error) {
      logger.error(
        { uuid: name.uuid, err: error },
        'the state of this log cannot be kept in the runtime directory: after a restart of the daemon none of its regions will be taken to be in sync',
      );
      state.find(name)?.discard();
      return null;
    }
  }

  #serve(name: LogName, log: DirtyLog, opened: OpenedStore | null, kept: StateFile | null): ServedLog {
    const { dispatcher, logger } = this.#init;
    return new ServedLog({
      name,
      log,
      ...(opened === null ? {} : { store: opened.store, legs: opened.legs }),
      kept,
      reply: dispatcher.replyLate,
      logger,
      findName: this.#nameFinder(name, opened),
    });
  }

  #coreLog(parameters: LogParameters, reconnected: boolean, file: StateFile | null): DirtyLog {
    const make = this.#init.logTypes.get(parameters.typeName);
    const home = file?.allocate ?? null;
    return make === undefined
      ? new CoreLog(parameters, reconnected, home)
      : make(parameters, reconnected, home);
  }

  #diskLog(
    parameters: LogParameters,
    opened: OpenedStore,
    reconnected: boolean,
    file: StateFile | null,
  ): DirtyLog {
    const blockBytes = blockBytesFor(parameters, opened);
    return new DiskLog({
      parameters,
      deviceNumber: opened.store.deviceNumber,
      blockBytes,
      image: this.#init.allocateImage(imageBytes(parameters.regionCount, blockBytes)),
      lazyClear: this.#init.lazyClear(),
      reconnected,
      home: file?.allocate ?? null,
    });
  }

  /** Opens and checks the log device. What is wrong with it is found here, where `dmsetup create` can still fail. */
  async #open(name: LogName, parameters: LogParameters, reconnected: boolean): Promise<OpenedStore> {
    const opened = await this.#openUnshared(parameters, reconnected);
    try {
      this.#refuseSharing(name, opened);
      return opened;
    } catch (error) {
      closeStore(opened);
      throw error;
    }
  }

  async #openUnshared(parameters: LogParameters, reconnected: boolean): Promise<OpenedStore> {
    const device = parameters.device as string;
    const opened = await this.#init.openStore(device);
    try {
      const needed = imageBytes(parameters.regionCount, opened.logicalBlockBytes);
      requireSize(device, opened.sizeBytes, needed, `${parameters.regionCount} regions need`);
      if (parameters.syncMode === 'default' || reconnected)
        await refuseForeignImage(parameters, opened, this.#init);
      return opened;
    } catch (error) {
      closeStore(opened);
      throw error;
    }
  }

  /**
   * Two logs on one device would overwrite each other. Two tables of one uuid may share it: one of them is always suspended. A log that was never
   * resumed gives way: the kernel may have dropped it without a word (a CTR that fails after our answer is followed by no DTR). So does any log
   * whose device no mirror holds: its DTR was lost.
   */
  #refuseSharing(name: LogName, { store: { deviceNumber }, held }: OpenedStore): void {
    const { dispatcher, logger } = this.#init;
    for (const [other, served] of [...dispatcher.logs.entries()]) {
      if (other.uuid === name.uuid || served.device !== deviceNumber) continue;
      if (served.log.state !== 'constructed' && held !== false) {
        throw new RefusedError(`log device ${deviceNumber} is in use by log ${other.uuid}`, Errno.EBUSY);
      }
      logger.warn(
        { uuid: other.uuid, device: deviceNumber, by: name.uuid },
        'log without a mirror: its device goes to another',
      );
      dispatcher.logs.remove(other);
      served.discard();
    }
  }

  #send(view: FrameView, port: number, frame: Uint8Array, errno: number, deviceName: string | null): void {
    let length: number;
    if (errno !== 0) length = view.replyError(-errno);
    else if (deviceName === null) length = view.replyEmpty(0);
    else length = view.replyBytes(Buffer.from(`${deviceName}\0`, 'latin1'));
    this.#init.send(frame.subarray(0, length), port);
  }
}

/** At most {@link RESTORES_AT_ONCE} of them. */
async function atOnce(files: StateFile[], work: (file: StateFile) => Promise<void>): Promise<void> {
  const workers = Array.from({ length: RESTORES_AT_ONCE }, async () => {
    for (let file = files.shift(); file !== undefined; file = files.shift()) await work(file);
  });
  await Promise.all(workers);
}

function blocksProblem(
  parameters: LogParameters,
  opened: OpenedStore | null,
  file: StateFile,
): string | null {
  if (opened === null || blockBytesFor(parameters, opened) === file.identity.blockBytes) return null;
  return 'the log device has other blocks now';
}

/** While no daemon ran, a DTR failed once and was not repeated. */
function abandoned(log: DirtyLog, opened: OpenedStore | null): string | null {
  return opened?.held === false && log.state !== 'constructed' ? 'no mirror holds its device any more' : null;
}

function errnoOf(error: unknown): number {
  if (error instanceof ConstructorError) return error.errno;
  const errno = (error as { errno?: unknown } | null)?.errno;
  return typeof errno === 'number' && errno !== 0 ? Math.abs(errno) : Errno.EIO;
}

function keyOf({ uuid, luidLow, luidHigh }: LogName): string {
  return `${uuid} ${luidHigh}:${luidLow}`;
}

/** Whether the kernel reconnects to this very log: it repeats what it said at the first CTR. */
function isSame(served: Served, told: LogParameters): boolean {
  const { targetSectors, argumentText } = served.parameters;
  return told.targetSectors === targetSectors && told.argumentText === argumentText;
}
