import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigError, loadConfig, parseConfig } from '../src/index.js';
import { scratchDirectory } from './helpers/scratch.js';

function file(text: string): string {
  const name = path.join(scratchDirectory(), 'singled.toml');
  fs.writeFileSync(name, text);
  return name;
}

const DEFAULTS = {
  runtimeDir: '/run/dmlog',
  controlSocket: '/run/dmlog/singled.sock',
  logLevel: 'info',
  receiveBufferBytes: 8 * 1024 * 1024,
  lazyClear: { milliseconds: 3000, regionsMax: 65536 },
  cluster: { reload: 'dmsetup' },
  transport: 'auto',
  unsafeAcceptUserRequests: false,
};

describe('loadConfig', () => {
  it('has defaults for everything, and leaves polling to the transport', () => {
    expect(loadConfig()).toEqual(DEFAULTS);
  });

  it('takes the file over the defaults', () => {
    const name = file('logLevel = "debug"\npollMicroseconds = 0\n[lazyClear]\nmilliseconds = 0\n');
    expect(loadConfig({ file: name })).toEqual({
      ...DEFAULTS,
      logLevel: 'debug',
      pollMicroseconds: 0,
      lazyClear: { milliseconds: 0, regionsMax: 65536 },
    });
  });

  it('takes flags over the file', () => {
    const name = file(
      'logLevel = "debug"\ntransport = "batch"\n[lazyClear]\nmilliseconds = 5\nregionsMax = 9\n',
    );
    const flags = {
      logLevel: 'warn',
      transport: 'netlink',
      lazyClearMs: 0,
      pollMicroseconds: 10,
      unsafeAcceptUserRequests: true,
    };
    expect(loadConfig({ file: name, flags })).toEqual({
      ...DEFAULTS,
      logLevel: 'warn',
      transport: 'netlink',
      pollMicroseconds: 10,
      lazyClear: { milliseconds: 0, regionsMax: 9 },
      unsafeAcceptUserRequests: true,
    });
  });

  it('keeps the control socket in the runtime directory, unless told otherwise', () => {
    const both = file('runtimeDir = "/run/a"\ncontrolSocket = "/run/b/c.sock"\n');
    expect(loadConfig({ flags: { runtimeDir: '/run/x/' } }).controlSocket).toBe('/run/x/singled.sock');
    expect(loadConfig({ program: 'clusterd' }).controlSocket).toBe('/run/dmlog/clusterd.sock');
    expect(loadConfig({ file: both }).controlSocket).toBe('/run/b/c.sock');
    expect(loadConfig({ file: both, flags: { runtimeDir: '/run/x' } }).controlSocket).toBe(
      '/run/x/singled.sock',
    );
    expect(loadConfig({ file: both, flags: { controlSocket: '/run/y.sock' } }).controlSocket).toBe(
      '/run/y.sock',
    );
  });
});

describe('an invalid configuration file', () => {
  it.each([
    [
      'an unknown key',
      'logLevl = "info"',
      'ERR_CONFIG_KEY',
      'logLevl',
      /unknown key `logLevl`; known are .*logLevel/,
    ],
    [
      'an unknown nested key',
      '[lazyClear]\nmilisecond = 1',
      'ERR_CONFIG_KEY',
      'lazyClear.milisecond',
      /`lazyClear.milisecond`; known are milliseconds, regionsMax/,
    ],
    ['a wrong type', 'pollMicroseconds = "50"', 'ERR_CONFIG_KEY', 'pollMicroseconds', /expected number/],
    ['a value too large', 'pollMicroseconds = 10001', 'ERR_CONFIG_KEY', 'pollMicroseconds', /10000/],
    ['a negative value', '[lazyClear]\nmilliseconds = -1', 'ERR_CONFIG_KEY', 'lazyClear.milliseconds', />=0/],
    ['a buffer too small', 'receiveBufferBytes = 4096', 'ERR_CONFIG_KEY', 'receiveBufferBytes', /65536/],
    ['a fraction', 'receiveBufferBytes = 65536.5', 'ERR_CONFIG_KEY', 'receiveBufferBytes', /int/],
    ['an unknown choice', 'transport = "raw"', 'ERR_CONFIG_KEY', 'transport', /auto/],
    ['a relative path', 'runtimeDir = "run"', 'ERR_CONFIG_KEY', 'runtimeDir', /absolute/],
    [
      'what only the command line may say',
      'unsafeAcceptUserRequests = true',
      'ERR_CONFIG_KEY',
      'unsafeAcceptUserRequests',
      /--unsafe-accept-user-requests/,
    ],
    ['broken syntax', 'logLevel = "info"\ntransport = \n', 'ERR_CONFIG_SYNTAX', null, /:2:\d+/],
  ])('with %s is refused by name', (_, text, code, key, message) => {
    const name = file(text);
    let error: unknown;
    try {
      loadConfig({ file: name });
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(ConfigError);
    expect(error).toMatchObject({ code, key, source: name });
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).toContain(name);
  });

  it('that is not there is refused', () => {
    expect(() => loadConfig({ file: '/nonexistent.toml' })).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG_FILE' }),
    );
  });
});

describe('invalid flags', () => {
  it.each([
    [{ pollMicroseconds: 20_000 }, /--poll-microseconds/],
    [{ lazyClearMs: -1 }, /--lazy-clear-ms/],
    [{ runtimeDir: 'x' }, /--runtime-dir: must be an absolute path/],
    [{ surprise: 1 }, /--surprise/],
  ])('%j are named as they are typed', (flags, message) => {
    expect(() => loadConfig({ flags })).toThrow(
      expect.objectContaining({ code: 'ERR_CONFIG_FLAG', message: expect.stringMatching(message) }),
    );
  });
});

describe('the example file', () => {
  const example = new URL('../../../apps/singled/example/singled.toml', import.meta.url);

  it('shows every key with its default', () => {
    const text = fs.readFileSync(example, 'utf8');
    expect(loadConfig({ file: example.pathname })).toEqual(DEFAULTS);
    expect(Object.keys(parseConfig(text, 'example')).sort()).toEqual(
      ['controlSocket', 'lazyClear', 'logLevel', 'receiveBufferBytes', 'runtimeDir', 'transport'].sort(),
    );
    // The one key without a fixed default is shown as a comment, and holds when the comment sign is taken away.
    expect(
      parseConfig(text.replace('# pollMicroseconds', 'pollMicroseconds'), 'example').pollMicroseconds,
    ).toBe(50);
  });
});
