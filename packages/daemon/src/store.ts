import { alignedBuffer } from './device/aligned.js';
import { LegFlusher } from './device/legs.js';
import { LogDevice } from './device/log-device.js';
import type { OpenedStore } from './opened-store.js';
import type { ImageStore, Legs } from './served.js';

/** `LogDevice` says so of regular files, which have no device number. */
const NO_DEVICE_NUMBER = '0:0';

/** Larger units are not written: one mark costs one block (design rule 3). */
const BLOCK_BYTES_MAX = 4096;

export interface OpenStoreOptions {
  /** Accept a file as the log device: benches and tests, where no kernel will open it. It has no legs. */
  readonly allowRegularFile: boolean;
}

/** Opens a log device and finds what a log has to know of it. Rejects with `DeviceError`. */
export async function openStore(path: string, options: OpenStoreOptions): Promise<OpenedStore> {
  const device = await LogDevice.open(path, { writable: true, allowRegularFile: options.allowRegularFile });
  const isFile = device.deviceNumber === NO_DEVICE_NUMBER;
  const physical = device.physicalBlockBytes;
  return {
    store: imageStore(device, isFile ? device.path : device.deviceNumber),
    legs: isFile ? NO_LEGS : legs(new LegFlusher(device.deviceNumber)),
    kernelName: isFile ? null : device.deviceNumber,
    held: device.held,
    sizeBytes: device.sizeBytes,
    logicalBlockBytes: device.logicalBlockBytes,
    // A write of part of a physical block makes the disk read the rest first.
    blockBytes:
      physical <= BLOCK_BYTES_MAX ? Math.max(physical, device.logicalBlockBytes) : device.logicalBlockBytes,
  };
}

/** Memory for an image that direct I/O accepts. */
export const allocateImage: (bytes: number) => Uint8Array = alignedBuffer;

function imageStore(device: LogDevice, deviceNumber: string): ImageStore {
  return {
    deviceNumber,
    readImage: (image, done) => {
      device.read(image, 0, image.byteLength, 0).then(
        () => done(null),
        (error: Error) => done(error),
      );
    },
    writeRuns: (image, runs, count, done) => device.writeRuns(image, runs, count, done),
    // What is under way ends first; nobody waits for it.
    close: () => void device.close().catch(() => undefined),
  };
}

function legs(flusher: LegFlusher): Legs {
  return {
    flush: (done) => {
      flusher.flush().then(
        () => done(null),
        (error: Error) => done(error),
      );
    },
    invalidate: () => flusher.invalidate(),
    close: () => void flusher.close().catch(() => undefined),
  };
}

const NO_LEGS: Legs = {
  flush: (done) => queueMicrotask(() => done(null)),
  invalidate: () => {},
  close: () => {},
};
