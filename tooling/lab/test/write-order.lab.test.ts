/**
 * No power cut at any moment, whatever the volatile caches of the log device and of both legs keep or lose of it, leaves a region clean on the log whose
 * legs may differ.
 *
 * dm-log-writes lies under the log device and both legs. What it alone can show is shown: replayed to marks set while nobody wrote, with all that was not
 * flushed lost, no clean region has legs that differ. But it knows the order on one device only, and there the order in which
 * writes became durable, not the one in which they were sent: it cannot tell whether a leg's write left before the mark in the log was on media.
 * So below it lie three disks served by one process (guest/recorder.pl), which sees the arrival and the end of every write and flush of all
 * three in one order. src/write-order.ts judges *every* moment of that order against *every* state that the three caches could leave behind. The
 * two witnesses check each other: dm-log-writes must have recorded the same sectors with the same contents.
 *
 * For `integrated_flush` the same says that marks which a FLUSH carried are on media before the write is: a leg's write that arrives while its
 * region may be clean on the log is a violation.
 *
 * That the check can fail is shown with daemons that lie: one does not flush the log, one answers before the log's write has ended, one
 * does not flush the legs. The kernel's own disk log passes, which calibrates it.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import type { MirrorLog } from '../src/index.js';
import { recordedSectors } from '../src/log-writes.js';
import { type TracedDisk, tracedSectors } from '../src/order-trace.js';
import {
  cleanButDifferent,
  expectExercised,
  REGION_SECTORS,
  RecordedMachine,
  type RecordedRun,
} from './recorded-mirror.js';
import { useLab } from './support.js';

const lab = useLab();
let recorded: RecordedMachine;
beforeAll(async () => {
  recorded = await RecordedMachine.boot(lab());
});

const LEG_TAG_BYTES = 8;

/** One uuid for all: each mirror is gone before the next comes. */
function ours(integratedFlush: boolean): (device: string) => MirrorLog {
  return (device) => ({
    kind: 'userspace',
    uuid: 'LVM-order',
    type: 'disk',
    args: [device, REGION_SECTORS],
    integratedFlush,
  });
}

function texts({ report }: RecordedRun): string[] {
  return report.violations.map(({ text }) => text);
}

/** Both witnesses have seen the same writes; the trace begins with what the legs held before. */
function expectSameWrites({ events, recordings }: RecordedRun): void {
  const written = events.filter(({ request }) => request.sectors !== REGION_SECTORS * 64);
  for (const leg of ['leg0', 'leg1'] as const)
    expect(recordedSectors(recordings[leg], LEG_TAG_BYTES)).toEqual(tracedSectors(written, leg));
  expect(readable(recordedSectors(recordings.log))).toEqual(readable(tracedSectors(written, 'log')));
}

/** A bitmap's sector is mostly zeroes, which would bury a difference. */
function readable(sectors: Map<number, string[]>): Map<number, string[]> {
  return new Map(
    [...sectors].map(([sector, all]) => [sector, all.map((contents) => contents.replace(/0+$/, ''))]),
  );
}

function flushesRecorded(run: RecordedRun, name: TracedDisk): number {
  return run.recordings[name].filter(({ flush }) => flush).length;
}

describe('a clean region of a log on a disk with a volatile cache', () => {
  it.each([
    { title: 'with lazy clear', lazyMs: 150, integrated: false },
    { title: 'without lazy clear', lazyMs: 0, integrated: false },
    { title: 'with integrated_flush', lazyMs: 0, integrated: true },
  ])('has equal legs at every moment, $title', async ({ lazyMs, integrated }) => {
    const run = await recorded.run(ours(integrated), { args: ['--lazy-clear-ms', String(lazyMs)] });
    expectSameWrites(run);
    expectExercised(run);
    expect(run.table.includes(' integrated_flush ')).toBe(integrated);
    expect(texts(run)).toEqual([]);
    for (const mark of run.marks)
      expect({ mark, regions: cleanButDifferent(run, mark) }).toEqual({ mark, regions: [] });
    for (const leg of ['leg0', 'leg1'] as const) expect(flushesRecorded(run, leg)).toBeGreaterThan(5);
  });

  it('has equal legs at every moment under the kernel’s own disk log', async () => {
    const run = await recorded.run((device) => ({ kind: 'disk', args: [device, REGION_SECTORS] }));
    expectSameWrites(run);
    expectExercised(run);
    expect(texts(run)).toEqual([]);
    for (const mark of run.marks)
      expect({ mark, regions: cleanButDifferent(run, mark) }).toEqual({ mark, regions: [] });
  });
});

describe('the check finds a daemon', () => {
  it.each([false, true])(
    'that does not wait for the log’s media (integrated_flush: %s)',
    async (integrated) => {
      const run = await recorded.run(ours(integrated), {
        args: ['--lazy-clear-ms', '0'],
        faults: { noMediaFlush: true },
      });
      expectSameWrites(run);
      expect(run.report.violations.filter(({ by }) => by === 'leg write').length).toBeGreaterThan(20);
    },
  );

  it('that answers FLUSH before the log’s write has ended', async () => {
    const run = await recorded.run(ours(false), {
      args: ['--lazy-clear-ms', '0'],
      faults: { lateLogWritesMs: 1 },
    });
    // The witnesses differ here, as they should: the image changes while its write is under way.
    expect(run.report.violations.filter(({ by }) => by === 'leg write').length).toBeGreaterThan(20);
  });

  it('that does not flush the legs', async () => {
    const run = await recorded.run(ours(false), {
      args: ['--lazy-clear-ms', '0'],
      faults: { noLegFlush: true },
    });
    expectSameWrites(run);
    expect(run.report.violations.filter(({ by }) => by === 'log write').length).toBeGreaterThan(20);
    expect(cleanButDifferent(run, 'resynced').length).toBeGreaterThan(0);
  });
});
