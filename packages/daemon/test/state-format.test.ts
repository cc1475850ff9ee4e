import { createHash } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  decodeIdentity,
  encodeIdentity,
  IDENTITY_AREA_BYTES,
  type LogIdentity,
  loadMappingBinding,
} from '../src/index.js';
import { scratchFile } from './helpers/scratch.js';

const IDENTITY: LogIdentity = {
  bootId: '6f3b7a34-0000-4000-8000-000000000001',
  uuid: 'LVM-aaaa',
  luidLow: 0xffff_f000,
  luidHigh: 0xffff_8880,
  constructorText: '16384 disk /dev/log 1024 nosync',
  reconnected: false,
  device: '254:3',
  blockBytes: 512,
};

describe('the identity of a state file', () => {
  it('comes back as it was', () => {
    expect(decodeIdentity(encodeIdentity(IDENTITY))).toEqual({ identity: IDENTITY, problem: null });
    const core = { ...IDENTITY, device: null, blockBytes: null, uuid: '\u00e4'.repeat(128) };
    expect(decodeIdentity(encodeIdentity(core)).identity).toEqual(core);
  });

  it('is refused when it was cut at any byte', () => {
    const bytes = encodeIdentity(IDENTITY);
    for (let length = 0; length < bytes.byteLength; length++) {
      expect(decodeIdentity(bytes.subarray(0, length)).problem).toBe('it is cut');
      // A file system that filled the rest with zeros.
      const zeroed = bytes.slice();
      zeroed.fill(0, length);
      const { identity } = decodeIdentity(zeroed);
      if (identity !== null) expect(zeroed).toEqual(bytes);
    }
  });

  it('is refused when any bit of any byte is another', () => {
    const bytes = encodeIdentity(IDENTITY);
    for (let at = 0; at < IDENTITY_AREA_BYTES; at++) {
      for (let bit = 0; bit < 8; bit++) {
        bytes[at] = (bytes[at] as number) ^ (1 << bit);
        expect([at, bit, decodeIdentity(bytes).identity]).toEqual([at, bit, null]);
        bytes[at] = (bytes[at] as number) ^ (1 << bit);
      }
    }
  });

  it('is refused in another version, and where a field is missing or new', () => {
    const bytes = encodeIdentity(IDENTITY);
    bytes[8] = 2;
    expect(decodeIdentity(bytes).problem).toMatch(/version 2, this daemon knows 1/);
    const { device: _device, ...less } = IDENTITY;
    const more = { ...IDENTITY, members: [] };
    for (const other of [less, more]) {
      expect(decodeIdentity(encodeIdentity(other as LogIdentity)).problem).toMatch(/makes no sense/);
    }
  });

  it('has room for the longest uuid and table line that the kernel sends, and says so of longer ones', () => {
    const longest = { ...IDENTITY, uuid: 'u'.repeat(128), constructorText: 'x'.repeat(332) };
    expect(decodeIdentity(encodeIdentity(longest)).identity).toEqual(longest);
    expect(() => encodeIdentity({ ...IDENTITY, constructorText: 'x'.repeat(4096) })).toThrow(RangeError);
  });
});

describe('the addon that maps files', () => {
  const path = (relative: string): string => fileURLToPath(new URL(`../${relative}`, import.meta.url));
  const sha256 = (file: string): string =>
    createHash('sha256')
      .update(readFileSync(path(file)))
      .digest('hex');
  const manifest = JSON.parse(readFileSync(path('prebuilds/manifest.json'), 'utf8')) as Record<
    string,
    { sourceSha256: string; binarySha256: string }
  >;

  it.each(Object.entries(manifest))(
    'for %s was built from the source as it is: run build:native',
    (target, entry) => {
      expect(entry.sourceSha256).toBe(sha256('native/dmlog_mapping.c'));
      expect(entry.binarySha256).toBe(sha256(`prebuilds/${target}/dmlog_mapping.node`));
    },
  );

  it('covers x64 and arm64', () => {
    expect(Object.keys(manifest)).toEqual(['linux-arm64', 'linux-x64']);
  });

  it('gives memory that is the file, also after the descriptor was closed, and makes the file long enough', () => {
    const binding = loadMappingBinding();
    const file = scratchFile(10);
    const fd = openSync(file, 'r+');
    const memory = new Uint8Array(binding.map(fd, 8192));
    const again = new Uint8Array(binding.map(fd, 8192));
    closeSync(fd);
    expect([...memory.subarray(8, 12)]).toEqual([0xee, 0xee, 0, 0]);
    memory[5000] = 7;
    expect(again[5000]).toBe(7);
    const bytes = readFileSync(file);
    expect([bytes.byteLength, bytes[5000]]).toEqual([8192, 7]);
  });

  it('gives memory back at once when it is told to', async () => {
    const binding = loadMappingBinding();
    const file = scratchFile(10);
    const fd = openSync(file, 'r+');
    const memory = binding.map(fd, 8192);
    closeSync(fd);
    const view = new Uint8Array(memory);
    const mapped = () => readFileSync('/proc/self/maps', 'utf8').includes(file);
    expect(mapped()).toBe(true);
    binding.unmap(memory);
    binding.unmap(memory);
    expect(view.byteLength).toBe(0);
    await expect.poll(mapped, { timeout: 20_000 }).toBe(false);
    expect(() => binding.unmap(file as unknown as ArrayBuffer)).toThrow(/an ArrayBuffer of map/);
  });

  it.each([
    ['no descriptor', -1, 4096, 'EBADF'],
    ['no size', 0, 0, 'ERR_INVALID_ARG_VALUE'],
    ['half a byte', 0, 0.5, 'ERR_INVALID_ARG_VALUE'],
    ['not a number', 0, Number.NaN, 'ERR_INVALID_ARG_VALUE'],
    ['too much', 0, 2 ** 40, 'ERR_INVALID_ARG_VALUE'],
  ])('refuses %s', (_what, fd, bytes, code) => {
    expect(() => loadMappingBinding().map(fd, bytes)).toThrow(expect.objectContaining({ code }));
  });

  it('says what it tried where there is none', () => {
    const empty = mkdtempSync(join(tmpdir(), 'dmlog-'));
    try {
      expect(() => loadMappingBinding(empty)).toThrow(
        /no addon for linux-.*build it: node native\/build.mjs/,
      );
    } finally {
      rmSync(empty, { recursive: true });
    }
  });
});
