import fs from 'node:fs';
import path from 'node:path';
import { imageBytes } from '@dmlog/log';
import { parseTrace, RequestType as R } from '@dmlog/protocol';
import { describe, expect, it, vi } from 'vitest';
import { STATUS_COLUMNS } from '../src/commands/status.js';
import { BOUND, run, scratch, start, TestDaemon } from './helpers/daemon.js';

const columnsOf = (line: string): string[] => line.trim().split(/ {2,}/);

/** A file that stands for the log device of 16 regions. */
function logFile(): string {
  const file = path.join(scratch(), 'log');
  fs.writeFileSync(file, Buffer.alloc(imageBytes(16, 4096)));
  return file;
}

describe('status', () => {
  it('is the default, has its documented columns, and shows rate and time left while a log is resynced', async () => {
    const daemon = await TestDaemon.start();
    await daemon.resume('u-done', '16384 core 1024 nosync');
    await daemon.resume('u-resync', '16384 core 1024');
    const command = start(daemon.args([]));
    let region = 0;
    await vi.waitFor(async () => {
      await daemon.ask('u-resync', R.GET_RESYNC_WORK);
      await daemon.ask('u-resync', R.SET_REGION_SYNC, [region++ % 14, 1]);
      expect(command.out).not.toBe('');
    }, BOUND);
    const { code, out } = await command.ended;
    expect(code).toBe(0);
    const [head, titles, ...rows] = out.trimEnd().split('\n');
    expect(head).toMatch(/^singled \d+\.\d+\.\d+, pid \d+, up \d+s, transport loopback$/);
    expect(columnsOf(titles as string)).toEqual(STATUS_COLUMNS.map(([title]) => title));
    const done = rows.find((row) => row.startsWith('u-done'));
    expect(columnsOf(done as string)).toEqual([
      'u-done',
      'mirror-u-done',
      'core',
      'live',
      '8 MiB',
      '512 KiB',
      '100 %',
      '0',
      '-',
      '-',
      '-',
      '-',
      '-',
    ]);
    const resync = columnsOf(rows.find((row) => row.startsWith('u-resync')) as string);
    expect(resync[9]).toMatch(/iB\/s$/);
    expect(resync[10]).toMatch(/^\d+s|-$/);
  });

  it('prints JSON, and no logs', async () => {
    const daemon = await TestDaemon.start();
    expect((await daemon.ctl(['status'])).out).toContain('\nno logs\n');
    await daemon.resume('u-1', '16384 core 1024 nosync');
    const { out } = await daemon.ctl(['status', '--json']);
    expect(JSON.parse(out).logs).toMatchObject([
      {
        uuid: 'u-1',
        dmName: 'mirror-u-1',
        inSyncCount: 16,
        resyncBytesPerSecond: null,
        resyncSecondsLeft: null,
      },
    ]);
  });

  it('says what to do where no daemon runs, and does not know other words', async () => {
    const nobody = await run(['--control-socket', '/nonexistent/s']);
    expect(nobody).toMatchObject({ code: 69, out: '' });
    expect(nobody.error).toContain('start it');
    expect(await run(['stats'])).toMatchObject({ code: 64 });
    expect(await run(['flush', '--timeout', 'soon'])).toMatchObject({ code: 64 });
    const help = await run(['--help']);
    expect(help.code).toBe(0);
    expect(help.out).toContain('Exit codes:');
  });
});

describe('flush and settings', () => {
  it('clean the image of a log, and change how long it would have taken', async () => {
    const daemon = await TestDaemon.start({ lazyClearMs: 3_600_000 });
    const file = logFile();
    await daemon.resume('u-1', `16384 disk ${file} 1024 nosync`);
    await daemon.ask('u-1', R.MARK_REGION, [5]);
    await daemon.ask('u-1', R.FLUSH);
    await daemon.ask('u-1', R.CLEAR_REGION, [5]);
    expect(await daemon.ctl(['verify', '--clean', file])).toMatchObject({ code: 1 });
    expect(await daemon.ctl(['flush', 'mirror-u-1'])).toMatchObject({
      code: 0,
      out: 'u-1: 1 regions released\n',
    });
    expect(await daemon.ctl(['verify', '--clean', file])).toMatchObject({ code: 0 });
    expect((await daemon.ctl(['settings'])).out).toContain('lazy-clear-ms           3600000\n');
    const changed = await daemon.ctl(['settings', '--lazy-clear-ms', '50', '--json']);
    expect(JSON.parse(changed.out)).toMatchObject({ lazyClearMs: 50 });
    expect(await daemon.ctl(['settings', '--lazy-clear-ms', '99999999'])).toMatchObject({ code: 64 });
    expect(await daemon.ctl(['flush', 'u-none'])).toMatchObject({ code: 66 });
  });
});

describe('watch', () => {
  it('prints one JSON line for each event that was asked for', async () => {
    const daemon = await TestDaemon.start();
    const command = start(daemon.args(['watch', '--event', 'created', 'removed']));
    // The watch is on once something that happens is seen.
    await vi.waitFor(async () => {
      await daemon.ask('u-1', R.CTR, new TextEncoder().encode('16384 core 1024'));
      await daemon.ask('u-1', R.RESUME);
      await new Promise((resolve) => setTimeout(resolve, 300));
      await daemon.ask('u-1', R.DTR);
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(command.out.split('\n').length).toBeGreaterThan(2);
    }, BOUND);
    command.stop();
    expect(await command.ended).toMatchObject({ code: 0, error: '' });
    const events = command.out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(new Set(events.map(({ event }) => event))).toEqual(new Set(['created', 'removed']));
    expect(events[0]).toMatchObject({ uuid: 'u-1' });
    expect(await run(['watch', '--event', 'nonsense'])).toMatchObject({ code: 64 });
  });
});

describe('trace and replay', () => {
  it('decode what passes, write it as a trace, and a fresh log answers the same', async () => {
    const daemon = await TestDaemon.start({ lazyClearMs: 0 });
    const file = path.join(scratch(), 'trace.jsonl');
    const recording = start(daemon.args(['trace', 'u-1', '--write', file]));
    const printing = start(daemon.args(['trace', '--type', 'flush', 'mark_region']));
    // An unknown log is answered with ESRCH, and shows that both look.
    await vi.waitFor(async () => {
      await daemon.ask('u-1', R.FLUSH);
      expect(printing.out).toContain('errno 3');
      expect(fs.readFileSync(file, 'utf8').split('\n').length).toBeGreaterThan(3);
    }, BOUND);
    await daemon.resume('u-1', '16384 core 1024 nosync');
    await daemon.ask('u-1', R.MARK_REGION, [7, 9]);
    await daemon.ask('u-1', R.FLUSH);
    await daemon.ask('u-1', R.STATUS_INFO);
    await vi.waitFor(() => {
      const last = fs.readFileSync(file, 'utf8').trimEnd().split('\n').at(-1) as string;
      expect(Buffer.from(JSON.parse(last).hex, 'hex').toString('latin1')).toContain('1 core');
      expect(printing.out).toMatch(
        /MARK_REGION u-1 7 9\n.*MARK_REGION ok after \d+ µs\n.*FLUSH u-1\n.*FLUSH ok after/s,
      );
    }, BOUND);
    for (const command of [recording, printing]) command.stop();
    await Promise.all([recording.ended, printing.ended]);
    expect(printing.out).not.toContain('STATUS_INFO');
    expect(parseTrace(fs.readFileSync(file, 'utf8')).header.scenario).toBe('u-1');
    const replayed = await run(['replay', file]);
    expect(replayed.out).toMatch(/requests, \d+ answered as recorded, 0 otherwise, 0 not, 0 without/);
    expect(replayed.code).toBe(0);
  });

  it('find an answer that is another one, and refuse what is no trace', async () => {
    const daemon = await TestDaemon.start();
    const file = path.join(scratch(), 'trace.jsonl');
    const recording = start(daemon.args(['trace', '--write', file, '--count', '3']));
    let asked = 0;
    await vi.waitFor(async () => {
      await daemon.resume(`u-${asked++}`, '16384 core 1024 nosync');
      expect(recording.code).toBe(0);
    }, BOUND);
    const lines = fs.readFileSync(file, 'utf8').trimEnd().split('\n');
    expect(lines.filter((line) => line.includes('from-kernel'))).toHaveLength(3);
    // The first answer becomes an error.
    const index = lines.findIndex((line) => line.includes('to-kernel') && line.length > 400);
    const answer = JSON.parse(lines[index] as string);
    const bytes = Buffer.from(answer.hex, 'hex');
    bytes.writeInt32LE(-5, 180);
    lines[index] = JSON.stringify({ ...answer, hex: bytes.toString('hex') });
    fs.writeFileSync(file, lines.join('\n'));
    const replayed = await run(['replay', file]);
    expect(replayed.out).toContain('recorded:');
    expect(replayed.code).toBe(1);
    fs.writeFileSync(file, 'nonsense');
    expect(await run(['replay', file])).toMatchObject({ code: 65 });
  });
});
