import { closeSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunReport } from './driver.js';
import { ensureCacheDirectory } from './paths.js';
import { processCost } from './proc.js';
import { REGION_COUNTS } from './rounds.js';
import { type StartOptions, startSubject } from './subjects.js';

/** What singled takes from the machine. Bytes, unless the name says otherwise. */
export interface Footprint {
  /** Started, no log yet. */
  readonly rssEmptyBytes: number;
  /** One mirror of 2^16 regions, after a while of writes. */
  readonly rssOneMirrorBytes: number;
  readonly peakRssOneMirrorBytes: number;
  /** Growth by a second mirror of 2^27 regions, after writes all over it. */
  readonly bitsPerRegion: number;
  /** The same from the highest memory ever, so with what CTR and RESUME needed meanwhile. */
  readonly peakBitsPerRegion: number;
  readonly idleSeconds: number;
  readonly idleTicks: number;
  readonly idleMicroseconds: number;
  readonly disk: DiskCost;
}

/** Bytes that reached the log device, 2^16 regions on a `disk` log. */
export interface DiskCost {
  readonly cycles: number;
  /** Write cycles, each to a region idle so far. */
  readonly idleBytesPerCycle: number;
  /** Clears written after the last cycle, per cycle. */
  readonly laterBytesPerCycle: number;
  /** Write cycles to one region, after its first. */
  readonly hotBytesPerCycle: number;
  readonly idleReport: RunReport;
  readonly hotReport: RunReport;
}

export interface FootprintOptions extends StartOptions {
  readonly runMs: number;
  readonly settleMs: number;
  readonly idleMs: number;
  readonly diskCycles: number;
}

/** Measures one fresh singled. */
export async function measureFootprint(options: FootprintOptions): Promise<Footprint> {
  const { small, large } = REGION_COUNTS;
  const subject = await startSubject('singled', options);
  try {
    const { driver, pid } = subject;
    const empty = processCost(pid);
    await driver.open({ log: 0, regions: small, args: 'core 2 nosync' });
    await subject.run({ script: 'write', log: 0, ms: options.runMs, strict: true });
    const oneMirror = processCost(pid);

    await sleep(options.settleMs);
    const idleFrom = processCost(pid);
    await sleep(options.idleMs);
    const idleTo = processCost(pid);

    // Disk before the large log: garbage of one must not count for the other.
    const disk = await measureDisk(subject, options);
    const before = processCost(pid);
    await driver.open({ log: 2, regions: large, args: 'core 2 nosync' });
    await subject.run({ script: 'types', log: 2, ms: options.runMs, strict: true });
    const after = processCost(pid);
    await driver.close(2);
    await driver.close(0);
    return {
      rssEmptyBytes: empty.rssBytes,
      rssOneMirrorBytes: oneMirror.rssBytes,
      peakRssOneMirrorBytes: oneMirror.peakRssBytes,
      bitsPerRegion: ((after.rssBytes - before.rssBytes) * 8) / large,
      peakBitsPerRegion: ((after.peakRssBytes - before.rssBytes) * 8) / large,
      idleSeconds: options.idleMs / 1000,
      idleTicks: idleTo.cpuTicks - idleFrom.cpuTicks,
      idleMicroseconds: (idleTo.cpuNs - idleFrom.cpuNs) / 1000,
      disk,
    };
  } finally {
    await subject.stop();
  }
}

async function measureDisk(
  subject: Awaited<ReturnType<typeof startSubject>>,
  options: FootprintOptions,
): Promise<DiskCost> {
  const { driver, pid } = subject;
  const device = join(ensureCacheDirectory(), `log-${process.pid}.img`);
  createLogDevice(device, REGION_COUNTS.small);
  try {
    await driver.open({ log: 1, regions: REGION_COUNTS.small, args: `disk ${device} 2 nosync` });
    await subject.run({ script: 'write', pattern: 'hot', log: 1, cycles: 1, strict: true });
    await sleep(options.settleMs); // what RESUME and the first cycle still owe the device
    const written = () => processCost(pid).writtenBytes;
    const start = written();
    const cycles = options.diskCycles;
    const idleReport = await subject.run({
      script: 'write',
      pattern: 'random',
      log: 1,
      cycles,
      strict: true,
    });
    const afterIdle = written();
    await sleep(options.settleMs);
    const settled = written();
    await subject.run({ script: 'write', pattern: 'hot', log: 1, cycles: 1, strict: true });
    const beforeHot = written();
    const hotReport = await subject.run({ script: 'write', pattern: 'hot', log: 1, cycles, strict: true });
    const afterHot = written();
    await driver.close(1);
    return {
      cycles,
      idleBytesPerCycle: (afterIdle - start) / cycles,
      laterBytesPerCycle: (settled - afterIdle) / cycles,
      hotBytesPerCycle: (afterHot - beforeHot) / cycles,
      idleReport,
      hotReport,
    };
  } finally {
    rmSync(device, { force: true });
  }
}

/** Header of the log image before its bitmap, dm-log.c LOG_OFFSET << SECTOR_SHIFT. */
const LOG_HEADER_BYTES = 1024;
const BLOCK_BYTES = 4096;

/** A file of zeros, really allocated: writing into a hole would also write the file system's own metadata. */
function createLogDevice(path: string, regions: number): void {
  const bytes = Math.ceil((LOG_HEADER_BYTES + regions / 8) / BLOCK_BYTES) * BLOCK_BYTES;
  const fd = openSync(path, 'w', 0o600);
  try {
    writeSync(fd, new Uint8Array(bytes));
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
