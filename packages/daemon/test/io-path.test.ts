import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import type { ProcessBinding } from '@dmlog/connector';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { becomeIoFlusher, fileMappings, lockFilePages } from '../src/lifecycle/io-path.js';
import { addMemoryMetrics, observePauses } from '../src/memory-metrics.js';
import { Metrics } from '../src/metrics.js';

/** A kernel that answers so, and what it was asked. */
function binding(answers: Partial<Record<keyof ProcessBinding, number>> = {}) {
  const asked: unknown[][] = [];
  const answer =
    (name: keyof ProcessBinding) =>
    (...args: unknown[]): number => {
      asked.push([name, ...args]);
      return answers[name] ?? 0;
    };
  const names = ['notify', 'isIoFlusher', 'becomeIoFlusher', 'lockMapping', 'execute', 'lockFile'] as const;
  const process = Object.fromEntries(names.map((name) => [name, answer(name)])) as unknown as ProcessBinding;
  return { process, asked, calls: () => asked.map(([name]) => name) };
}

describe('becomeIoFlusher', () => {
  it('does nothing where a process before this one has done it', () => {
    const { process, calls } = binding({ isIoFlusher: 1 });
    expect(becomeIoFlusher({ NOTIFY_SOCKET: '/n' }, process)).toBeNull();
    expect(calls()).toEqual(['isIoFlusher']);
  });

  it('sets it for this thread and those to come, without a service manager', () => {
    const { process, calls } = binding();
    expect(becomeIoFlusher({}, process)).toBeNull();
    expect(calls()).toEqual(['isIoFlusher', 'becomeIoFlusher']);
  });

  it('begins the process anew under one, with its words, environment and passed descriptors', () => {
    const { process: kernel, asked } = binding({ execute: constants.errno.EACCES });
    const environment = { NOTIFY_SOCKET: '/n', LISTEN_FDS: '2' };
    // It returns only because that fails here.
    expect(becomeIoFlusher(environment, kernel)).toMatch(/executed once more \(errno 13\)/);
    expect(asked.at(-1)).toEqual([
      'execute',
      process.execPath,
      [process.argv0, ...process.execArgv, ...process.argv.slice(1)],
      ['NOTIFY_SOCKET=/n', 'LISTEN_FDS=2'],
      5,
    ]);
  });

  it.each([
    ['a kernel that does not know it', { isIoFlusher: -constants.errno.EINVAL }, /errno 22/],
    ['missing rights', { becomeIoFlusher: constants.errno.EPERM }, /errno 1$/],
  ])('says what is missing: %s', (_, answers, text) => {
    const { process, calls } = binding(answers);
    expect(becomeIoFlusher({ NOTIFY_SOCKET: '/n' }, process)).toMatch(text);
    expect(calls()).not.toContain('execute');
  });

  it('says that there is no addon', () => {
    expect(becomeIoFlusher({}, null)).toMatch(/does not load/);
    expect(lockFilePages(null)).toMatch(/does not load/);
  });
});

describe('lockFilePages', () => {
  it('takes what is mapped from files, and neither memory nor devices', () => {
    const maps = [
      '00400000-00500000 r-xp 00000000 fe:00 1234   /usr/bin/node',
      '7f0000000000-7f0000001000 rw-s 00000000 00:17 42     /run/dmlog/state/x y.log (deleted)',
      '7f0000001000-7f0000002000 rw-p 00000000 00:00 0 ',
      '7f0000002000-7f0000003000 rw-p 00000000 00:00 0      [heap]',
      '7f0000003000-7f0000004000 rw-s 00000000 00:05 7      /dev/zero',
      '',
    ].join('\n');
    expect(fileMappings(maps)).toEqual([
      { start: 0x400000, end: 0x500000 },
      { start: 0x7f0000000000, end: 0x7f0000001000 },
    ]);
    // The heap of the engine has no file: what V8 gives back must not be locked.
    expect(fileMappings(readFileSync('/proc/self/maps', 'latin1')).length).toBeGreaterThan(3);
  });

  it('counts what it locked, passes over what is gone, and says what fails', () => {
    expect(lockFilePages(binding().process)).toBeGreaterThan(1 << 20);
    expect(lockFilePages(binding({ lockMapping: constants.errno.ENOMEM }).process)).toBe(0);
    expect(lockFilePages(binding({ lockMapping: constants.errno.EPERM }).process)).toMatch(/errno 1$/);
  });
});

describe('memory metrics', () => {
  it('tell heap and pauses', async () => {
    const metrics = new Metrics();
    const pauses = observePauses();
    onTestFinished(() => pauses.close());
    addMemoryMetrics(metrics, pauses);
    const garbage: unknown[] = [];
    await vi.waitFor(
      () => {
        garbage.splice(0, garbage.length, ...Array.from({ length: 100_000 }, () => ({})));
        expect(pauses.collections).toBeGreaterThan(0);
      },
      { timeout: 20_000, interval: 5 },
    );
    expect(pauses.longestSeconds).toBeLessThanOrEqual(pauses.seconds);
    const text = await metrics.text();
    expect(Number(/^dmlog_heap_total_bytes (\d+)$/m.exec(text)?.[1])).toBeGreaterThan(1 << 20);
    expect(text).toMatch(/^dmlog_gc_total [1-9]/m);
    expect(text).toMatch(/^dmlog_gc_pause_longest_seconds /m);
  });
});
