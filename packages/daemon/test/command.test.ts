import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ControlServer, createLogger, EXIT_CODE_TEXTS, runCommand } from '../src/index.js';
import { STATUS } from './helpers/status.js';

interface Result {
  code: number;
  out: string;
  error: string;
}

async function singled(...args: string[]): Promise<Result> {
  let out = '';
  let error = '';
  const code = await runCommand(args, {
    name: 'singled',
    description: 'Serves',
    serve: () => Promise.reject(new Error('must not be called')),
    version: '9.8.7',
    out: (text) => {
      out += text;
    },
    error: (text) => {
      error += text;
    },
  });
  return { code, out, error };
}

function scratch(): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'singled-'));
  onTestFinished(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function daemon(status: unknown): Promise<string> {
  const socket = path.join(scratch(), 's');
  const { logger } = createLogger({ name: 'test', level: 'silent' });
  const server = new ControlServer({ path: socket, methods: { status: () => status }, logger });
  await server.listen();
  onTestFinished(() => server.close());
  return socket;
}

describe('singled', () => {
  it('helps, with all exit codes, and tells its version', async () => {
    const help = await singled('--help');
    expect(help.code).toBe(0);
    for (const [code, text] of EXIT_CODE_TEXTS) expect(help.out).toContain(`${code.padEnd(6)} ${text}`);
    expect(await singled('--version')).toEqual({ code: 0, out: '9.8.7\n', error: '' });
  });

  it('has a manual page and completions that name what --help names', async () => {
    const help = (await singled('--help')).out;
    const options = [...help.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, option]) => option as string);
    expect(options.length).toBeGreaterThan(7);
    const man = await singled('man');
    expect(man.code).toBe(0);
    for (const option of options.filter((one) => one !== '--help'))
      expect(man.out).toContain(option.replaceAll('-', '\\-'));
    for (const [code] of EXIT_CODE_TEXTS) expect(man.out).toContain(`\n.B ${code}\n`);
    for (const shell of ['bash', 'zsh']) {
      const { out } = await singled('completion', shell);
      for (const option of options) expect(out, shell).toContain(option);
    }
    expect((await singled('completion', 'fish')).out).toContain("-l config -d 'TOML");
    expect(await singled('completion', 'tcsh')).toMatchObject({ code: 64 });
  });

  it.each([
    [['--pol-microseconds', '1'], 64, /unknown option '--pol-microseconds'/],
    [['--poll-microseconds', '1e3'], 64, /whole number/],
    [['--poll-microseconds', '99999'], 64, /--poll-microseconds: .*10000/],
    [['--transport', 'raw'], 64, /Allowed choices are auto, batch, netlink/],
    [['--runtime-dir', 'here'], 64, /--runtime-dir: must be an absolute path/],
    [['serve'], 64, /too many arguments/],
    [['status', '--yaml'], 64, /unknown option '--yaml'/],
    [['--config', '/nonexistent.toml'], 65, /cannot read configuration file \/nonexistent.toml/],
  ])('refuses %j with exit code %i', async (args, code, message) => {
    const result = await singled(...args);
    expect(result.code).toBe(code);
    expect(result.error).toMatch(message);
    expect(result.out).toBe('');
  });
});

describe('singled status', () => {
  it('prints a table, or JSON', async () => {
    const socket = await daemon(STATUS);
    const table = await singled('status', '--control-socket', socket);
    expect(table).toMatchObject({ code: 0, error: '' });
    expect(table.out).toMatch(/^singled 1.2.3, pid 42.*\nUUID .*\nLVM-abc .* 99.99 % /);
    const json = await singled('--control-socket', socket, 'status', '--json');
    expect(JSON.parse(json.out)).toEqual(STATUS);
  });

  it('says what to do where no daemon runs', async () => {
    const socket = path.join(scratch(), 'none');
    const result = await singled('status', '--control-socket', socket);
    expect(result).toMatchObject({ code: 69, out: '' });
    expect(result.error).toContain(`no log daemon is running at ${socket}`);
  });

  it('refuses a status of another shape, by field', async () => {
    const socket = await daemon({ ...STATUS, pid: 'many' });
    const result = await singled('status', '--control-socket', socket);
    expect(result.code).toBe(69);
    expect(result.error).toContain('(pid: ');
  });
});
