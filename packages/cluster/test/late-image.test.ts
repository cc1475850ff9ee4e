import { BITMAP_OFFSET, isCleanIn } from '@dmlog/log';
import { expect, it } from 'vitest';
import { ClusteredLog } from '../src/clustered-log.js';
import { bootIdWords, EntryType, entry } from '../src/entries.js';
import { Evidence } from '../src/evidence.js';
import { NO_POSITIONS } from '../src/messages.js';
import type { StateWatcher } from '../src/state.js';
import { LoneDaemon } from './lone-daemon.js';

/** A daemon that keeps the image of a disk log on which nothing is clean; a write of somebody else has made it say that everything is. */
function overwritten() {
  const daemon = new LoneDaemon('disk');
  const log = new ClusteredLog(daemon.replica, false);
  expect(daemon.ask(log, 'RESUME')).toBe(0);
  const image = daemon.image as Uint8Array;
  expect(isCleanIn(image, 5)).toBe(false);
  image.fill(0xff, BITMAP_OFFSET, BITMAP_OFFSET + 1);
  return { daemon, image };
}

it('the image is read and written again when somebody has written it who is not the writer any more', () => {
  const { daemon, image } = overwritten();
  daemon.submit([entry(EntryType.WROTE_LATE)]);
  expect(isCleanIn(image, 5)).toBe(false);
  expect(daemon.replica.image?.keeper?.idle).toBe(true);
});

it('… and when a node is back that was taken for dead, as it may have been in the middle of a write to the image', () => {
  const { daemon, image } = overwritten();
  daemon.replica.state?.meet(2, '2'.padStart(32, '0'), true);
  daemon.submit([entry(EntryType.VOUCH)]);
  expect(isCleanIn(image, 5)).toBe(false);
});

it('a write that nobody overtook is not spoken of', () => {
  const { daemon } = overwritten();
  const told: string[] = [];
  const { state } = daemon.replica;
  const watcher = state?.watcher as StateWatcher;
  watcher.wroteLate = () => told.push('late');
  daemon.submit([entry(EntryType.MARK, [3])]);
  expect(told).toEqual([]);
});

it('what a member has written as the writer in one history says nothing about another one', () => {
  const evidence = new Evidence();
  evidence.disk = { marks: 7, clears: 7, failed: 0 };
  evidence.ownDisk = evidence.disk;
  evidence.newHistory();
  expect([evidence.disk, evidence.ownDisk]).toEqual([NO_POSITIONS, NO_POSITIONS]);
});

it('a kernel is told that it may write one leg of a region only when the image shows the region dirty', () => {
  const daemon = new LoneDaemon('disk');
  const image = daemon.image as Uint8Array;
  image.fill(0xff, BITMAP_OFFSET, BITMAP_OFFSET + 1);
  const log = new ClusteredLog(daemon.replica, false);
  daemon.ask(log, 'RESUME');
  expect([daemon.isInSync(log, 5), isCleanIn(image, 5)]).toEqual([1, true]);
  daemon.holdsWrites = true;
  const bootId = bootIdWords('1'.padStart(32, '0'));
  daemon.submit([entry(EntryType.BROUGHT_GIVEN_UP, [...bootId, 5, 1])]);
  expect(daemon.replica.state?.givenUp.get(5)).toBe(true);
  expect([daemon.isInSync(log, 5), daemon.replica.mustWait(5), isCleanIn(image, 5)]).toEqual([
    null,
    true,
    true,
  ]);
  expect(daemon.isInSync(log, 4)).toBe(1);
  daemon.release();
  expect([daemon.isInSync(log, 5), daemon.replica.mustWait(5), isCleanIn(image, 5)]).toEqual([
    0,
    false,
    false,
  ]);
});

it('a FLUSH of a region that is marked without a MARK, by a failed write to a leg, waits for the image as well', () => {
  const daemon = new LoneDaemon('disk');
  const image = daemon.image as Uint8Array;
  image.fill(0xff, BITMAP_OFFSET, BITMAP_OFFSET + 1);
  const log = new ClusteredLog(daemon.replica, false);
  daemon.ask(log, 'RESUME');
  daemon.failsWrites = true;
  daemon.ask(log, 'SET_REGION_SYNC', 4, 0);
  daemon.ask(log, 'MARK_REGION', 4);
  const refused = daemon.send(log, 'FLUSH');
  expect([refused(), isCleanIn(image, 4)]).toEqual([undefined, true]);
  daemon.tick(log, 60_000);
  expect(refused()).toBe(5);
  daemon.failsWrites = false;
  daemon.tick(log, 120_000);
  expect([daemon.ask(log, 'FLUSH'), isCleanIn(image, 4)]).toEqual([0, false]);
});
