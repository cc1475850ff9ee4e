import { afterEach, describe, expect, it, vi } from 'vitest';
import { CpgError, type CpgHandlers, type CpgOptions, loadBinding, openCpg } from '../src/index.js';

const handlers: CpgHandlers = { deliver: () => {}, died: () => {} };
const codeOf = async (options: Partial<CpgOptions>): Promise<string> => {
  try {
    const group = await openCpg({ group: 'limits', handlers, ...options });
    await group.close();
    return 'opened';
  } catch (error) {
    expect(error).toBeInstanceOf(CpgError);
    return `${(error as CpgError).code}: ${(error as CpgError).message}`;
  }
};

afterEach(() => vi.unstubAllEnvs());

describe('options', () => {
  it.each([
    ['an empty name', { group: '' }],
    ['a name of 128 bytes', { group: 'x'.repeat(128) }],
    ['a name that is not ASCII', { group: 'gruppe-ä' }],
    ['a name with a zero byte', { group: 'a\0b' }],
    ['no handlers', { handlers: {} as CpgHandlers }],
    ['no messages in flight', { maxInFlightMessages: 0 }],
    ['half a byte in flight', { maxInFlightBytes: 0.5 }],
    ['a time-out that setTimeout cannot', { timeoutMs: 2 ** 31 }],
  ])('%s is refused', async (_name, options) => {
    expect(await codeOf(options)).toMatch(/^ERR_CPG_USAGE: (group|handlers|max|timeoutMs)/);
  });
});

describe('libraries', () => {
  it.each(['cpg', 'quorum'])('%s that is missing is named, with the package to install', async (library) => {
    // The one that is not meant must be found even where corosync is not installed.
    const libraries = { cpg: 'libm.so.6', quorum: 'libm.so.6', [library]: 'libnothere.so.4' };
    const outcome = await codeOf({ libraries });
    expect(outcome).toMatch(/^ERR_CPG_LIBRARY: .*apt-get install libcpg4 libquorum5/);
    expect(outcome).toContain('libnothere.so.4');
  });

  it('can be named by the environment', async () => {
    vi.stubEnv('COROSYNC_CPG_LIBRARY', 'libelsewhere.so');
    expect(await codeOf({})).toContain('libelsewhere.so');
  });

  it('that are too old say so', async () => {
    expect(await codeOf({ libraries: { cpg: 'libm.so.6' }, quorum: false })).toMatch(
      /^ERR_CPG_LIBRARY: .*too old.*libm\.so\.6 has no cpg_model_initialize/,
    );
  });
});

describe('the addon', () => {
  it('says what was tried where it is not built', () => {
    expect(() => loadBinding('/nowhere')).toThrow(/node \/nowhere\/native\/build\.mjs/);
  });

  it('refuses arguments that are not meant for it', () => {
    const binding = loadBinding();
    const create = binding.create as (...args: unknown[]) => unknown;
    const control = new ArrayBuffer(8);
    const nothing = (): void => {};
    expect(() => create()).toThrow(TypeError);
    expect(() => create('g', 'l', null, control, 1, 1, nothing, nothing)).toThrow(RangeError);
    expect(() => binding.send({}, Buffer.alloc(1))).not.toThrow();
  });
});
