import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { loadBinding } from '../src/index.js';

const ADDON = fileURLToPath(
  new URL(`../prebuilds/linux-${process.arch}/dmlog_connector.node`, import.meta.url),
);
const node = (script: string): string =>
  execFileSync(process.execPath, ['-e', `const addon = require(${JSON.stringify(ADDON)}); ${script}`], {
    encoding: 'utf8',
    timeout: 30_000,
  });

describe('process', () => {
  it('tells who cannot be told by an errno, and waits for nobody', () => {
    const { notify } = loadBinding();
    expect(notify(`@dmlog-test-${randomUUID()}`, 'READY=1', -1)).toBe(constants.errno.ECONNREFUSED);
    expect(notify('/nonexistent/notify', 'READY=1', -1)).toBe(constants.errno.ENOENT);
    expect(notify('', 'READY=1', -1)).toBe(constants.errno.EINVAL);
    expect(notify(`@${'x'.repeat(120)}`, 'READY=1', -1)).toBe(constants.errno.EINVAL);
    expect(notify(`@dmlog-test-${randomUUID()}`, 'FDSTORE=1', 999_999)).toBe(constants.errno.EBADF);
  });

  it('executes another program in the same process, which stays what it was told to be', () => {
    const told = node(`
      const became = addon.becomeIoFlusher();
      const say = 'console.log(process.pid, process.argv0, require(' + JSON.stringify(${JSON.stringify(ADDON)}) + ').isIoFlusher())';
      console.log(process.pid, became, addon.isIoFlusher());
      const errno = addon.execute(process.execPath, ['@node', '-e', say], ['PATH=/bin'], 3);
      console.log('failed', errno);`);
    const [before, after] = told.trim().split('\n');
    const [pid, became, is] = (before as string).split(' ');
    // Without CAP_SYS_RESOURCE it is EPERM, and the program runs all the same.
    expect([`0 1`, `${constants.errno.EPERM} ${-constants.errno.EPERM}`]).toContain(`${became} ${is}`);
    expect(after).toBe(`${pid} @node ${is}`);
  });

  it('returns where a program cannot be executed', () => {
    expect(node(`console.log(addon.execute('/nonexistent', ['x'], [], 3))`).trim()).toBe(
      String(constants.errno.ENOENT),
    );
    expect(node(`console.log(addon.execute('/bin/true', [1], [], 3), addon.execute())`).trim()).toBe(
      `${constants.errno.EINVAL} ${constants.errno.EINVAL}`,
    );
  });

  it('keeps a mapping in memory', () => {
    const locked = node(`
      const fs = require('node:fs');
      const line = fs.readFileSync('/proc/self/maps', 'latin1').split('\\n').find((text) => / r-xp .*node$/.test(text));
      const [start, end] = line.split(' ')[0].split('-').map((hex) => Number.parseInt(hex, 16));
      console.log(addon.lockMapping(start, end), /VmLck:\\s+(\\d+)/.exec(fs.readFileSync('/proc/self/status', 'latin1'))[1] > 0, addon.lockMapping(end, start));`);
    expect([
      `0 true ${constants.errno.EINVAL}`,
      `${constants.errno.EPERM} false 22`,
      '12 false 22',
    ]).toContain(locked.trim());
  });

  it('locks a file for as long as it is open, whoever else opened it', () => {
    const path = join(mkdtempSync(join(tmpdir(), 'dmlog-lock-')), 'lock');
    onTestFinished(() => rmSync(dirname(path), { recursive: true }));
    const { lockFile } = loadBinding();
    const [first, second] = [openSync(path, 'w'), openSync(path, 'w')];
    expect([lockFile(first), lockFile(first), lockFile(second)]).toEqual([0, 0, constants.errno.EAGAIN]);
    closeSync(first);
    expect(lockFile(second)).toBe(0);
    closeSync(second);
    expect(lockFile(999_999)).toBe(constants.errno.EBADF);
  });
});
