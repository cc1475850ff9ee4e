import { close, fstat, open, read } from 'node:fs';
import { promisify } from 'node:util';
import { RegionBitmap } from '@dmlog/bitmap';
import { alignedBuffer, LogDevice } from '@dmlog/daemon';
import {
  BITMAP_OFFSET,
  HEADER_BYTES,
  IMAGE_MAGIC,
  type ImageHeader,
  imageBytes,
  judgeHeader,
  readHeader,
} from '@dmlog/log';
import { CommandFailure, ExitCode } from './exit-codes.js';

const SECTOR_BYTES = 512;

/** A log's on-disk image, as it was at one moment. */
export interface Image {
  readonly path: string;
  readonly sizeBytes: number;
  readonly header: ImageHeader;
  /** Bit set: clean. As many regions as the header says. */
  readonly clean: RegionBitmap;
  /** Bits that are set in the bitmap's last 8 bytes behind the last region: the kernel clears them. */
  readonly strayBits: number;
}

/**
 * Reads the image on a block device (past the page cache, so that what a live log has written is seen) or in a file.
 *
 * @throws CommandFailure `DATA` where there is no image that can be read; DeviceError; errors of the file system.
 */
export async function readImage(path: string): Promise<Image> {
  const source = await openSource(path);
  try {
    const head = await source.read(BITMAP_OFFSET);
    const header = readHeader(head);
    const verdict = judgeHeader(header);
    if (verdict.kind === 'blank') {
      const magic = `0x${header.magic.toString(16).padStart(8, '0')}`;
      throw new CommandFailure(
        ExitCode.DATA,
        `${path} holds no dirty log: it begins with ${magic}, a log with 0x${IMAGE_MAGIC.toString(16)}; is this the log device of the mirror (dmsetup table)?`,
      );
    }
    if (verdict.kind === 'refused') throw new CommandFailure(ExitCode.DATA, `${path}: ${verdict.reason}`);
    const needed = imageBytes(verdict.regionCount, SECTOR_BYTES);
    if (verdict.regionCount === 0 || needed > source.sizeBytes) {
      throw new CommandFailure(
        ExitCode.DATA,
        `${path}: the header names ${header.regionCount} regions, which need ${needed} bytes, and there are ${source.sizeBytes}: the header is damaged, or the device was cut`,
      );
    }
    const bytes = (await source.read(needed)).subarray(BITMAP_OFFSET);
    const clean = new RegionBitmap(verdict.regionCount);
    clean.load(bytes);
    return {
      path,
      sizeBytes: source.sizeBytes,
      header,
      clean,
      strayBits: strayBits(bytes, verdict.regionCount),
    };
  } finally {
    await source.close();
  }
}

function strayBits(bytes: Uint8Array, regionCount: number): number {
  const end = Math.ceil(regionCount / 64) * 8;
  let count = 0;
  for (let bit = regionCount; bit < end * 8; bit++) count += ((bytes[bit >> 3] ?? 0) >> (bit & 7)) & 1;
  return count;
}

interface Source {
  readonly sizeBytes: number;
  /** The first `length` bytes. */
  read(length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

async function openSource(path: string): Promise<Source> {
  const fd = await promisify(open)(path, 'r');
  const found = await promisify(fstat)(fd);
  if (!found.isBlockDevice()) {
    return {
      sizeBytes: found.size,
      read: async (length) => {
        if (length > found.size) throw tooShort(path, found.size);
        const bytes = new Uint8Array(length);
        const { bytesRead } = await promisify(read)(fd, bytes, 0, length, 0);
        if (bytesRead < length) throw tooShort(path, bytesRead);
        return bytes;
      },
      close: () => promisify(close)(fd),
    };
  }
  await promisify(close)(fd);
  const device = await LogDevice.open(path, { writable: false });
  return {
    sizeBytes: device.sizeBytes,
    read: async (length) => {
      const whole = Math.ceil(length / device.logicalBlockBytes) * device.logicalBlockBytes;
      if (whole > device.sizeBytes) throw tooShort(path, device.sizeBytes);
      const bytes = alignedBuffer(whole);
      await device.read(bytes, 0, whole, 0);
      return bytes.subarray(0, length);
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
