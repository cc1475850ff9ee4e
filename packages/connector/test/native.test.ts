import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { describeSockets } from './rights.js';

const path = (relative: string): string => fileURLToPath(new URL(`../${relative}`, import.meta.url));
const { sources } = JSON.parse(readFileSync(path('native/addon.json'), 'utf8')) as { sources: string[] };
const SOURCES = sources.map((name) => `native/${name}`);
const sha256 = (files: string[]): string =>
  createHash('sha256')
    .update(Buffer.concat(files.map((file) => readFileSync(path(file)))))
    .digest('hex');
const MISBEHAVE = path('test/misbehave.mjs');

describe('prebuilt addons', () => {
  const manifest = JSON.parse(readFileSync(path('prebuilds/manifest.json'), 'utf8')) as Record<
    string,
    { sourceSha256: string; binarySha256: string }
  >;

  it.each(Object.entries(manifest))(
    '%s was built from the C sources as they are: run build:native',
    (target, entry) => {
      expect(entry.sourceSha256).toBe(sha256(SOURCES));
      expect(entry.binarySha256).toBe(sha256([`prebuilds/${target}/dmlog_connector.node`]));
    },
  );

  it('cover x64 and arm64', () => {
    expect(Object.keys(manifest)).toEqual(['linux-arm64', 'linux-x64']);
  });
});

describeSockets('the addon under misuse', () => {
  /** Runs one scenario of misbehave.mjs in a process of its own; its text, or why it died. */
  const run = (scenario: string): string => {
    const result = spawnSync(process.execPath, ['--expose-gc', MISBEHAVE, scenario], {
      encoding: 'utf8',
      timeout: 15_000,
    });
    return result.status === 0 ? result.stdout.trim() : `${result.signal ?? result.status}: ${result.stderr}`;
  };

  it.each([
    ['exit-open', 'bye'],
    ['exit-in-batch', 'bye'],
    ['close-in-batch-and-exit', 'bye'],
    ['forgotten-and-collected', 'served'],
    ['use-after-close', 'EBADF EBADF'],
    ['wrong-arguments', 'ERR_INVALID_ARG_TYPE ERR_INVALID_ARG_VALUE'],
    ['callback-throws', 'served again'],
    ['tick-throws', 'uncaughtException: planted'],
    ['workers-exit', 'workers gone'],
    ['workers-terminated-in-batch', 'workers gone'],
  ])('%s', (scenario, outcome) => {
    expect(run(scenario)).toBe(outcome);
  });
});

describeSockets('without rights', () => {
  it('either refuses to join or reports the receive buffer that it got (kernels from 6.6 on let anybody listen)', () => {
    const script = `const addon = require(${JSON.stringify(path(`prebuilds/linux-${process.arch}/dmlog_connector.node`))});
      const control = new ArrayBuffer(480);
      process.setgroups([]); process.setgid(65534); process.setuid(65534);
      try {
        addon.open(new ArrayBuffer(32768), control, 7, 1 << 29, false, 0, () => {}, () => {});
        console.log(new Int32Array(control)[3]);
        process.exit(0);
      } catch (error) { console.log(error.code); }`;
    const outcome = execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }).trim();
    const rmemMax = Number(readFileSync('/proc/sys/net/core/rmem_max', 'utf8'));
    expect(['EPERM', `${rmemMax * 2}`]).toContain(outcome);
  });
});
