import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const path = (relative: string): string => fileURLToPath(new URL(`../${relative}`, import.meta.url));
const { sources } = JSON.parse(readFileSync(path('native/addon.json'), 'utf8')) as { sources: string[] };
const SOURCES = sources.map((name) => `native/${name}`);
const sha256 = (files: string[]): string =>
  createHash('sha256')
    .update(Buffer.concat(files.map((file) => readFileSync(path(file)))))
    .digest('hex');

describe('prebuilt addons', () => {
  const manifest = JSON.parse(readFileSync(path('prebuilds/manifest.json'), 'utf8')) as Record<
    string,
    { sourceSha256: string; binarySha256: string }
  >;

  it.each(Object.entries(manifest))(
    '%s was built from the C sources as they are: run build:native',
    (target, entry) => {
      expect(entry.sourceSha256).toBe(sha256(SOURCES));
      expect(entry.binarySha256).toBe(sha256([`prebuilds/${target}/corosync_cpg.node`]));
    },
  );

  it('cover x64 and arm64', () => {
    expect(Object.keys(manifest)).toEqual(['linux-arm64', 'linux-x64']);
  });
});
