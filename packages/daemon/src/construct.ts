import {
  ConstructorError,
  CoreLog,
  type DirtyLog,
  DiskLog,
  imageBytes,
  judgeHeader,
  type LazyClearOptions,
  type LogName,
  type LogParameters,
  parseConstructor,
  readHeader,
} from '@dmlog/log';
import { DecodeCode, Errno, FrameView } from '@dmlog/protocol';
import { requireSize } from './device/log-device.js';
import type { Constructor, Dispatcher } from './dispatcher.js';
import type { Logger } from './logging.js';
import { type ImageStore, type Legs, ServedLog } from './served-log.js';

/** CTR's answer may name a device from this version of the protocol on (dm-log-userspace.h). */
const DEVICE_NAME_VERSION = 2;

/** A device that was opened for a log, and what it is like. */
export interface OpenedStore {
  readonly store: ImageStore;
  readonly legs: Legs;
  /** What CTR returns for the kernel to open and hold, or null where the kernel could not (a file, in tests). */
  readonly kernelName: string | null;
  /** Whether a mirror holds the device in the kernel; null where that cannot be told. */
  readonly held: boolean | null;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  /** Best unit of writes, at least the logical block. */
  readonly blockBytes: number;
}

export interface ConstructInit {
  readonly dispatcher: Dispatcher;
  readonly send: (bytes: Uint8Array, port: number) => void;
  /** Opens a log device by path or `major:minor`; rejects with an error that has a positive `errno` and says what to do. */
  readonly openStore: (device: string) => Promise<OpenedStore>;
  readonly allocateImage: (bytes: number) => Uint8Array;
  /** The mirror's device-mapper name by its log's uuid and log device, or null. */
  readonly findName: (uuid: string, logDeviceNumber: string | null) => Promise<string | null>;
  readonly lazyClear: LazyClearOptions;
  readonly logger: Logger;
}

/** A refusal with the errno the kernel gets. */
class RefusedError extends Error {
  readonly errno: number;
  constructor(message: string, errno: number) {
    super(message);
    this.errno = errno;
  }
}

/** Answers CTR: makes logs, and finds again the ones the kernel reconnects to. */
export class LogConstructor implements Constructor {
  readonly #init: ConstructInit;
  /** Constructions under way by name: a CTR that the kernel repeats joins the first one. */
  readonly #underWay = new Map<string, Promise<OpenedStore | null>>();

  constructor(init: ConstructInit) {
    this.#init = init;
  }

  construct(frame: Uint8Array, port: number, found: ServedLog | null): void {
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
  async #answer(view: FrameView, found: ServedLog | null): Promise<string | null> {
    const name: LogName = { uuid: view.uuidText(), luidLow: view.luidLow, luidHigh: view.luidHigh };
    const reconnecting = view.nulTerminated;
    if (found !== null && reconnecting) {
      this.#init.logger.info({ uuid: name.uuid }, 'the kernel reconnected to a log that is known');
      return null;
    }
    const key = `${name.uuid} ${name.luidHigh}:${name.luidLow} ${view.text()}`;
    let underWay = this.#underWay.get(key);
    if (underWay === undefined) {
      underWay = this.#make(name, parseConstructor(view.text()), reconnecting, found);
      this.#underWay.set(key, underWay);
      const done = () => this.#underWay.delete(key);
      underWay.then(done, done);
    }
    const opened = await underWay;
    return reconnecting || view.version < DEVICE_NAME_VERSION ? null : (opened?.kernelName ?? null);
  }

  async #make(
    name: LogName,
    parameters: LogParameters,
    reconnected: boolean,
    found: ServedLog | null,
  ): Promise<OpenedStore | null> {
    const { dispatcher, logger } = this.#init;
    // A first CTR of a name that is known: the kernel repeats it, or the luid was used again after a DTR that got lost.
    if (found !== null) {
      found.close();
      dispatcher.logs.remove(name);
    }
    const opened = parameters.device === null ? null : await this.#open(name, parameters, reconnected);
    const log =
      opened === null ? new CoreLog(parameters, reconnected) : this.#diskLog(parameters, opened, reconnected);
    const served = new ServedLog({
      name,
      log,
      ...(opened === null ? {} : { store: opened.store, legs: opened.legs }),
      reply: dispatcher.replyLate,
      logger,
      findName: () =>
        this.#init.findName(name.uuid, opened?.kernelName == null ? null : opened.store.deviceNumber),
    });
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

  #diskLog(parameters: LogParameters, opened: OpenedStore, reconnected: boolean): DirtyLog {
    // Larger blocks suit the device better, but the last one must not reach past its end.
    const fits = imageBytes(parameters.regionCount, opened.blockBytes) <= opened.sizeBytes;
    const blockBytes = fits ? opened.blockBytes : opened.logicalBlockBytes;
    return new DiskLog({
      parameters,
      deviceNumber: opened.store.deviceNumber,
      blockBytes,
      image: this.#init.allocateImage(imageBytes(parameters.regionCount, blockBytes)),
      lazyClear: this.#init.lazyClear,
      reconnected,
    });
  }

  /** Opens and checks the log device. What is wrong with it is found here, where `dmsetup create` can still fail. */
  async #open(name: LogName, parameters: LogParameters, reconnected: boolean): Promise<OpenedStore> {
    const device = parameters.device as string;
    const opened = await this.#init.openStore(device);
    try {
      const needed = imageBytes(parameters.regionCount, opened.logicalBlockBytes);
      requireSize(device, opened.sizeBytes, needed, `${parameters.regionCount} regions need`);
      this.#refuseSharing(name, opened);
      if (parameters.syncMode === 'default' || reconnected) await this.#sniff(parameters, opened);
      return opened;
    } catch (error) {
      opened.store.close();
      opened.legs.close();
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
      served.close();
    }
  }

  /** Refuses an image of a format that we would have to destroy. A read error is RESUME's business: the log then starts out of sync. */
  async #sniff(parameters: LogParameters, opened: OpenedStore): Promise<void> {
    const head = this.#init.allocateImage(opened.logicalBlockBytes);
    const error = await new Promise<Error | null>((resolve) => opened.store.readImage(head, resolve));
    if (error !== null) return;
    const verdict = judgeHeader(readHeader(head));
    if (verdict.kind === 'refused')
      throw new RefusedError(`${parameters.device}: ${verdict.reason}`, Errno.EINVAL);
    if (verdict.kind === 'blank') {
      this.#init.logger.info(
        { device: parameters.device },
        'no log image on the device yet: a new one will be made',
      );
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

function errnoOf(error: unknown): number {
  if (error instanceof ConstructorError) return error.errno;
  const errno = (error as { errno?: unknown } | null)?.errno;
  return typeof errno === 'number' && errno !== 0 ? Math.abs(errno) : Errno.EIO;
}
