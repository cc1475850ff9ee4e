import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { bitmapBytes, RegionBitmap } from '@dmlog/bitmap';
import { adoptBits, BITMAP_OFFSET, imageBytes, readHeader, writeHeader } from '@dmlog/log';
import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type ImageSource, readWhatCan } from '../src/image-source.js';
import { judge, planRepair } from '../src/repair-plan.js';
import { run, scratch } from './helpers/daemon.js';

const BLOCK = 512;

function imageOf(regions: number, dirty: readonly number[], change: (bytes: Uint8Array) => void = () => {}) {
  const bytes = new Uint8Array(imageBytes(regions, BLOCK));
  writeHeader(bytes, regions);
  for (let r = 0; r < regions; r++) bytes[BITMAP_OFFSET + (r >> 3)]! |= 1 << (r & 7);
  for (const r of dirty) bytes[BITMAP_OFFSET + (r >> 3)]! &= ~(1 << (r & 7));
  change(bytes);
  return bytes;
}

function fileOf(bytes: Uint8Array): string {
  const file = path.join(scratch(), 'image');
  fs.writeFileSync(file, bytes);
  return file;
}

/** Whether loop devices can be used here; where not, that is said loudly, as by the tests of the daemon's devices. */
function hasLoopDevices(): boolean {
  try {
    execFileSync('losetup', ['--find'], { stdio: 'pipe' });
    return process.getuid?.() === 0;
  } catch (error) {
    console.warn(
      `SKIPPED: repair of a block device: ${error instanceof Error ? error.message : String(error)}`,
    );
    return false;
  }
}

const NO_WISHES = { regions: undefined, dirty: [], allDirty: false };

describe('repair', () => {
  it('shows what it would do, and writes nothing unless it is told to', async () => {
    const image = imageOf(1000, [3], (bytes) => (bytes[BITMAP_OFFSET + 127] = 0xff));
    const file = fileOf(image);
    for (const flags of [[], ['--tentative']]) {
      const { code, out } = await run(['repair', file, '--dirty', '7', '900-902', ...flags]);
      expect(code).toBe(1);
      expect(out).toContain('8 bits are set behind the last region');
      expect(out).toMatch(/dirty +5, of which 4 were clean: 7, 900-902\n/);
      expect(out).toContain('nothing was written');
      expect(fs.readFileSync(file).equals(image)).toBe(true);
    }
    expect(await run(['repair', file, '--tentative', '--write'])).toMatchObject({ code: 64 });
    const whole = await run(['repair', fileOf(imageOf(70, [5]))]);
    expect(whole).toMatchObject({ code: 0 });
    expect(whole.out).toContain('nothing to repair');
  });

  it('writes, and keeps the bytes as they were; the line that it prints undoes it', async () => {
    const before = imageOf(9000, [3], (bytes) => (bytes[4] = 9));
    const file = fileOf(before);
    const backup = path.join(path.dirname(file), 'kept');
    const { code, out } = await run([
      ...['repair', file, '--write', '--regions', '9000', '--backup', backup],
    ]);
    expect(code).toBe(0);
    expect(out).toContain('format version 9 is not known');
    expect(out).toMatch(/dirty +9000/);
    expect(await run(['verify', file, '--regions', '9000'])).toMatchObject({ code: 0 });
    expect(fs.readFileSync(backup).equals(before)).toBe(true);
    const undo = /to undo it: (dd .*)\n/.exec(out)?.[1] as string;
    execFileSync('sh', ['-c', undo], { stdio: 'pipe' });
    expect(fs.readFileSync(file).equals(before)).toBe(true);
    // What was kept is never written over.
    expect(await run(['repair', file, '--write', '--regions', '9000', '--backup', backup])).toMatchObject({
      code: 71,
    });
    expect(fs.readFileSync(file).equals(before)).toBe(true);
  });

  it.each([
    ['a damaged count', (bytes: Uint8Array) => (bytes[10] = 0xff), 65, /which cannot be: say how many/],
    ['no log at all', (bytes: Uint8Array) => bytes.fill(0), 65, /holds no dirty log.*nothing to repair/],
  ])('needs more than %s', async (_what, change, exitCode, message) => {
    const { code, error } = await run(['repair', fileOf(imageOf(70, [], change)), '--write']);
    expect(code).toBe(exitCode);
    expect(error).toMatch(message);
  });

  it('refuses regions that there are not, and a log that the device has no room for', async () => {
    const file = fileOf(imageOf(70, []));
    expect(await run(['repair', file, '--dirty', '70'])).toMatchObject({ code: 64 });
    expect(await run(['repair', file, '--dirty', '9-3'])).toMatchObject({ code: 64 });
    expect(await run(['repair', file, '--regions', '1.5'])).toMatchObject({ code: 64 });
    const { code, error } = await run(['repair', file, '--regions', '9000']);
    expect(code).toBe(65);
    expect(error).toContain('needs');
  });

  it.runIf(hasLoopDevices())(
    'writes past the page cache of a device, and refuses the file below it',
    async () => {
      const file = fileOf(imageOf(70, [5], (bytes) => (bytes[BITMAP_OFFSET + 15] = 1)));
      const loop = execFileSync('losetup', ['--find', '--show', '--direct-io=off', file], {
        encoding: 'utf8',
      }).trim();
      onTestFinished(() => void execFileSync('losetup', ['--detach', loop]));
      const below = await run(['repair', file, '--write'], { sysfsRoot: '/sys' });
      expect(below).toMatchObject({ code: 71 });
      expect(below.error).toContain(loop);
      const backup = path.join(path.dirname(file), 'kept');
      expect((await run(['repair', loop, '--write', '--backup', backup])).out).toContain('written');
      expect(await run(['verify', loop, '--regions', '70'])).toMatchObject({ code: 0 });
      expect(await run(['repair', loop])).toMatchObject({ code: 0 });
    },
  );
});

describe('a repaired image', () => {
  it('never has a region clean that the old one, as a daemon takes it, had dirty', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 6000 }),
        fc.uint8Array({ minLength: 0, maxLength: 750 }),
        fc.constantFrom(0, 1, 2, 9),
        fc.oneof(fc.integer({ min: 1, max: 6000 }), fc.constantFrom(0, 0x7fffffff)),
        fc.option(fc.integer({ min: 1, max: 6000 }), { nil: undefined }),
        fc.option(fc.constantFrom(512, 1024, 1536), { nil: null }),
        (tableRegions, bits, version, count, regions, lost) => {
          const sizeBytes = imageBytes(6000, BLOCK);
          const device = new Uint8Array(sizeBytes);
          device.set(bits, BITMAP_OFFSET);
          writeHeader(device, count);
          device[4] = version;
          const old = device.slice();
          if (lost !== null) device.fill(0, lost, lost + BLOCK);
          const wishes = { ...NO_WISHES, regions };
          let judgement: ReturnType<typeof judge>;
          try {
            judgement = judge('x', device, { sizeBytes, blockBytes: BLOCK }, wishes);
          } catch (error) {
            expect(error).toMatchObject({ exitCode: 65 });
            return;
          }
          const length = imageBytes(judgement.regionCount, BLOCK);
          const unreadable = new Set(lost !== null && lost < length ? [lost] : []);
          const repaired = planRepair(device.slice(0, length), BLOCK, judgement, unreadable, wishes);
          const after = old.slice();
          for (const { offset, length: bytes } of repaired.changes)
            after.set(repaired.bytes.subarray(offset, offset + bytes), offset);
          const taken = (image: Uint8Array): RegionBitmap | null => {
            const clean = new RegionBitmap(tableRegions);
            return adoptBits(
              image.slice(0, imageBytes(tableRegions, BLOCK)),
              tableRegions,
              'default',
              clean,
            ) === null
              ? clean
              : null;
          };
          const [cleanBefore, cleanAfter] = [taken(old), taken(after)];
          expect(cleanAfter).not.toBeNull();
          expect(readHeader(after)).toMatchObject({ version: 2, regionCount: judgement.regionCount });
          // What a daemon refuses has nothing clean.
          if (cleanBefore !== null) cleanAfter?.andNot(cleanBefore);
          expect(cleanAfter?.count).toBe(0);
          expect(after.byteLength - BITMAP_OFFSET).toBeGreaterThanOrEqual(bitmapBytes(judgement.regionCount));
        },
      ),
    );
  });

  it('is made of what can be read: a block that cannot be is dirty, and written anew', async () => {
    const image = imageOf(9000, []);
    const source = {
      sizeBytes: image.byteLength,
      blockBytes: BLOCK,
      held: false,
      read: async (length: number, position = 0) => {
        if (position < 2048 && position + length > 1536)
          throw Object.assign(new Error('I/O'), { code: 'EIO' });
        return image.slice(position, position + length);
      },
      write: () => Promise.reject(new Error('must not write')),
      close: async () => {},
    } satisfies ImageSource;
    const unreadable = new Set<number>();
    const read = await readWhatCan(source, 0, image.byteLength, unreadable);
    expect([...unreadable]).toEqual([1536]);
    const judgement = judge('x', read, source, NO_WISHES);
    const { changes, cleanAfter, findings } = planRepair(read, BLOCK, judgement, unreadable, NO_WISHES);
    expect(findings).toEqual(['1 blocks of 512 bytes cannot be read']);
    expect(changes).toEqual([{ offset: 1536, length: 512 }]);
    // 4096 regions to a block; the bitmap begins in the one before.
    expect([cleanAfter.zeros, cleanAfter.countRange(4096, 8192)]).toEqual([4096, 0]);
    expect(judge('x', null, source, { ...NO_WISHES, regions: 9000 })).toMatchObject({ believed: 0 });
  });
});
