/**
 * The legs of a mirror, found from its log device, and the flush of their volatile caches.
 *
 * The kernel's own disk log flushes the legs before it writes clears to the log device (dm-log.c, `disk_flush`); through `userspace` nobody
 * does. A leg that loses its write cache at a power cut would otherwise differ in a region that is already clean on the log.
 */
import { closeDescriptor, O, openDescriptor, statDescriptor, syncDescriptor } from './descriptor.js';
import { DeviceError, reason } from './errors.js';
import { deviceNumberOf, nodePathsOf, SYSTEM_ROOTS, type SystemRoots, siblingsOf } from './sysfs.js';

/** A mirror has at most 9 legs (MAX_NR_MIRRORS + 1, dm-raid1.c), and a reload shows two tables; the rest is room for a log shared by mistake. */
export const LEGS_MAX = 64;

/**
 * Device numbers of the legs of every mirror that holds the log device `deviceNumber`.
 *
 * From sysfs: the log device's holders are the mirrors, the mirrors' slaves are their legs and their logs. While two tables exist the slaves of
 * both are listed: a superset, which costs a needless flush and nothing else.
 *
 * @throws DeviceError `ERR_LEGS_UNKNOWN` where no device-mapper device holds the log, or one without other devices does.
 */
export async function legsOf(deviceNumber: string, roots: SystemRoots = SYSTEM_ROOTS): Promise<string[]> {
  let legs: string[] = [];
  let cause: unknown;
  try {
    legs = await siblingsOf(deviceNumber, roots);
  } catch (error) {
    cause = error;
  }
  if (legs.length > 0 && legs.length <= LEGS_MAX) return legs;
  const why =
    legs.length === 0
      ? 'no mirror holds it (yet)'
      : `its holders stand on ${legs.length} devices, more than ${LEGS_MAX}`;
  throw new DeviceError(
    'ERR_LEGS_UNKNOWN',
    deviceNumber,
    `the legs behind log device ${deviceNumber} are not known: ${why}; cleared regions stay dirty on the log until they are`,
    { cause },
  );
}

interface Leg {
  readonly deviceNumber: string;
  readonly path: string;
  readonly fd: number;
}

/** Flushes the legs behind one log device. Descriptors are kept from one flush to the next. */
export class LegFlusher {
  readonly #logDevice: string;
  readonly #roots: SystemRoots;
  #legs: Leg[] | null = null;
  #generation = 0;
  #running: Promise<void> | null = null;
  #waiting: Promise<void> | null = null;
  #closed = false;

  /** @param logDeviceNumber `major:minor` of the log device. */
  constructor(logDeviceNumber: string, roots: SystemRoots = SYSTEM_ROOTS) {
    this.#logDevice = logDeviceNumber;
    this.#roots = roots;
  }

  /**
   * Resolves when every write that had completed on any leg *before this call* is on stable media. A call during a flush starts a new one after
   * it, because the running one may have passed a leg already; all calls that wait share it.
   *
   * @throws DeviceError `ERR_LEGS_UNKNOWN`, or `ERR_LEG_FLUSH` which names the leg. Hold the clears back and try again later: the
   * legs are then discovered anew.
   */
  flush(): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closedError());
    if (this.#running === null) return this.#run();
    this.#waiting ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#waiting = null;
        return this.#run();
      });
    return this.#waiting;
  }

  /**
   * The mirror's table changed (RESUME, DTR): the next flush discovers the legs anew. Descriptors are closed at once, or after the flush under way:
   * an open descriptor would keep a leg that was taken out of the mirror from being removed.
   */
  invalidate(): void {
    this.#generation++;
    if (this.#running === null) void this.#forget();
  }

  /**
   * Waits for a flush under way, then closes all descriptors. Safe to call twice. A suspended leg can make it wait long: no reply may wait for it.
   */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#waiting?.catch(() => undefined);
    await this.#running?.catch(() => undefined);
    await this.#forget();
  }

  #run(): Promise<void> {
    const run = this.#flushOnce().finally(() => {
      if (this.#running === run) this.#running = null;
    });
    this.#running = run;
    return run;
  }

  async #flushOnce(): Promise<void> {
    if (this.#closed) throw this.#closedError();
    const generation = this.#generation;
    this.#legs ??= await this.#open();
    const legs = this.#legs;
    // All are awaited, not only the first that fails: no sync may still run when the descriptors are closed.
    const results = await Promise.allSettled(legs.map((leg) => syncDescriptor(leg.fd)));
    const failed = results.findIndex((result) => result.status === 'rejected');
    if (failed >= 0 || generation !== this.#generation) await this.#forget();
    if (failed >= 0)
      throw this.#failure(legs[failed] as Leg, (results[failed] as PromiseRejectedResult).reason);
  }

  async #open(): Promise<Leg[]> {
    const legs: Leg[] = [];
    try {
      for (const deviceNumber of await legsOf(this.#logDevice, this.#roots)) {
        legs.push(await openLeg(deviceNumber, this.#logDevice, this.#roots));
      }
      return legs;
    } catch (error) {
      await closeAll(legs);
      throw error;
    }
  }

  async #forget(): Promise<void> {
    const legs = this.#legs ?? [];
    this.#legs = null;
    await closeAll(legs);
  }

  #failure(leg: Leg, cause: unknown): DeviceError {
    return new DeviceError(
      'ERR_LEG_FLUSH',
      leg.path,
      `cannot flush leg ${leg.path} (${leg.deviceNumber}) of the mirror with log device ${this.#logDevice}: ${reason(cause)}; ` +
        'cleared regions stay dirty on the log; look at the kernel log for that device',
      { cause },
    );
  }

  #closedError(): DeviceError {
    return new DeviceError(
      'ERR_LEGS_UNKNOWN',
      this.#logDevice,
      `the legs behind log device ${this.#logDevice} were closed`,
    );
  }
}

/** Read access is enough: fsync of a block device (block/fops.c, `blkdev_fsync`) does not ask how it was opened. */
async function openLeg(deviceNumber: string, logDevice: string, roots: SystemRoots): Promise<Leg> {
  let cause: unknown;
  for (const path of await nodePathsOf(deviceNumber, roots)) {
    try {
      const fd = await openDescriptor(path, O.O_RDONLY | O.O_NONBLOCK);
      const found = await statDescriptor(fd);
      if (found.isBlockDevice() && deviceNumberOf(found.rdev) === deviceNumber)
        return { deviceNumber, path, fd };
      await closeDescriptor(fd);
    } catch (error) {
      cause = error;
    }
  }
  throw new DeviceError(
    'ERR_LEG_FLUSH',
    deviceNumber,
    `cannot open leg ${deviceNumber} of the mirror with log device ${logDevice}: ` +
      `${cause === undefined ? 'it has no device node' : reason(cause)}; cleared regions stay dirty on the log`,
    { cause },
  );
}

async function closeAll(legs: readonly Leg[]): Promise<void> {
  // A failed close of a descriptor that was only ever synced loses nothing: its fsync has already reported.
  await Promise.allSettled(legs.map((leg) => closeDescriptor(leg.fd)));
}
