import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { RUNS_AT_ONCE_MAX } from '../src/device/write-job.js';
import { alignedBuffer, LogDevice } from '../src/index.js';
import { rejection, scratchDirectory, scratchFile } from './helpers/scratch.js';

const FILE = { writable: true, allowRegularFile: true } as const;

afterEach(() => {
  vi.restoreAllMocks();
});

function writeRuns(
  device: LogDevice,
  image: Uint8Array,
  runs: readonly number[],
  count: number,
): Promise<void> {
  return new Promise((resolve, reject) => {
    device.writeRuns(image, runs, count, (error) => (error === null ? resolve() : reject(error)));
  });
}

describe('alignedBuffer', () => {
  it('is what direct I/O takes, and a plain Buffer is not', async () => {
    const file = scratchFile(8192);
    const flags = fs.constants.O_RDWR | fs.constants.O_DIRECT;
    const fd = fs.openSync(file, flags);
    expect(fs.writeSync(fd, alignedBuffer(4096), 0, 4096, 0)).toBe(4096);
    expect(() => fs.writeSync(fd, Buffer.alloc(8192), 1, 4096, 0)).toThrow(/EINVAL/);
    fs.closeSync(fd);
  });

  it('is zeroed and as long as asked', () => {
    const buffer = alignedBuffer(70_000);
    expect(buffer.length).toBe(70_000);
    expect(buffer.every((byte) => byte === 0)).toBe(true);
  });

  it('of many logs takes few memories, each of which costs 10 GiB of addresses, and none overlap', () => {
    const file = scratchFile(8192);
    const fd = fs.openSync(file, fs.constants.O_RDWR | fs.constants.O_DIRECT);
    const sizes = Array.from({ length: 300 }, (_, i) => [512, 4096, 4608, 100_000][i % 4] as number);
    const buffers = sizes.map((bytes, i) => alignedBuffer(bytes).fill(i & 0xff));
    for (const [i, buffer] of buffers.entries()) {
      expect(buffer.every((byte) => byte === (i & 0xff))).toBe(true);
      expect(fs.writeSync(fd, buffer, 0, 512, 0)).toBe(512);
    }
    fs.closeSync(fd);
    expect(new Set(buffers.map(({ buffer }) => buffer)).size).toBeLessThan(20);
  });

  it.each([0, -1, 1.5, Number.NaN, 2 ** 32 + 1])('refuses %d bytes', (bytes) => {
    expect(() => alignedBuffer(bytes)).toThrow(RangeError);
  });
});

describe('LogDevice on a file', () => {
  it('reads back what was written, and nothing else is changed', async () => {
    const file = scratchFile(64 * 1024);
    const device = await LogDevice.open(file, FILE);
    const image = alignedBuffer(64 * 1024).fill(7);
    await device.write(image, 4096, 8192, 16384);
    const back = alignedBuffer(64 * 1024);
    await device.read(back, 0, 64 * 1024, 0);
    await device.close();
    expect(back.subarray(0, 16384).every((byte) => byte === 0xee)).toBe(true);
    expect(back.subarray(16384, 24576).every((byte) => byte === 7)).toBe(true);
    expect(back.subarray(24576).every((byte) => byte === 0xee)).toBe(true);
    expect(device).toMatchObject({ deviceNumber: '0:0', sizeBytes: 65536, writable: true, path: file });
  });

  it('opens with O_DIRECT and O_DSYNC', async () => {
    const file = scratchFile(8192);
    const device = await LogDevice.open(file, FILE);
    const fd = fs.readdirSync('/proc/self/fd').find((name) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${name}`) === file;
      } catch {
        return false;
      }
    });
    const flags = Number.parseInt(
      /flags:\s+([0-7]+)/.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '',
      8,
    );
    expect(flags & fs.constants.O_DIRECT).toBe(fs.constants.O_DIRECT);
    expect(flags & fs.constants.O_DSYNC).toBe(fs.constants.O_DSYNC);
    await device.close();
  });

  it('writes exactly the runs it is given', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(fc.nat(15), { maxLength: 6 }), async (blocks) => {
        const file = scratchFile(16 * 4096);
        const device = await LogDevice.open(file, FILE);
        const image = alignedBuffer(16 * 4096).map((_, at) => at >> 12);
        const runs = blocks.flatMap((block) => [block * 4096, 4096]);
        await writeRuns(device, aligned(image), [...runs, 999, 999], blocks.length);
        await device.close();
        const content = fs.readFileSync(file);
        for (let block = 0; block < 16; block++) {
          const expected = blocks.includes(block) ? block : 0xee;
          expect(content.subarray(block * 4096, (block + 1) * 4096).every((byte) => byte === expected)).toBe(
            true,
          );
        }
      }),
      { numRuns: 20 },
    );
  });

  it('goes on after a short write, from the last whole block', async () => {
    const file = scratchFile(16384);
    const device = await LogDevice.open(file, FILE);
    const real = fs.write;
    const block = device.logicalBlockBytes;
    const lengths: number[] = [];
    vi.spyOn(fs, 'write').mockImplementation(((
      fd: number,
      from: Uint8Array,
      at: number,
      length: number,
      position: number,
      done: (e: Error | null, n: number) => void,
    ) => {
      lengths.push(length);
      // The device takes two blocks and a half; the half must be written again.
      const taken = Math.min(length, 2 * block);
      real(fd, from, at, taken, position, (error, written) =>
        done(error, written < length ? written + block / 2 : written),
      );
    }) as unknown as typeof fs.write);
    const image = alignedBuffer(16384).fill(3);
    await writeRuns(device, image, [0, 6 * block], 1);
    expect(lengths).toEqual([6 * block, 4 * block, 2 * block]);
    vi.restoreAllMocks();
    await device.close();
    expect(
      fs
        .readFileSync(file)
        .subarray(0, 6 * block)
        .every((byte) => byte === 3),
    ).toBe(true);
    expect(fs.readFileSync(file)[6 * block]).toBe(0xee);
  });

  it('begins runs at once, so that a slow device costs its latency once', async () => {
    const device = await LogDevice.open(scratchFile(32768), FILE);
    let underWay = 0;
    let most = 0;
    vi.spyOn(fs, 'write').mockImplementation(((...args: unknown[]) => {
      most = Math.max(most, ++underWay);
      setImmediate(() => {
        underWay--;
        (args[5] as (e: null, n: number) => void)(null, args[3] as number);
      });
    }) as unknown as typeof fs.write);
    const runs = Array.from({ length: 3 * RUNS_AT_ONCE_MAX }, (_, n) => [8192 * n, 4096]).flat();
    await writeRuns(device, alignedBuffer(8192 * 3 * RUNS_AT_ONCE_MAX), runs, runs.length / 2);
    expect(most).toBe(RUNS_AT_ONCE_MAX);
    expect(underWay).toBe(0);
    vi.restoreAllMocks();
    await device.close();
  });

  it('reports a device that takes nothing, begins no more, and waits for what is under way', async () => {
    const device = await LogDevice.open(scratchFile(16384), FILE);
    let calls = 0;
    let ended = 0;
    vi.spyOn(fs, 'write').mockImplementation(((...args: unknown[]) => {
      // The second one is slow: its memory is borrowed until it ends.
      setTimeout(
        () => {
          ended++;
          (args[5] as (e: null, n: number) => void)(null, 0);
        },
        ++calls === 2 ? 20 : 0,
      );
    }) as unknown as typeof fs.write);
    const runs = Array.from({ length: RUNS_AT_ONCE_MAX + 4 }, (_, n) => [8192 * n, 4096]).flat();
    const image = alignedBuffer(8192 * runs.length);
    const error = await rejection(() => writeRuns(device, image, runs, runs.length / 2));
    expect(error).toMatchObject({ code: 'ERR_LOG_DEVICE_WRITE', errno: 5, device: device.path });
    expect([calls, ended]).toEqual([RUNS_AT_ONCE_MAX, RUNS_AT_ONCE_MAX]);
    vi.restoreAllMocks();
    await device.close();
  });

  it("passes the system's error on, with the place", async () => {
    const device = await LogDevice.open(scratchFile(16384), FILE);
    // One byte off the block: EINVAL from the kernel.
    const error = await rejection(() => writeRuns(device, alignedBuffer(16384), [1, 4096], 1));
    expect(error.message).toMatch(/at byte 1 of log device .*EINVAL/);
    await device.close();
  });

  it('does not read past the end in silence', async () => {
    const device = await LogDevice.open(scratchFile(8192), FILE);
    const error = await rejection(() => device.read(alignedBuffer(16384), 0, 16384, 0));
    expect(error).toMatchObject({ code: 'ERR_LOG_DEVICE_READ', errno: 5 });
    expect(error.message).toMatch(/cannot read 8192 bytes at byte 8192/);
    await device.close();
  });

  it('requires a size', async () => {
    const device = await LogDevice.open(scratchFile(8192), FILE);
    expect(() => device.requireSize(8192)).not.toThrow();
    expect(() => device.requireSize(8193)).toThrow(
      expect.objectContaining({ code: 'ERR_LOG_DEVICE_TOO_SMALL', errno: 22 }),
    );
    await device.close();
  });

  it('serves several writes at once', async () => {
    const file = scratchFile(32768);
    const device = await LogDevice.open(file, FILE);
    const image = alignedBuffer(32768).fill(9);
    await Promise.all([0, 1, 2, 3].map((n) => writeRuns(device, image, [n * 8192, 4096], 1)));
    await device.close();
    for (const n of [0, 1, 2, 3]) {
      expect(fs.readFileSync(file)[n * 8192]).toBe(9);
      expect(fs.readFileSync(file)[n * 8192 + 4096]).toBe(0xee);
    }
  });

  it('closes only after the writes under way, and then refuses more', async () => {
    const device = await LogDevice.open(scratchFile(8192), FILE);
    const events: string[] = [];
    const write = writeRuns(device, alignedBuffer(8192), [0, 4096], 1).then(() => events.push('written'));
    const close = device.close().then(() => events.push('closed'));
    expect(device.close()).toBe(device.close());
    await Promise.all([write, close]);
    expect(events).toEqual(['written', 'closed']);
    expect(await rejection(() => writeRuns(device, alignedBuffer(8192), [0, 4096], 1))).toMatchObject({
      code: 'ERR_LOG_DEVICE_OPEN',
    });
    expect(await rejection(() => device.read(alignedBuffer(4096), 0, 4096, 0))).toMatchObject({
      code: 'ERR_LOG_DEVICE_OPEN',
    });
  });

  it('does not write where it was opened for reading', async () => {
    const device = await LogDevice.open(scratchFile(8192), { writable: false, allowRegularFile: true });
    expect(await rejection(() => device.write(alignedBuffer(4096), 0, 4096, 0))).toMatchObject({
      code: 'ERR_LOG_DEVICE_READ_ONLY',
      errno: 30,
    });
    await device.close();
  });
});

describe('LogDevice.open refuses', () => {
  it('what is not there', async () => {
    const missing = path.join(scratchDirectory(), 'nothing');
    expect(await rejection(() => LogDevice.open(missing, FILE))).toMatchObject({
      code: 'ERR_LOG_DEVICE_MISSING',
      errno: 2,
    });
    expect(await rejection(() => LogDevice.open('4095:77', FILE))).toMatchObject({
      code: 'ERR_LOG_DEVICE_MISSING',
    });
  });

  it('a file, unless files are allowed; a directory and a FIFO always', async () => {
    const error = await rejection(() => LogDevice.open(scratchFile(4096), { writable: true }));
    expect(error).toMatchObject({ code: 'ERR_LOG_DEVICE_NOT_BLOCK', errno: 15 });
    expect(error.message).toContain('losetup');
    expect(await rejection(() => LogDevice.open('/dev/null', FILE))).toMatchObject({
      code: 'ERR_LOG_DEVICE_NOT_BLOCK',
    });
    expect(await rejection(() => LogDevice.open(scratchDirectory(), FILE))).toMatchObject({
      code: 'ERR_LOG_DEVICE_NOT_BLOCK',
    });
  });
});

function aligned(bytes: Uint8Array): Uint8Array {
  const buffer = alignedBuffer(bytes.length);
  buffer.set(bytes);
  return buffer;
}
