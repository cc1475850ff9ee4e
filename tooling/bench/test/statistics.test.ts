import { describe, expect, it } from 'vitest';
import type { Footprint, RunReport, Summary } from '../src/index.js';
import { median, ratioOfRounds } from '../src/index.js';
import type { RoundReports } from '../src/rounds.js';
import { judgeFootprint, judgeOneCore, judgeSizes } from '../src/targets.js';

describe('ratioOfRounds', () => {
  it('compares within a round, so that a slow spell of the machine cancels out', () => {
    expect(ratioOfRounds([10, 100, 1000], [5, 50, 500])).toEqual({ median: 2, min: 2, max: 2, rounds: 3 });
  });

  it('is not moved by one disturbed round', () => {
    expect(ratioOfRounds([10, 10, 900], [10, 10, 10])?.median).toBe(1);
  });

  it('is undefined without a common round', () => {
    expect(ratioOfRounds([undefined], [1])).toBeUndefined();
    expect(ratioOfRounds([1], [0])).toBeUndefined();
  });

  it('takes the mean of two middles', () => {
    expect(median([4, 1, 3, 2])).toBe(2.5);
  });
});

function summary(p50: number): Summary {
  return { count: 1, mean: p50, min: p50, p50, p90: p50, p99: p50, p999: p50, max: p50 };
}

function report(p50: number, rate: number): RunReport {
  const types = { IN_SYNC: summary(p50), FLUSH: summary(p50) };
  const none = { lost: 0, stale: 0, foreign: 0, reopened: 0 };
  return {
    what: '',
    wallNs: 1,
    requests: 1,
    cycles: 1,
    requestsPerSecond: rate,
    types,
    cycle: summary(2 * p50),
    ...none,
  };
}

function rounds(p50: number, rate: number, large = p50): RoundReports {
  const of = (value: number, perSecond: number) =>
    new Map(
      ['types', 'write', 'resync', '16 mirrors write', '16 pipelined'].map((key) => [
        key,
        [report(value, perSecond)],
      ]),
    );
  const singled = of(p50, rate);
  for (const key of ['types', 'write', 'resync']) singled.set(`${key} @2^27`, [report(large, rate)]);
  return new Map([
    ['echo', of(100, 1000)],
    ['singled', singled],
  ]);
}

describe('verdicts', () => {
  it('pass at the limit and miss beyond it', () => {
    expect(judgeOneCore(rounds(130, 800)).map(({ passed }) => passed)).toEqual([true, true, true]);
    expect(judgeOneCore(rounds(131, 799)).map(({ passed }) => passed)).toEqual([false, false, false]);
    expect(judgeSizes(rounds(100, 1000, 120))[0]?.passed).toBe(true);
    expect(judgeSizes(rounds(100, 1000, 121))[0]?.passed).toBe(false);
  });

  it('miss what was not measured', () => {
    expect(judgeSizes(new Map())[0]).toMatchObject({ passed: false, value: 'not measured' });
  });

  it('judge every cost of the footprint on its own', () => {
    const run = report(1, 1);
    const good: Footprint = {
      rssEmptyBytes: 1,
      rssOneMirrorBytes: 90 << 20,
      peakRssOneMirrorBytes: 1,
      bitsPerRegion: 6,
      peakBitsPerRegion: 6,
      idleSeconds: 3,
      idleTicks: 0,
      idleMicroseconds: 0,
      disk: {
        cycles: 1,
        idleBytesPerCycle: 4096,
        laterBytesPerCycle: 0,
        hotBytesPerCycle: 0,
        idleReport: run,
        hotReport: run,
      },
    };
    expect(judgeFootprint(good).every(({ passed }) => passed)).toBe(true);
    const bad: Footprint = {
      ...good,
      idleTicks: 1,
      rssOneMirrorBytes: (90 << 20) + 1,
      bitsPerRegion: 6.1,
      disk: { ...good.disk, idleBytesPerCycle: 8192, hotBytesPerCycle: 1 },
    };
    expect(judgeFootprint(bad).some(({ passed }) => passed)).toBe(false);
  });
});
