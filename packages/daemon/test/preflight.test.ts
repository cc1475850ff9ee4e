import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { exitCodeOf } from '../src/lifecycle/exit-codes.js';
import { preflight } from '../src/lifecycle/preflight.js';
import { rejection, scratchDirectory } from './helpers/scratch.js';

function host(options: { capabilities: string; module?: boolean; namespaces?: [string, string] }) {
  const root = scratchDirectory();
  const procRoot = path.join(root, 'proc');
  const sysfsRoot = path.join(root, 'sys');
  const [own, initial] = options.namespaces ?? ['net:[1]', 'net:[1]'];
  for (const [pid, namespace] of [
    ['self', own],
    ['1', initial],
  ] as const) {
    fs.mkdirSync(path.join(procRoot, pid, 'ns'), { recursive: true });
    fs.symlinkSync(namespace, path.join(procRoot, pid, 'ns', 'net'));
  }
  fs.writeFileSync(path.join(procRoot, 'self/status'), `Name:\tnode\nCapEff:\t${options.capabilities}\n`);
  const module = options.module === false ? 'module' : 'module/dm_log_userspace';
  fs.mkdirSync(path.join(sysfsRoot, module), { recursive: true });
  return { procRoot, sysfsRoot };
}

const ALL = '000001ffffffffff';

describe('preflight', () => {
  it('finds nothing on a host that is ready', () => {
    expect(preflight(host({ capabilities: ALL }))).toEqual([]);
  });

  it.each([
    ['0000000000000000', /CAP_NET_ADMIN and CAP_SYS_ADMIN missing/],
    ['0000000000001000', /^CAP_SYS_ADMIN missing/],
    ['0000000000200000', /^CAP_NET_ADMIN missing/],
  ])('refuses the capabilities %s', async (capabilities, message) => {
    const error = await rejection(async () => preflight(host({ capabilities })));
    expect(error).toMatchObject({ code: 'ERR_NO_RIGHTS' });
    expect(error.message).toMatch(message);
    expect(exitCodeOf(error)).toBe(77);
  });

  it('needs no other capability than these two', () => {
    expect(preflight(host({ capabilities: '0000000000201000' }))).toEqual([]);
  });

  it('warns of a module that is not loaded, and of another network namespace', () => {
    const warnings = preflight(
      host({ capabilities: ALL, module: false, namespaces: ['net:[2]', 'net:[1]'] }),
    );
    expect(warnings).toEqual([expect.stringMatching(/modprobe/), expect.stringMatching(/network namespace/)]);
  });
});
