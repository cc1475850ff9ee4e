import { execFileSync } from 'node:child_process';
import { afterEach, describe, expect, it } from 'vitest';
import {
  compileNative,
  type NativePrograms,
  runHandOvers,
  runSteady,
  type Subject,
  startSubject,
} from '../src/index.js';
import { allowedCpus } from '../src/native.js';

/** Why sockets cannot be used here, or undefined. */
function obstacle(): string | undefined {
  for (const [command, why] of [
    [['cc', '--version'], 'there is no C compiler (cc)'],
    [['taskset', '--version'], 'there is no taskset'],
    [['unshare', '--net', '--', 'true'], 'network namespaces cannot be made: run as root'],
  ] as const) {
    try {
      execFileSync(command[0], command.slice(1), { stdio: 'ignore' });
    } catch {
      return why;
    }
  }
  return undefined;
}

const missing = obstacle();
if (missing !== undefined) console.warn(`\n*** SKIPPED: the bench is not tested, ${missing} ***\n`);

describe('the bench can run', () => {
  it.runIf(process.env['CI'] === 'true')('in CI, where a skip would hide that nothing was measured', () => {
    expect(missing).toBeUndefined();
  });
});

describe.skipIf(missing !== undefined)('driver and echo', () => {
  const REGIONS = 2 ** 16;
  const log = { log: 0, regions: REGIONS, args: 'core 2 nosync' };
  const cpus = String(allowedCpus().at(-1) ?? 0);
  let subject: Subject | undefined;

  async function start(fault?: string): Promise<Subject> {
    const programs: NativePrograms = compileNative();
    subject = await startSubject('echo', { programs, cpus, ...(fault === undefined ? {} : { fault }) });
    await subject.driver.open(log);
    return subject;
  }

  afterEach(async () => {
    await subject?.stop();
    subject = undefined;
  });

  it('plays every script and gets a reply to every request', async () => {
    const { driver } = await start();
    const cycles = 20;
    const write = await driver.run({ script: 'write', log: 0, cycles });
    expect(write).toMatchObject({ cycles, requests: 6 * cycles, lost: 0, stale: 0, foreign: 0 });
    expect(write.types['IN_SYNC']?.count).toBe(2 * cycles);
    expect(write.types['FLUSH after marks']?.count).toBe(cycles);
    const resync = await driver.run({ script: 'resync', log: 0, cycles });
    expect(resync).toMatchObject({ cycles, requests: 6 * cycles, lost: 0, stale: 0 });
    const types = await driver.run({ script: 'types', log: 0, cycles });
    expect(types).toMatchObject({ cycles, requests: 17 * cycles, lost: 0, stale: 0 });
    await driver.prepare({ log: 1, regions: REGIONS, args: 'core 2' });
    const life = await driver.run({ script: 'lifecycle', log: 1, cycles });
    expect(life).toMatchObject({ cycles, requests: 9 * cycles, lost: 0, stale: 0 });
    for (const row of ['CTR', 'RESUME', 'GET_RESYNC_WORK, far', 'DTR'])
      expect(life.types[row]?.count).toBe(cycles);
    expect((await driver.close(0)).requests).toBe(3);
  });

  it('keeps percentiles in order and the mean within them', async () => {
    const { driver } = await start();
    const { cycle, types } = await driver.run({ script: 'write', log: 0, cycles: 200 });
    for (const summary of [cycle!, ...Object.values(types)]) {
      const { min, p50, p90, p99, p999, max, mean } = summary;
      expect([min, p50, p90, p99, p999, max]).toEqual([min, p50, p90, p99, p999, max].sort((a, b) => a - b));
      expect(min).toBeGreaterThan(0);
      expect(mean).toBeGreaterThanOrEqual(min);
      expect(mean).toBeLessThanOrEqual(max);
    }
    expect(cycle!.min).toBeGreaterThan(types['IN_SYNC']!.min);
  });

  it('matches 16 requests in flight to their replies', async () => {
    const { driver } = await start();
    for (let i = 1; i <= 16; i++) await driver.open({ ...log, log: i });
    const mirrors = await driver.run({ script: 'write', log: 1, logs: 16, lanes: 16, cycles: 160 });
    expect(mirrors.cycles).toBeGreaterThanOrEqual(160);
    expect(mirrors).toMatchObject({ requests: 6 * mirrors.cycles, lost: 0, stale: 0 });
    const pipelined = await driver.run({ script: 'in_sync', log: 0, lanes: 16, cycles: 400 });
    expect(pipelined).toMatchObject({ requests: pipelined.cycles, lost: 0, stale: 0 });
  });

  it.each([
    { fault: 'short', says: /IN_SYNC: 4 bytes of data, not 8 to 8/ },
    { fault: 'error', says: /IN_SYNC on .*error -5/ },
    { fault: 'value', says: /IN_SYNC: 7 is neither 0 nor 1/ },
  ])('ends with an error at a reply that is wrong ($fault)', async ({ fault, says }) => {
    const { driver } = await start(fault);
    await expect(driver.run({ script: 'write', log: 0, cycles: 100 })).rejects.toMatchObject({
      code: 'ERR_BENCH_WRONG_REPLY',
      message: expect.stringMatching(says),
    });
  });

  it('counts a lost reply, repeats the request and goes on', async () => {
    const { driver } = await start('silent');
    const report = await driver.run({ script: 'in_sync', log: 0, cycles: 60 });
    expect(report).toMatchObject({ cycles: 60, lost: 1 });
    expect(report.wallNs).toBeGreaterThan(2e9);
  });

  it('counts a reply that comes twice as stale and takes it once', async () => {
    const { driver } = await start('twice');
    const report = await driver.run({ script: 'in_sync', log: 0, cycles: 220 });
    expect(report).toMatchObject({ cycles: 220, requests: 220, lost: 0, stale: 4 });
  });

  it('refuses an unknown log instead of measuring nothing', async () => {
    const { driver } = await start();
    await expect(driver.run({ script: 'write', log: 9, cycles: 1 })).rejects.toThrow(/log 9 is not open/);
  });

  it('plays a long load on singled, and reads from it what pauses and memory were', async () => {
    const printed: string[] = [];
    const { rows, lost, end, verdicts } = await runSteady({
      seconds: 0.3,
      print: (text) => printed.push(text),
    });
    expect(lost).toBe(0);
    expect([...rows.keys()]).toEqual(
      expect.arrayContaining(['types: STATUS_INFO', 'write: FLUSH after marks', 'resync: GET_RESYNC_WORK']),
    );
    for (const [row, stretches] of rows) {
      expect(stretches.length, row).toBe(1);
      expect(stretches[0]?.count, row).toBeGreaterThan(0);
    }
    expect(end.residentBytes).toBeGreaterThan(0);
    expect(end.pauseSeconds).toBeGreaterThanOrEqual(end.longestPauseSeconds);
    expect(verdicts.map(({ target }) => target.replace(/:? .*/, ''))).toEqual(['p999', 'no', 'no']);
    expect(printed.join('')).toMatch(/write: CLEAR_REGION +[1-9]/);
  });

  it('has singled succeeded under load, and counts who waited', async () => {
    const { gapsMs, lost, requests, longestNs } = await runHandOvers({ count: 1 });
    expect({ gaps: gapsMs.length, lost }).toEqual({ gaps: 1, lost: 0 });
    expect(requests).toBeGreaterThan(0);
    expect(longestNs).toBeGreaterThan(0);
  });
});
