import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { build } from 'tsup';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import manifest from '../package.json';
import { checkCorosync } from '../src/index.js';

const app = path.resolve(import.meta.dirname, '..');
let directory: string;

/** The program as it is shipped, in one file: sources of the workspace are bundled, so that no build of theirs is needed. */
beforeAll(async () => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'clusterd-cli-'));
  await build({
    config: false,
    entry: [path.join(app, 'src/cli.ts')],
    outDir: directory,
    format: ['cjs'],
    target: 'node20',
    shims: true,
    silent: true,
    noExternal: [/^@dmlog\//, 'commander', 'pino', 'zod', 'prom-client', 'smol-toml'],
    external: ['netlink', 'corosync-cpg-napi'],
    esbuildOptions: (options) => {
      options.conditions = ['dmlog-source'];
    },
  });
}, 30_000);

afterAll(() => {
  fs.rmSync(directory, { recursive: true, force: true });
});

function program(): string {
  const file = fs.readdirSync(directory).find((name) => /^cli\.c?js$/.test(name));
  if (file === undefined) throw new Error(`no program among ${fs.readdirSync(directory).join(', ')}`);
  return path.join(directory, file);
}

describe('the built program', () => {
  it('tells its version', () => {
    expect(execFileSync(process.execPath, [program(), '--version'], { encoding: 'utf8' })).toBe(
      `${manifest.version}\n`,
    );
    expect(fs.readFileSync(program(), 'utf8').startsWith('#!/usr/bin/env node\n')).toBe(true);
  });

  it('ends with the exit code of its error, message on standard error', async () => {
    const child = spawn(process.execPath, [program(), 'status', '--control-socket', '/nonexistent/s']);
    let error = '';
    child.stderr.on('data', (chunk) => {
      error += chunk;
    });
    const code = await new Promise((resolve) => child.once('close', resolve));
    expect(code).toBe(69);
    expect(error).toContain('no log daemon is running at /nonexistent/s');
  });

  it('helps, by its own name', () => {
    const help = execFileSync(process.execPath, [program(), '--help'], { encoding: 'utf8' });
    expect(help).toMatch(/^Usage: clusterd \[options\]/);
    expect(help).toContain('clusterd.sock');
  });
});

describe('the look at corosync', () => {
  it('says what is missing, with an errno for the kernel', async () => {
    vi.stubEnv('COROSYNC_CPG_LIBRARY', '/nonexistent/libcpg.so.4');
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
    const error = await checkCorosync().then(
      () => expect.unreachable('there is no such library'),
      (reason: Error & { errno?: number }) => reason,
    );
    expect(error.errno).toBe(111);
    expect(error.message).toMatch(/^clustered logs need corosync: ./);
  });
});
