import fs from 'node:fs';
import path from 'node:path';
import { BITMAP_OFFSET, imageBytes, writeHeader } from '@dmlog/log';
import { PNG } from 'pngjs';
import { describe, expect, it } from 'vitest';
import { run, scratch } from './helpers/daemon.js';

/** An image of `regions` regions, of which these are dirty. */
function image(
  regions: number,
  dirty: readonly number[],
  change: (bytes: Uint8Array) => void = () => {},
): string {
  const bytes = new Uint8Array(imageBytes(regions, 512));
  writeHeader(bytes, regions);
  for (let r = 0; r < regions; r++) bytes[BITMAP_OFFSET + (r >> 3)]! |= 1 << (r & 7);
  for (const r of dirty) bytes[BITMAP_OFFSET + (r >> 3)]! &= ~(1 << (r & 7));
  change(bytes);
  const file = path.join(scratch(), 'image');
  fs.writeFileSync(file, bytes);
  return file;
}

describe('inspect', () => {
  it('tells counts and dirty regions', async () => {
    const { code, out } = await run(['inspect', image(1000, [3, 4, 5, 999])]);
    expect(code).toBe(0);
    expect(out).toMatch(/regions +1000\nclean +996 \(99\.60 %\)\ndirty +4: 3-5, 999\n/);
  });

  it('draws a map, one character for as many regions as needed', async () => {
    const { out } = await run(['inspect', '--map', image(2048, [0, 1, 2, 130])]);
    const lines = out.trimEnd().split('\n');
    expect(lines.find((line) => line.startsWith('each'))).toContain('each character 2 regions');
    // Regions 0 and 1 dirty; 2 dirty, 3 clean; 130 in the 66th character, which is the second line's second.
    expect(lines.at(-16)).toBe(`   0  ·▒${'█'.repeat(62)}`);
    expect(lines.at(-15)).toBe(` 128  █▒${'█'.repeat(62)}`);
  });

  it('writes a picture in which every dirty region has its pixel', async () => {
    const png = path.join(scratch(), 'map.png');
    expect((await run(['inspect', '--png', png, image(4096, [65])])).code).toBe(0);
    const { width, height, data } = PNG.sync.read(fs.readFileSync(png));
    expect([width, height]).toEqual([512, 512]);
    const pixel = (x: number, y: number) => [...data.subarray((y * width + x) * 4, (y * width + x) * 4 + 4)];
    // 64 columns of 8 pixels: region 65 is the second of the second row.
    expect(pixel(8, 8)).toEqual([255, 179, 0, 255]);
    expect(pixel(0, 8)).toEqual([46, 125, 50, 255]);
    expect(pixel(16, 8)).toEqual([46, 125, 50, 255]);
  });

  it('compares two images: the same, other bits, another size', async () => {
    const a = image(1000, [3]);
    expect(await run(['inspect', a, '--difference', image(1000, [3])])).toMatchObject({ code: 0 });
    const other = await run(['inspect', a, '--difference', image(1000, [3, 17, 18]), '--map']);
    expect(other).toMatchObject({ code: 1 });
    expect(other.out).toContain('in 2 regions: 17-18');
    expect(other.out).toContain('×');
    const grown = await run(['inspect', a, '--difference', image(1010, [3]), '--json']);
    expect(grown.code).toBe(1);
    expect(JSON.parse(grown.out)).toMatchObject({
      regionCount: 1000,
      dirtyRuns: [[3, 3]],
      difference: { regionCount: 1010, regions: 10, runs: [[1000, 1009]] },
    });
  });
});

describe('verify', () => {
  it('has nothing against a whole image', async () => {
    expect(await run(['verify', image(70, []), '--regions', '70', '--clean'])).toMatchObject({
      code: 0,
      error: '',
    });
  });

  it.each([
    ['another count', image.bind(null, 70, []), ['--regions', '71'], /70 regions, the mirror has 71/],
    ['dirty regions', image.bind(null, 70, [5]), ['--clean'], /1 of 70 regions are dirty/],
    [
      'stray bits',
      image.bind(null, 70, [], (bytes) => (bytes[BITMAP_OFFSET + 9] = 0x80)),
      [],
      /1 bits are set behind/,
    ],
    ['an old version', image.bind(null, 70, [], (bytes) => (bytes[4] = 1)), [], /format version 1/],
  ] as const)('finds %s', async (_what, make, flags, message) => {
    const { code, out } = await run(['verify', make(), ...flags]);
    expect(code).toBe(1);
    expect(out).toMatch(message);
  });

  it.each([
    ['what is no log', image.bind(null, 70, [], (bytes) => bytes.fill(0x55)), 65, /holds no dirty log/],
    ['a foreign version', image.bind(null, 70, [], (bytes) => (bytes[4] = 9)), 65, /format version 9/],
    ['a damaged count', image.bind(null, 70, [], (bytes) => (bytes[12] = 0xff)), 65, /header is damaged/],
    ['a count past the end', image.bind(null, 70, [], (bytes) => (bytes[10] = 0xff)), 65, /device was cut/],
  ] as const)('refuses %s', async (_what, make, exitCode, message) => {
    const { code, error } = await run(['verify', make()]);
    expect(code).toBe(exitCode);
    expect(error).toMatch(message);
  });

  it('tells a missing file and an empty one apart', async () => {
    expect(await run(['verify', '/nonexistent/image'])).toMatchObject({ code: 66 });
    const empty = path.join(scratch(), 'empty');
    fs.writeFileSync(empty, '');
    expect(await run(['verify', empty])).toMatchObject({ code: 65 });
  });
});
