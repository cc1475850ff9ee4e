import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { THREAD_POOL_THREADS } from '@dmlog/daemon';
import { build } from 'tsup';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import manifest from '../package.json';

const app = path.resolve(import.meta.dirname, '..');
let directory: string;

/** The program as it is shipped, in one file: sources of the workspace are bundled, so that no build of theirs is needed. */
beforeAll(async () => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'singled-cli-'));
  await build({
    config: false,
    entry: [path.join(app, 'src/cli.ts')],
    outDir: directory,
    format: ['cjs'],
    target: 'node20',
    shims: true,
    silent: true,
    noExternal: [/^@dmlog\//, 'commander', 'pino', 'zod', 'prom-client', 'smol-toml'],
    external: ['netlink'],
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

  it('ends without a word when its reader has gone', () => {
    // The reader ends long before node has begun.
    const line = `"${process.execPath}" "${program()}" --help 2>&3 | :`;
    const errors = execFileSync('sh', ['-c', `exec 3>&1; ${line}`], { encoding: 'utf8' });
    expect(errors).toBe('');
  });

  it('has its large thread pool', () => {
    // Loaded as `node cli.cjs` loads it, then the pool is started: its threads are counted in /proc. The same of an ES module finds 4.
    const count =
      "const fs = require('node:fs'); const before = fs.readdirSync('/proc/self/task').length;" +
      "process.argv[2] = '--version'; process.exit = () => {};" +
      `require(${JSON.stringify(program())});` +
      "fs.stat('/', () => { fs.writeSync(1, String(fs.readdirSync('/proc/self/task').length - before)); process.reallyExit(0); });";
    const script = path.join(directory, 'count.cjs');
    fs.writeFileSync(script, count);
    const environment = { ...process.env };
    Reflect.deleteProperty(environment, 'UV_THREADPOOL_SIZE');
    const run = (env: NodeJS.ProcessEnv): number =>
      Number(execFileSync(process.execPath, [script], { env, encoding: 'utf8' }).split('\n').at(-1));
    expect(run(environment)).toBe(Number(THREAD_POOL_THREADS));
    expect(run({ ...environment, UV_THREADPOOL_SIZE: '7' })).toBe(7);
  });
});
