import { RequestType as R } from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import {
  CLEAR_RUNS_PER_WRITE_MAX,
  IMAGE_MAGIC,
  ReplyKind,
  readHeader,
  SUSPEND_FLUSH_MS_MAX,
  writeHeader,
} from '../src/index.js';
import { resumed, TestHost } from './host.js';

const NOSYNC = '16384 disk /dev/log 1024 nosync';
/** Regions 0 … 4095 fill the first 512-byte block of the bitmap. */
const MANY = `${2 ** 15 * 2} disk /dev/log 2 nosync`;

function manual(text = NOSYNC, options: ConstructorParameters<typeof TestHost>[1] = {}): TestHost {
  const host = resumed(new TestHost(text, options));
  host.auto = false;
  host.writes = 0;
  host.blocksWritten = 0;
  return host;
}

describe('FLUSH', () => {
  it('is answered at once when nothing was marked', () => {
    expect(manual().ask(R.FLUSH).kind).toBe(ReplyKind.ACK);
  });

  it('waits until the mark is on stable media', () => {
    const host = manual();
    host.ask(R.MARK_REGION, 3);
    const flush = host.later(R.FLUSH);
    expect(flush.errno).toBeNull();
    expect(host.cleanOnMedia()).toContain(3);
    host.endWrite();
    expect(flush.errno).toBe(0);
    expect(host.cleanOnMedia()).not.toContain(3);
    expect(host.blocksWritten).toBe(1);
  });

  it('of clears only does not wait', () => {
    const host = manual();
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    host.endWrite();
    host.ask(R.CLEAR_REGION, 3);
    expect(host.ask(R.FLUSH).kind).toBe(ReplyKind.ACK);
    expect(host.legFlushUnderWay).toBe(true);
  });

  it('of marks that are already being written waits for that write', () => {
    const host = manual();
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    const repeated = host.later(R.FLUSH);
    expect(repeated.errno).toBeNull();
    host.endWrite();
    expect(repeated.errno).toBe(0);
    expect(host.writes).toBe(1);
  });

  it('shares one write with all flushes that arrived during the last one', () => {
    const host = manual();
    host.ask(R.MARK_REGION, 1);
    const first = host.later(R.FLUSH);
    host.ask(R.MARK_REGION, 2);
    const second = host.later(R.FLUSH);
    host.ask(R.MARK_REGION, 3);
    const third = host.later(R.FLUSH);
    host.endWrite();
    expect([first.errno, second.errno, third.errno]).toEqual([0, null, null]);
    host.endWrite();
    expect([second.errno, third.errno]).toEqual([0, 0]);
    expect(host.writes).toBe(2);
    expect(host.cleanOnMedia()).not.toContain(3);
  });

  it('does not take a mark for written that came after its block was submitted', () => {
    const host = manual();
    host.ask(R.MARK_REGION, 1);
    host.later(R.FLUSH);
    host.ask(R.MARK_REGION, 2);
    host.endWrite();
    expect(host.cleanOnMedia()).toContain(2);
    expect(host.later(R.FLUSH).errno).toBeNull();
    host.endWrite();
    expect(host.cleanOnMedia()).not.toContain(2);
  });

  it('fails with EIO when the write failed, and is tried again by the next one', () => {
    const host = manual();
    host.ask(R.MARK_REGION, 3);
    const flush = host.later(R.FLUSH);
    host.endWrite(5);
    expect(flush.errno).toBe(5);
    expect(host.ask(R.STATUS_INFO).text).toBe('3 disk 254:3 D');
    host.log.checkInvariants();
    const again = host.later(R.FLUSH);
    host.endWrite();
    expect(again.errno).toBe(0);
    expect(host.cleanOnMedia()).not.toContain(3);
  });

  it('writes only the blocks that changed', () => {
    const host = manual(MANY);
    host.ask(R.MARK_REGION, 0, 4096 * 3, 4096 * 3 + 1, 4096 * 7);
    host.later(R.FLUSH);
    expect(host.write?.map(({ offset, bytes }) => [offset, bytes.length])).toEqual([
      [1024, 512],
      [1024 + 512 * 3, 512],
      [1024 + 512 * 7, 512],
    ]);
    host.endWrite();
    host.log.checkInvariants();
  });
});

describe('clears', () => {
  it('reach the medium only after the legs were flushed', () => {
    const host = manual();
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    host.endWrite();
    host.ask(R.CLEAR_REGION, 3);
    host.ask(R.MARK_REGION, 4);
    host.later(R.FLUSH);
    host.endWrite();
    expect(host.cleanOnMedia()).not.toContain(3);
    host.endLegFlush();
    host.endWrite();
    expect(host.cleanOnMedia()).toContain(3);
    expect(host.cleanOnMedia()).not.toContain(4);
  });

  it('stay off the medium when the legs cannot be flushed', () => {
    const host = manual();
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    host.endWrite();
    host.ask(R.CLEAR_REGION, 3);
    host.endLegFlush(false);
    expect(host.write).toBeNull();
    expect(host.ask(R.IS_CLEAN, 3).first).toBe(0);
    host.log.checkInvariants();
  });

  it('of a region that is marked during the flush of the legs are dropped', () => {
    const host = manual();
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    host.endWrite();
    host.ask(R.CLEAR_REGION, 3);
    host.ask(R.MARK_REGION, 3);
    expect(host.ask(R.FLUSH).kind).toBe(ReplyKind.ACK);
    host.endLegFlush();
    expect(host.write).toBeNull();
    expect(host.ask(R.IS_CLEAN, 3).first).toBe(0);
  });

  it('that came during a flush of the legs wait for the next one', () => {
    const host = manual();
    host.ask(R.MARK_REGION, 3, 4);
    host.later(R.FLUSH);
    host.endWrite();
    host.ask(R.CLEAR_REGION, 3);
    host.ask(R.CLEAR_REGION, 4);
    host.endLegFlush();
    expect(host.ask(R.IS_CLEAN, 4).first).toBe(0);
    expect(host.legFlushUnderWay).toBe(true);
    host.endLegFlush();
    expect(host.ask(R.IS_CLEAN, 4).first).toBe(1);
  });

  it('far apart reach the medium a few at a time, so that a FLUSH waits for one latency of the device', () => {
    const perBlock = 512 * 8;
    const regions = Array.from({ length: CLEAR_RUNS_PER_WRITE_MAX + 4 }, (_, n) => (2 * n + 3) * perBlock);
    const host = manual(`${100 * perBlock * 2} disk /dev/log 2 nosync`);
    for (const region of regions) host.ask(R.MARK_REGION, region);
    host.later(R.FLUSH);
    host.endWrite();
    for (const region of regions) host.ask(R.CLEAR_REGION, region);
    // The flush on behalf of the first, then the one on behalf of all others.
    host.endLegFlush();
    host.endWrite();
    host.endLegFlush();
    expect(host.write?.length).toBe(CLEAR_RUNS_PER_WRITE_MAX);
    host.ask(R.MARK_REGION, 1);
    const flush = host.later(R.FLUSH);
    host.endWrite();
    expect(host.write?.length).toBe(1);
    host.endWrite();
    expect(flush.errno).toBe(0);
    host.endWrite();
    expect(host.write).toBeNull();
    expect(regions.filter((region) => !host.cleanOnMedia().includes(region))).toEqual([]);
  });

  it('under way to the medium do not hide a new mark', () => {
    const host = manual();
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    host.endWrite();
    host.ask(R.CLEAR_REGION, 3);
    host.endLegFlush();
    expect(host.write).not.toBeNull();
    host.ask(R.MARK_REGION, 3);
    const flush = host.later(R.FLUSH);
    host.endWrite();
    expect(flush.errno).toBeNull();
    host.endWrite();
    expect(flush.errno).toBe(0);
    expect(host.cleanOnMedia()).not.toContain(3);
  });
});

describe('lazy clear', () => {
  const LAZY = { lazyClear: { milliseconds: 1000, regionsMax: 3 } };

  it('makes a rewrite of a hot region cost no log I/O', () => {
    const host = manual(NOSYNC, LAZY);
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    host.endWrite();
    for (let i = 0; i < 100; i++) {
      host.ask(R.CLEAR_REGION, 3);
      expect(host.ask(R.FLUSH).kind).toBe(ReplyKind.ACK);
      host.ask(R.MARK_REGION, 3);
      expect(host.ask(R.FLUSH).kind).toBe(ReplyKind.ACK);
    }
    expect(host.writes).toBe(1);
    expect(host.legFlushes).toBe(0);
    host.log.checkInvariants();
  });

  it('releases a region after one to two periods', () => {
    const host = resumed(new TestHost(NOSYNC, LAZY));
    host.tick(0);
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    host.ask(R.CLEAR_REGION, 3);
    for (let now = 100; now < 1000; now += 100) host.tick(now);
    expect(host.cleanOnMedia()).not.toContain(3);
    for (let now = 1000; now <= 2600; now += 100) host.tick(now);
    expect(host.cleanOnMedia()).toContain(3);
    expect(host.log.needsTick).toBe(false);
  });

  it('releases early past the bound', () => {
    const host = resumed(new TestHost(NOSYNC, LAZY));
    host.ask(R.MARK_REGION, 0, 1, 2, 3, 4);
    host.later(R.FLUSH);
    host.ask(R.CLEAR_REGION, 0, 1, 2);
    expect(host.legFlushes).toBe(0);
    host.ask(R.CLEAR_REGION, 3);
    expect(host.legFlushes).toBe(1);
    expect(host.disk.lazyCount).toBeLessThanOrEqual(3);
  });

  it('does not hold a region that fell out of sync', () => {
    const host = resumed(new TestHost(NOSYNC, LAZY));
    host.ask(R.MARK_REGION, 3);
    host.ask(R.CLEAR_REGION, 3);
    host.ask(R.SET_REGION_SYNC, 3, 0);
    expect(host.disk.lazyCount).toBe(0);
    host.log.checkInvariants();
  });
});

describe('POSTSUSPEND', () => {
  const LAZY = { lazyClear: { milliseconds: 60_000, regionsMax: 100 } };

  it('is answered when every clear is on the medium', () => {
    const host = manual(NOSYNC, LAZY);
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    host.endWrite();
    host.ask(R.CLEAR_REGION, 3);
    host.ask(R.PRESUSPEND);
    const suspend = host.later(R.POSTSUSPEND);
    expect(suspend.errno).toBeNull();
    host.endLegFlush();
    expect(suspend.errno).toBeNull();
    host.endWrite();
    expect(suspend.errno).toBe(0);
    expect(host.cleanOnMedia()).toContain(3);
  });

  it('writes marks that no FLUSH asked for, too', () => {
    const host = manual(NOSYNC, LAZY);
    host.ask(R.MARK_REGION, 3);
    const suspend = host.later(R.POSTSUSPEND);
    host.endWrite();
    expect(suspend.errno).toBe(0);
    expect(host.cleanOnMedia()).not.toContain(3);
  });

  it('does not wait for legs that fail, nor for a log device that fails', () => {
    const host = manual(NOSYNC, LAZY);
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    host.endWrite();
    host.ask(R.CLEAR_REGION, 3);
    host.ask(R.MARK_REGION, 4);
    const suspend = host.later(R.POSTSUSPEND);
    host.endLegFlush(false);
    host.endWrite(5);
    expect(suspend.errno).toBe(0);
    expect(host.cleanOnMedia()).not.toContain(3);
    host.log.checkInvariants();
  });

  it.each([0, 1000])(
    'ends clear writes: the image may belong to the next table (lazy clear %d ms)',
    (milliseconds) => {
      const host = manual(NOSYNC, { lazyClear: { milliseconds, regionsMax: 100 } });
      host.ask(R.MARK_REGION, 3);
      host.later(R.FLUSH);
      host.endWrite();
      host.ask(R.PRESUSPEND);
      expect(host.later(R.POSTSUSPEND).errno).toBe(0);
      const writes = host.writes;
      // The mirror's worker is not waited for: the CLEAR of the last write comes late.
      expect(host.ask(R.CLEAR_REGION, 3).kind).toBe(ReplyKind.ACK);
      expect(host.ask(R.FLUSH).kind).toBe(ReplyKind.ACK);
      host.auto = true;
      for (let now = 0; now < 20_000; now += 100) host.tick(now);
      expect(host.writes).toBe(writes);
      // Its own table is resumed: then it may.
      expect(host.later(R.RESUME).errno).toBe(0);
      for (let now = 20_000; now < 30_000; now += 100) host.tick(now);
      expect(host.cleanOnMedia()).toContain(3);
      host.log.checkInvariants();
    },
  );

  it('is final for legs that answer too late, too', () => {
    const host = manual(NOSYNC, LAZY);
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    host.endWrite();
    host.ask(R.CLEAR_REGION, 3);
    const suspend = host.later(R.POSTSUSPEND);
    host.tick(1000);
    host.tick(1000 + SUSPEND_FLUSH_MS_MAX);
    expect(suspend.errno).toBe(0);
    const writes = host.writes;
    host.endLegFlush();
    host.tick(20_000);
    expect(host.writes).toBe(writes);
  });

  it('does not wait for ever for legs that hang', () => {
    const host = manual(NOSYNC, LAZY);
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    host.endWrite();
    host.ask(R.CLEAR_REGION, 3);
    const suspend = host.later(R.POSTSUSPEND);
    host.tick(1000);
    host.tick(1000 + SUSPEND_FLUSH_MS_MAX - 1);
    expect(suspend.errno).toBeNull();
    host.tick(1000 + SUSPEND_FLUSH_MS_MAX);
    expect(suspend.errno).toBe(0);
  });

  it('writes the marks all the same when the legs hang', () => {
    const host = manual(NOSYNC, LAZY);
    host.ask(R.MARK_REGION, 3);
    host.later(R.FLUSH);
    host.endWrite();
    host.ask(R.CLEAR_REGION, 3);
    host.ask(R.MARK_REGION, 4);
    const suspend = host.later(R.POSTSUSPEND);
    host.tick(0);
    host.tick(SUSPEND_FLUSH_MS_MAX);
    expect(suspend.errno).toBeNull();
    host.endWrite();
    expect(suspend.errno).toBe(0);
    expect(host.cleanOnMedia()).not.toContain(4);
    host.endLegFlush();
    expect(host.write).toBeNull();
  });

  it('is not answered before the end of a write, which could land on the next log', () => {
    const host = manual(NOSYNC, LAZY);
    host.ask(R.MARK_REGION, 4);
    const suspend = host.later(R.POSTSUSPEND);
    host.tick(0);
    host.tick(10 * SUSPEND_FLUSH_MS_MAX);
    expect(suspend.errno).toBeNull();
    host.endWrite(5);
    expect(suspend.errno).toBe(0);
  });
});

describe('RESUME', () => {
  /** An image of 16 regions whose bits are `bits`. */
  function image(bits: number, regions = 16): Uint8Array {
    const media = new Uint8Array(2048).fill(0xa5);
    writeHeader(media, regions);
    media[1024] = bits & 0xff;
    media[1025] = bits >> 8;
    media.fill(0, 1026, 1032);
    return media;
  }
  const DEFAULT = '16384 disk /dev/log 1024';

  it('takes dirty regions for out of sync', () => {
    const host = resumed(new TestHost(DEFAULT, { media: image(0xfff6) }));
    expect(host.ask(R.GET_SYNC_COUNT).first).toBe(14);
    expect(host.ask(R.GET_RESYNC_WORK)).toMatchObject({ first: 1, second: 0 });
    expect(host.ask(R.IN_SYNC, 3).first).toBe(0);
  });

  it('writes nothing when the image already says it', () => {
    expect(resumed(new TestHost(DEFAULT, { media: image(0xfff6) })).writes).toBe(0);
  });

  it('keeps bytes that are not its own', () => {
    const host = resumed(new TestHost(DEFAULT, { media: image(0xffff, 8) }));
    expect(host.media.subarray(16, 1024)).toEqual(new Uint8Array(1008).fill(0xa5));
    expect(host.media.subarray(1032)).toEqual(new Uint8Array(512 - 8).fill(0xa5));
  });

  it('treats the regions of a grown device as new', () => {
    const host = resumed(new TestHost(DEFAULT, { media: image(0xffff, 8) }));
    expect(host.ask(R.GET_SYNC_COUNT).first).toBe(8);
    expect(host.cleanOnMedia()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(readHeader(host.media).regionCount).toBe(16);
  });

  it.each([2 ** 32, 2 ** 52, Infinity])('believes nothing of a damaged header for %d regions', (count) => {
    const damaged = image(0xffff);
    const header = new DataView(damaged.buffer, damaged.byteOffset);
    // Infinity stands for 2^63.
    header.setUint32(12, count === Infinity ? 2 ** 31 : count / 2 ** 32, true);
    const host = resumed(new TestHost(DEFAULT, { media: damaged }));
    expect(host.ask(R.GET_SYNC_COUNT).first).toBe(0);
    expect(host.cleanOnMedia()).toEqual([]);
    expect(readHeader(host.media).regionCount).toBe(16);
  });

  it('writes the header of a grown device after all bits, and fails RESUME when those cannot be written', () => {
    // A larger log left its bits behind; the header counts 8 regions.
    const regions = 8192;
    const media = new Uint8Array(4096).fill(0xff, 1024);
    writeHeader(media, 8);
    const host = new TestHost(`${regions * 1024} disk /dev/log 1024`, { media });
    host.auto = false;
    const resume = host.later(R.RESUME);
    expect(host.write?.map(({ offset }) => offset)).toEqual([1024]);
    host.endWrite(5);
    expect(resume.errno).toBe(5);
    expect(readHeader(host.media).regionCount).toBe(8);
    const flush = host.later(R.FLUSH);
    expect(host.write?.map(({ offset }) => offset)).toEqual([1024]);
    host.endWrite();
    expect([flush.errno, readHeader(host.media).regionCount]).toEqual([null, 8]);
    expect(host.write?.map(({ offset }) => offset)).toEqual([0]);
    host.endWrite();
    expect([flush.errno, readHeader(host.media).regionCount]).toEqual([0, regions]);
    expect(host.cleanOnMedia()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('clears the bits past the end of a shrunk device', () => {
    const host = resumed(new TestHost('4096 disk /dev/log 1024', { media: image(0xffff) }));
    expect(host.ask(R.GET_SYNC_COUNT).first).toBe(4);
    expect(host.media[1024]).toBe(0x0f);
    expect(host.media[1025]).toBe(0);
  });

  it('makes a new image where there is none', () => {
    const host = resumed(new TestHost(DEFAULT, { media: new Uint8Array(2048).fill(0xff) }));
    expect(host.ask(R.GET_SYNC_COUNT).first).toBe(0);
    expect(readHeader(host.media)).toEqual({ magic: IMAGE_MAGIC, version: 2, regionCount: 16 });
    expect(host.cleanOnMedia()).toEqual([]);
  });

  it('starts anew under sync and under nosync', () => {
    const sync = resumed(new TestHost(`${DEFAULT} sync`, { media: image(0xffff) }));
    expect(sync.ask(R.GET_SYNC_COUNT).first).toBe(0);
    const nosync = resumed(new TestHost(`${DEFAULT} nosync`, { media: image(0) }));
    expect(nosync.ask(R.GET_SYNC_COUNT).first).toBe(16);
  });

  it.each(['sync', 'nosync'])('believes the image after a reconnect, even under %s', (mode) => {
    const host = resumed(new TestHost(`${DEFAULT} ${mode}`, { media: image(0xfff6), reconnected: true }));
    expect(host.ask(R.GET_SYNC_COUNT).first).toBe(14);
  });

  it('takes nothing for in sync when the image cannot be read, under nosync too', () => {
    const host = new TestHost(`${DEFAULT} nosync`, { media: image(0xffff) });
    host.failReads = 5;
    host.failWrites = 5;
    expect(host.later(R.RESUME).errno).toBe(5);
    expect(host.ask(R.GET_SYNC_COUNT).first).toBe(0);
    expect(host.ask(R.STATUS_INFO).text).toBe('3 disk 254:3 D');
    host.log.checkInvariants();
  });

  it('leaves an image of another version alone', () => {
    const media = image(0xffff);
    media[4] = 9;
    const host = new TestHost(DEFAULT, { media });
    expect(host.later(R.RESUME).errno).toBe(22);
    expect(host.refusal).toMatch(/version 9/);
    host.ask(R.SET_REGION_SYNC, 0, 1);
    host.ask(R.CLEAR_REGION, 0);
    expect(host.later(R.FLUSH).errno).toBe(5);
    expect(host.later(R.POSTSUSPEND).errno).toBe(0);
    expect(host.writes).toBe(0);
    expect(host.ask(R.IN_SYNC, 5).first).toBe(0);
  });

  it('is answered once, to each that asked, while the image is read', () => {
    const host = new TestHost(NOSYNC);
    host.auto = false;
    const first = host.later(R.RESUME);
    expect(first.errno).toBeNull();
    // All bits first, then the header.
    host.endWrite();
    expect(first.errno).toBeNull();
    host.endWrite();
    expect(first.errno).toBe(0);
    host.log.checkInvariants();
  });
});

describe('a log that the kernel reconnects to after its daemon died', () => {
  const RECONNECTED = '16384 disk /dev/log 1024';
  function reconnected(): TestHost {
    const media = new Uint8Array(2048);
    writeHeader(media, 16);
    media.set([0xf6, 0xff], 1024);
    return manual(RECONNECTED, {
      media,
      reconnected: true,
      lazyClear: { milliseconds: 60_000, regionsMax: 10 },
    });
  }

  it('covers marks that only the dead daemon knew: every region is dirty on the medium', () => {
    const host = reconnected();
    // MARK of region 5 went to the dead daemon; the kernel repeats the FLUSH only.
    expect(host.ask(R.FLUSH).kind).toBe(ReplyKind.ACK);
    expect(host.cleanOnMedia()).toEqual([]);
    expect(host.ask(R.GET_SYNC_COUNT).first).toBe(14);
    expect(host.ask(R.IN_SYNC, 5).first).toBe(1);
    host.log.checkInvariants();
  });

  it('has what is in sync clean again after a suspend, when the legs were flushed', () => {
    const host = reconnected();
    host.ask(R.MARK_REGION, 5);
    host.ask(R.SET_REGION_SYNC, 7, 0);
    const suspend = host.later(R.POSTSUSPEND);
    expect(host.cleanOnMedia()).toEqual([]);
    host.endLegFlush();
    host.endWrite();
    expect(suspend.errno).toBe(0);
    expect(host.cleanOnMedia()).toEqual([1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15]);
    host.log.checkInvariants();
  });

  it('does not take a flush of the legs that began before the suspend for one', () => {
    const host = reconnected();
    host.ask(R.MARK_REGION, 1);
    host.ask(R.CLEAR_REGION, 1);
    host.tick(0);
    for (let now = 0; now <= 130_000 && !host.legFlushUnderWay; now += 1000) host.tick(now);
    const suspend = host.later(R.POSTSUSPEND);
    host.endLegFlush();
    expect(host.ask(R.IS_CLEAN, 5).first).toBe(0);
    expect(host.legFlushUnderWay).toBe(true);
    host.endLegFlush();
    while (host.write !== null) host.endWrite();
    expect(suspend.errno).toBe(0);
    expect(host.cleanOnMedia()).toHaveLength(14);
  });

  it('stays dirty when the legs cannot be flushed', () => {
    const host = reconnected();
    const suspend = host.later(R.POSTSUSPEND);
    host.endLegFlush(false);
    expect(suspend.errno).toBe(0);
    expect(host.cleanOnMedia()).toEqual([]);
  });
});
