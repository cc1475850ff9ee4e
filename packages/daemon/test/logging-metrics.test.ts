import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  createLogger,
  type DaemonStatus,
  daemonMetrics,
  LOG_BACKLOG_BYTES_MAX,
  type LogStatus,
  Metrics,
} from '../src/index.js';
import { nameMirrors } from '../src/logging.js';
import { scratchDirectory } from './helpers/scratch.js';

describe('createLogger', () => {
  it('writes JSON lines with name, level by name and time', async () => {
    const file = path.join(scratchDirectory(), 'out');
    const fd = fs.openSync(file, 'w');
    const logging = createLogger({ name: 'singled', level: 'info', fd });
    logging.logger.debug('hidden');
    logging.logger.info({ region: 7 }, 'seen');
    await logging.close(1000);
    const lines = fs
      .readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({ name: 'singled', level: 'info', region: 7, msg: 'seen' });
    expect(Date.parse(lines[0].time)).toBeGreaterThan(0);
  });

  it('names the mirror of the log that a line is about, where somebody knows it', async () => {
    const file = path.join(scratchDirectory(), 'out');
    const { logger, close } = createLogger({ name: 'singled', fd: fs.openSync(file, 'w') });
    logger.warn({ uuid: 'u1' }, 'before');
    nameMirrors(logger, (uuid) => (uuid === 'u1' ? 'm' : null));
    logger.warn({ uuid: 'u1', device: '/dev/log' }, 'known');
    logger.warn({ uuid: 'u2' }, 'not known');
    logger.warn('about none');
    await close(1000);
    const lines = fs.readFileSync(file, 'utf8').trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).mirror)).toEqual([undefined, 'm', undefined, undefined]);
  });

  it('neither blocks nor grows while nobody reads, drops lines, and closes in time', async () => {
    const fifo = path.join(scratchDirectory(), 'pipe');
    execFileSync('mkfifo', [fifo]);
    // Read and write, so that the open does not wait; nobody ever reads, and the pipe takes 64 KiB.
    const fd = fs.openSync(fifo, fs.constants.O_RDWR);
    const reader = fs.openSync(fifo, fs.constants.O_RDWR);
    const logging = createLogger({ name: 'singled', fd });
    const text = 'x'.repeat(10_000);
    const count = Math.ceil((2 * LOG_BACKLOG_BYTES_MAX) / text.length);
    const start = performance.now();
    for (let i = 0; i < count; i++) logging.logger.info(text);
    expect(performance.now() - start).toBeLessThan(5000);
    expect(logging.droppedLines()).toBeGreaterThan(count / 4);
    expect(logging.droppedLines()).toBeLessThan(count);
    const closing = performance.now();
    await logging.close(50);
    expect(performance.now() - closing).toBeLessThan(1000);
    // Lets the write that waits in the thread pool end.
    fs.readSync(reader, Buffer.alloc(1 << 20));
    fs.closeSync(reader);
  });
});

describe('endProcess', () => {
  const source = new URL('../src/lifecycle/end.ts', import.meta.url).pathname;

  /** Runs endProcess in a process whose thread pool is stuck in the open of a FIFO, or is idle. */
  function end(code: number, stuck: boolean): { status: number | null; signal: string | null } {
    const directory = scratchDirectory();
    const body = fs
      .readFileSync(source, 'utf8')
      .replace(/: (boolean|number|void)\b/g, '')
      .replaceAll('export ', '');
    const script = path.join(directory, 'end.cjs');
    execFileSync('mkfifo', [path.join(directory, 'fifo')]);
    const stall = stuck
      ? `require('fs').open(${JSON.stringify(path.join(directory, 'fifo'))}, 'r', () => {});`
      : '';
    fs.writeFileSync(script, `${body}\n${stall}\nsetTimeout(() => endProcess(${code}, 50), 50);`);
    return spawnSync(process.execPath, [script], { timeout: 10_000, killSignal: 'SIGABRT' });
  }

  it('keeps the exit code where nothing stalls', () => {
    expect(end(0, false)).toMatchObject({ status: 0, signal: null });
    expect(end(69, false)).toMatchObject({ status: 69, signal: null });
  });

  it('ends by a signal where a file system call stalls', () => {
    expect(end(0, true)).toMatchObject({ signal: 'SIGTERM' });
    expect(end(70, true)).toMatchObject({ signal: 'SIGKILL' });
  });
});

const LOG: LogStatus = {
  uuid: 'u"1',
  luid: '0xffff888003a1c000',
  dmName: 'm',
  type: 'disk',
  state: 'live',
  targetSectors: 2048,
  regionSizeSectors: 1024,
  regionCount: 2,
  inSyncCount: 1,
  dirtyCount: 1,
  recovering: null,
  logDevice: '/dev/log',
  deviceStatus: 'A',
  lazyCount: 0,
  requests: 40,
  writes: 3,
  bytesWritten: 4096,
  legFlushes: 2,
  legFlushFailures: 1,
  lazyHits: 5,
};

describe('metrics', () => {
  it('read plain counters when asked, and at no other time', async () => {
    let reads = 0;
    let total = 5;
    const metrics = new Metrics();
    metrics.counter('x_total', 'Help.', () => {
      reads++;
      return total;
    });
    expect(reads).toBe(0);
    expect(await metrics.text()).toContain('# TYPE x_total counter\nx_total 5\n');
    total = 9;
    expect(await metrics.text()).toContain('x_total 9\n');
    expect(reads).toBe(2);
  });

  it('show transport and logs; a destroyed log is gone, and one scrape takes one snapshot', async () => {
    let logs: LogStatus[] = [LOG, { ...LOG, luid: '0x2', deviceStatus: 'F', recovering: 0 }];
    let snapshots = 0;
    const metrics = daemonMetrics((): DaemonStatus => {
      snapshots++;
      return {
        version: '1',
        pid: 1,
        uptimeSeconds: 3,
        transport: { name: 'batch', received: 7, pollIdleNs: 2e9 },
        logs,
      };
    });
    const text = await metrics.text();
    expect(snapshots).toBe(1);
    expect(text).toContain('dmlog_build_info{version="1",transport="batch"} 1');
    expect(text).toContain('dmlog_transport_received_total 7');
    expect(text).toContain('dmlog_transport_poll_idle_seconds_total 2');
    expect(text).toContain('dmlog_logs 2');
    const labels = (luid: string): string => `{uuid="u\\"1",luid="${luid}",name="m",type="disk"}`;
    expect(text).toContain(`dmlog_log_size_bytes${labels(LOG.luid)} 1048576`);
    expect(text).toContain(`dmlog_log_healthy${labels(LOG.luid)} 1`);
    expect(text).toContain(`dmlog_log_healthy${labels('0x2')} 0`);
    expect(text).toContain(`dmlog_log_recovering${labels('0x2')} 1`);
    expect(text).toContain(`dmlog_log_requests_total${labels(LOG.luid)} 40`);
    expect(text).toContain(`dmlog_log_lazy_hits_total${labels(LOG.luid)} 5`);
    expect(text).toContain('# TYPE dmlog_log_leg_flush_failures_total counter');
    await new Promise((resolve) => setImmediate(resolve));
    logs = [LOG];
    const later = await metrics.text();
    expect(snapshots).toBe(2);
    expect(later).toContain('dmlog_logs 1');
    expect(later).not.toContain('luid="0x2"');
  });
});
