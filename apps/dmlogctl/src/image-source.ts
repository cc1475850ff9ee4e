import { close, fstat, fsync, open, read, write } from 'node:fs';
import { promisify } from 'node:util';
import { alignedBuffer, LogDevice } from '@dmlog/daemon';
import { BITMAP_OFFSET, HEADER_BYTES } from '@dmlog/log';
import { CommandFailure, ExitCode } from './exit-codes.js';

/** The smallest unit that a disk loses. */
const SECTOR_BYTES = 512;

/** A block device or a file with an image on it. Positions and lengths of writes are multiples of {@link blockBytes}. */
export interface ImageSource {
  readonly sizeBytes: number;
  readonly blockBytes: number;
  /** Whether a device-mapper table holds the device now. */
  readonly held: boolean;
  /** `length` bytes from `position`, a multiple of {@link blockBytes}. */
  read(length: number, position?: number): Promise<Uint8Array>;
  /** On stable media when it resolves. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens a block device (past the page cache, so that what a live log has written is seen) or a file.
 *
 * @throws DeviceError; errors of the file system.
 */
export async function openSource(path: string, { writable }: { writable: boolean }): Promise<ImageSource> {
  const fd = await promisify(open)(path, writable ? 'r+' : 'r');
  const found = await promisify(fstat)(fd);
  if (found.isBlockDevice()) {
    await promisify(close)(fd);
    return onDevice(await LogDevice.open(path, { writable }));
  }
  return onFile(path, fd, found.size);
}

/** Reads whole blocks; one that cannot be read is zeros, and its position is added to `unreadable`. */
export async function readWhatCan(
  source: ImageSource,
  position: number,
  length: number,
  unreadable: Set<number>,
): Promise<Uint8Array> {
  try {
    return await source.read(length, position);
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code !== 'EIO' && code !== 'ERR_LOG_DEVICE_READ') throw error;
    if (length <= source.blockBytes) {
      unreadable.add(position);
      return new Uint8Array(length);
    }
    const half = Math.ceil(length / source.blockBytes / 2) * source.blockBytes;
    const bytes = new Uint8Array(length);
    bytes.set(await readWhatCan(source, position, half, unreadable), 0);
    bytes.set(await readWhatCan(source, position + half, length - half, unreadable), half);
    return bytes;
  }
}

function onFile(path: string, fd: number, sizeBytes: number): ImageSource {
  return {
    sizeBytes,
    blockBytes: SECTOR_BYTES,
    held: false,
    read: async (length, position = 0) => {
      if (position + length > sizeBytes) throw tooShort(path, sizeBytes);
      const bytes = new Uint8Array(length);
      for (let done = 0; done < length; ) {
        const { bytesRead } = await promisify(read)(fd, bytes, done, length - done, position + done);
        if (bytesRead === 0) throw tooShort(path, position + done);
        done += bytesRead;
      }
      return bytes;
    },
    write: async (bytes, position) => {
      for (let done = 0; done < bytes.byteLength; ) {
        done += (await promisify(write)(fd, bytes, done, bytes.byteLength - done, position + done))
          .bytesWritten;
      }
      await promisify(fsync)(fd);
    },
    close: () => promisify(close)(fd),
  };
}

function onDevice(device: LogDevice): ImageSource {
  const { logicalBlockBytes, sizeBytes } = device;
  return {
    sizeBytes,
    blockBytes: logicalBlockBytes,
    held: device.held === true,
    read: async (length, position = 0) => {
      const whole = Math.ceil(length / logicalBlockBytes) * logicalBlockBytes;
      if (position + whole > sizeBytes) throw tooShort(device.path, sizeBytes);
      const bytes = alignedBuffer(whole);
      await device.read(bytes, 0, whole, position);
      return bytes.subarray(0, length);
    },
    write: (bytes, position) => {
      const aligned = alignedBuffer(bytes.byteLength);
      aligned.set(bytes);
      return device.write(aligned, 0, bytes.byteLength, position);
    },
    close: () => device.close(),
  };
}

function tooShort(path: string, bytes: number): CommandFailure {
  return new CommandFailure(
    ExitCode.DATA,
    `${path} has ${bytes} bytes: too few for a log (header of ${HEADER_BYTES} bytes, bitmap from byte ${BITMAP_OFFSET})`,
  );
}
