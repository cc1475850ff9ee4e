import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const path = (relative: string): string => fileURLToPath(new URL(`../${relative}`, import.meta.url));
// In the order of native/build.mjs.
const SOURCES = ['member.c', 'member.h', 'corosync.h', 'events.c', 'session.c'].map(
  (name) => `native/${name}`,
);
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

  it('covers this machine', () => {
    expect(existsSync(path(`prebuilds/linux-${process.arch}/corosync_cpg.node`))).toBe(true);
  });
});
