import { stat } from 'node:fs/promises';
import { alignedBuffer } from './aligned.js';
import { closeDescriptor, O, openDescriptor, readDescriptor, statDescriptor } from './descriptor.js';
import { DeviceError, reason, systemCode } from './errors.js';
import {
  type BlockFacts,
  blockFacts,
  deviceNumberOf,
  holdersOf,
  isDeviceNumber,
  nodePathsOf,
  SECTOR_BYTES,
  SYSTEM_ROOTS,
  type SystemRoots,
} from './sysfs.js';
import { type Runs, type WriteCallback, WriteJob } from './write-job.js';

export interface LogDeviceOptions {
  /** False opens for reading only, and tolerates a write-protected device. */
  readonly writable: boolean;
  /** Accept a regular file as a log: tests and tools. The kernel can only hold block devices. */
  readonly allowRegularFile?: boolean;
  /** Where sysfs and the device nodes are. */
  readonly roots?: SystemRoots;
}

/** Direct alignment that a regular file may ask for: 512 on most disks, 4096 where the disk below has such sectors. */
const FILE_BLOCK_BYTES: readonly number[] = [512, 4096];

interface Facts extends BlockFacts {
  readonly deviceNumber: string;
}

/**
 * A dirty log's device, read and written past the page cache (O_DIRECT) and through the device's own cache (O_DSYNC).
 *
 * Never through the page cache: its writeback may have to wait for memory that only a write to the very mirror can free, and a write
 * into the cache is no promise at all. The descriptor is opened once, at CTR; nothing is opened by path after RESUME.
 *
 * The device is *not* held exclusively: the kernel's mirror does that (it opens the device that the CTR reply names), and it would be refused.
 */
export class LogDevice {
  /** The path that was opened. */
  readonly path: string;
  /** `major:minor`; `0:0` for a regular file, which has none. */
  readonly deviceNumber: string;
  readonly sizeBytes: number;
  /** Positions, lengths and memory of a transfer are multiples of this. Pages ({@link alignedBuffer}) always are. */
  readonly logicalBlockBytes: number;
  readonly physicalBlockBytes: number;
  readonly writable: boolean;
  /** Whether device-mapper held it when it was opened, as it does for every log of an existing mirror. Null for a file: nobody can tell. */
  readonly held: boolean | null;
  readonly #fd: number;
  readonly #idle: WriteJob[] = [];
  readonly #release: (job: WriteJob) => void;
  #inFlight = 0;
  #closing: Promise<void> | null = null;
  #onIdle: (() => void) | null = null;

  private constructor(fd: number, path: string, facts: Facts, writable: boolean, held: boolean | null) {
    this.#fd = fd;
    this.path = path;
    this.deviceNumber = facts.deviceNumber;
    this.sizeBytes = facts.sizeBytes;
    this.logicalBlockBytes = facts.logicalBlockBytes;
    this.physicalBlockBytes = facts.physicalBlockBytes;
    this.writable = writable;
    this.held = held;
    this.#release = (job) => {
      this.#idle.push(job);
      this.#ended();
    };
  }

  /**
   * Opens `path` (a path, or `major:minor`).
   *
   * @throws DeviceError with `ERR_LOG_DEVICE_MISSING`, `_NOT_BLOCK`, `_READ_ONLY`, `_IN_USE` or `_OPEN`.
   */
  static async open(path: string, options: LogDeviceOptions): Promise<LogDevice> {
    const roots = options.roots ?? SYSTEM_ROOTS;
    const node = isDeviceNumber(path) ? await nodeOf(path, roots) : path;
    const isBlock = await checkKind(node, options.allowRegularFile === true);
    const held = isBlock ? await refuseForeignUse(node, roots) : null;
    const fd = await openDirect(node, options.writable);
    try {
      const facts = isBlock ? await factsOfBlock(fd, node, roots) : await factsOfFile(fd, node);
      if (isDeviceNumber(path) && facts.deviceNumber !== path)
        throw movedNode(path, node, facts.deviceNumber);
      if (options.writable && facts.readOnly) throw readOnly(node);
      return new LogDevice(fd, node, facts, options.writable, held);
    } catch (error) {
      await closeDescriptor(fd);
      throw error;
    }
  }

  /** @throws DeviceError `ERR_LOG_DEVICE_TOO_SMALL` where the device has fewer than `bytes` bytes. */
  requireSize(bytes: number): void {
    requireSize(this.path, this.sizeBytes, bytes, 'the log needs');
  }

  /**
   * Fills `target[targetOffset, targetOffset + length)` from byte `position`. All three are multiples of {@link logicalBlockBytes}.
   *
   * @throws DeviceError `ERR_LOG_DEVICE_READ`, also where the device ends too early.
   */
  async read(target: Uint8Array, targetOffset: number, length: number, position: number): Promise<void> {
    this.#begin();
    let done = 0;
    try {
      while (done < length) {
        const count = await readDescriptor(
          this.#fd,
          target,
          targetOffset + done,
          length - done,
          position + done,
        );
        const whole = count - (count % this.logicalBlockBytes);
        if (whole === 0) throw new Error(`the device gave ${count} of ${length - done} bytes`);
        done += whole;
      }
    } catch (cause) {
      throw new DeviceError(
        'ERR_LOG_DEVICE_READ',
        this.path,
        `cannot read ${length - done} bytes at byte ${position + done} of log device ${this.path}: ${reason(cause)}; ` +
          'look at the kernel log; a log that cannot be read is taken as "nothing is in sync"',
        { cause },
      );
    } finally {
      this.#ended();
    }
  }

  /**
   * Writes `source[offset, offset + length)` at byte `position`; on stable media when it resolves. Multiples of {@link logicalBlockBytes}.
   *
   * @throws DeviceError `ERR_LOG_DEVICE_WRITE`: nothing is known of the blocks then.
   */
  write(source: Uint8Array, offset: number, length: number, position: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#start(source, offset - position, [position, length], 1, (error) =>
        error === null ? resolve() : reject(error),
      );
    });
  }

  /**
   * The flush path, without promises: writes `count` runs, pairs `offset, length` in `runs`, from the same offsets of `source`, which is the
   * image of the device from byte 0. `callback` is called exactly once; before this returns only where there was nothing to start (`count` is 0,
   * the device is closed or not writable). `source` and `runs` are borrowed until then. Never throws.
   */
  writeRuns(source: Uint8Array, runs: Runs, count: number, callback: WriteCallback): void {
    this.#start(source, 0, runs, count, callback);
  }

  /**
   * Waits for what is under way, then closes. Safe to call twice. The wait matters: a descriptor's number is used again at once, and a write still
   * queued in the thread pool would go to whatever was opened next.
   */
  close(): Promise<void> {
    this.#closing ??= this.#settled().then(() => closeDescriptor(this.#fd));
    return this.#closing;
  }

  #start(source: Uint8Array, shift: number, runs: Runs, count: number, callback: WriteCallback): void {
    if (!this.writable) {
      callback(readOnly(this.path));
      return;
    }
    try {
      this.#begin();
    } catch (error) {
      callback(error as DeviceError);
      return;
    }
    const job = this.#idle.pop() ?? new WriteJob(this.path, this.logicalBlockBytes, this.#release);
    job.start(this.#fd, source, shift, runs, count, callback);
  }

  #begin(): void {
    if (this.#closing !== null) {
      throw new DeviceError(
        'ERR_LOG_DEVICE_OPEN',
        this.path,
        `log device ${this.path} is closed: this is a bug of its user`,
      );
    }
    this.#inFlight++;
  }

  #ended(): void {
    this.#inFlight--;
    if (this.#inFlight === 0) this.#onIdle?.();
  }

  #settled(): Promise<void> {
    if (this.#inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
  }
}

/**
 * Refuses a log device that is too small. `need` begins the clause that ends in the bytes needed: "the log needs".
 *
 * @throws DeviceError `ERR_LOG_DEVICE_TOO_SMALL` where `sizeBytes` is less than `bytes`.
 */
export function requireSize(path: string, sizeBytes: number, bytes: number, need: string): void {
  if (sizeBytes >= bytes) return;
  throw new DeviceError(
    'ERR_LOG_DEVICE_TOO_SMALL',
    path,
    `log device ${path} has ${sizeBytes} bytes, ${need} ${bytes}: use a larger device or larger regions`,
  );
}

async function nodeOf(deviceNumber: string, roots: SystemRoots): Promise<string> {
  const paths = await nodePathsOf(deviceNumber, roots);
  for (const path of paths) {
    const found = await stat(path).catch(() => null);
    if (found?.isBlockDevice() && deviceNumberOf(found.rdev) === deviceNumber) return path;
  }
  throw new DeviceError(
    'ERR_LOG_DEVICE_MISSING',
    deviceNumber,
    `block device ${deviceNumber} has no node at ${paths.join(' or ')}: is devtmpfs mounted, or udev running?`,
  );
}

/** True for a block device, false for an accepted regular file. Asked before the open: opening a FIFO would wait for ever. */
async function checkKind(node: string, allowRegularFile: boolean): Promise<boolean> {
  let found: Awaited<ReturnType<typeof stat>>;
  try {
    found = await stat(node);
  } catch (cause) {
    throw openFailure(node, cause, false);
  }
  if (found.isBlockDevice()) return true;
  if (found.isFile() && allowRegularFile) return false;
  throw new DeviceError(
    'ERR_LOG_DEVICE_NOT_BLOCK',
    node,
    `log device ${node} is not a block device: name one, or attach the file to a loop device (losetup)`,
  );
}

/**
 * Refuses a device that something other than device-mapper uses: a mounted file system, swap, md, or a disk of which a partition is in use.
 *
 * O_EXCL without O_CREAT asks the block layer for an exclusive claim (open(2)); it is given back at once. A claim by device-mapper is
 * welcome: while a table is exchanged, or a daemon restarted, the mirror already holds its log. Returns whether device-mapper holds it.
 */
async function refuseForeignUse(node: string, roots: SystemRoots): Promise<boolean> {
  try {
    await closeDescriptor(await openDescriptor(node, O.O_RDONLY | O.O_EXCL));
    return false;
  } catch (cause) {
    if (systemCode(cause) !== 'EBUSY') throw openFailure(node, cause, false);
    const holders = await holdersOf(deviceNumberOf((await stat(node)).rdev), roots);
    if (holders.length > 0 && holders.every((holder) => holder.startsWith('dm-'))) return true;
    const by =
      holders.length > 0
        ? `by ${holders.join(', ')}`
        : 'as a mounted file system, swap, or through a partition';
    throw new DeviceError(
      'ERR_LOG_DEVICE_IN_USE',
      node,
      `log device ${node} is in use ${by}: a log would overwrite its first blocks; name another device or free this one`,
      { cause },
    );
  }
}

async function openDirect(node: string, writable: boolean): Promise<number> {
  try {
    return await openDescriptor(node, (writable ? O.O_RDWR : O.O_RDONLY) | O.O_DIRECT | O.O_DSYNC);
  } catch (cause) {
    throw openFailure(node, cause, writable);
  }
}

async function factsOfBlock(fd: number, node: string, roots: SystemRoots): Promise<Facts> {
  const found = await statDescriptor(fd);
  if (!found.isBlockDevice()) {
    throw new DeviceError(
      'ERR_LOG_DEVICE_NOT_BLOCK',
      node,
      `log device ${node} was exchanged for a file while it was opened`,
    );
  }
  const deviceNumber = deviceNumberOf(found.rdev);
  return { deviceNumber, ...(await blockFacts(deviceNumber, roots)) };
}

/** A file does not say which alignment its file system wants for direct I/O, so it is tried by reading. */
async function factsOfFile(fd: number, node: string): Promise<Facts> {
  const sizeBytes = (await statDescriptor(fd)).size;
  const probe = alignedBuffer(FILE_BLOCK_BYTES[FILE_BLOCK_BYTES.length - 1] as number);
  for (const bytes of FILE_BLOCK_BYTES) {
    try {
      await readDescriptor(fd, probe, 0, bytes, 0);
      const usable = sizeBytes - (sizeBytes % SECTOR_BYTES);
      return {
        deviceNumber: '0:0',
        sizeBytes: usable,
        logicalBlockBytes: bytes,
        physicalBlockBytes: bytes,
        readOnly: false,
      };
    } catch (error) {
      if (systemCode(error) !== 'EINVAL') throw openFailure(node, error, false);
    }
  }
  throw new DeviceError(
    'ERR_LOG_DEVICE_OPEN',
    node,
    `the file system of ${node} allows no direct I/O in blocks of 512 or 4096`,
  );
}

function openFailure(node: string, cause: unknown, writable: boolean): DeviceError {
  const system = systemCode(cause);
  switch (system) {
    case 'ENOENT':
    case 'ENOTDIR':
    case 'ENODEV':
    case 'ENXIO':
    case 'ENOMEDIUM':
      return new DeviceError(
        'ERR_LOG_DEVICE_MISSING',
        node,
        `there is no log device ${node} (${system}): check the name in the mirror's table`,
        { cause },
      );
    case 'EROFS':
    case 'EACCES':
    case 'EPERM':
      if (writable) return readOnly(node, cause);
      break;
    default:
  }
  return new DeviceError('ERR_LOG_DEVICE_OPEN', node, `cannot open log device ${node}: ${reason(cause)}`, {
    cause,
  });
}

function readOnly(node: string, cause?: unknown): DeviceError {
  return new DeviceError(
    'ERR_LOG_DEVICE_READ_ONLY',
    node,
    `log device ${node} cannot be written: it is write-protected (blockdev --setrw ${node}) or this process lacks the right`,
    { cause },
  );
}

function movedNode(wanted: string, node: string, found: string): DeviceError {
  return new DeviceError(
    'ERR_LOG_DEVICE_MISSING',
    wanted,
    `block device ${wanted} went away: ${node} is ${found} now; repeat the command with the device's new number`,
  );
}
