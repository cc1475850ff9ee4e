import { afterAll, afterEach, beforeAll } from 'vitest';
import { type Lab, openLab } from '../src/index.js';

/**
 * The lab of one test file: opened before its first test, closed after its last. When a test fails, the machines' consoles are kept and
 * their paths printed.
 * @returns a function, since the lab exists only once tests run: `const lab = useLab(); … await lab().boot()`.
 */
export function useLab(): () => Lab {
  let lab: Lab | undefined;
  beforeAll(async () => {
    lab = await openLab();
  });
  afterEach((context) => {
    if (context.task.result?.state === 'fail') lab?.noteFailure();
  });
  afterAll(() => lab?.close());
  return () => {
    if (lab === undefined)
      throw new Error('the lab is open only while tests run: call lab() inside a test or hook');
    return lab;
  };
}

/** The kernel's own disk log (drivers/md/dm-log.c, format version 2), read independently of our packages. */
export interface DiskLogImage {
  readonly magic: number;
  readonly version: number;
  readonly regionCount: number;
  /** Regions whose bit is 0: may differ between legs. */
  readonly dirtyRegions: number[];
}

export const DISK_LOG_MAGIC = 0x4d695272;
const BITMAP_OFFSET_BYTES = 1024;

/** Sector 0: u32 magic, u32 version, u64 regions; from byte 1024 one bit per region, little-endian bit order, 1 is clean. */
export function decodeDiskLog(bytes: Buffer, regionCount: number): DiskLogImage {
  const dirtyRegions: number[] = [];
  for (let region = 0; region < regionCount; region++) {
    const byte = bytes.readUInt8(BITMAP_OFFSET_BYTES + (region >> 3));
    if (((byte >> (region & 7)) & 1) === 0) dirtyRegions.push(region);
  }
  return {
    magic: bytes.readUInt32LE(0),
    version: bytes.readUInt32LE(4),
    regionCount: Number(bytes.readBigUInt64LE(8)),
    dirtyRegions,
  };
}
