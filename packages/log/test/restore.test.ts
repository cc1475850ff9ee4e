import { RequestType as R } from '@dmlog/protocol';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  CONTROL_BYTES,
  freshControl,
  KeptState,
  type LogMemory,
  ReplyKind,
  readRecord,
  SealedBitmap,
} from '../src/index.js';
import { resumed, TestHost } from './host.js';

/** What a daemon that died left, and what the next one makes of it. */

const CORE = '1024 core 2';
const DISK = '1024 disk /dev/log 2 nosync';
const REGIONS = 512;

const start = (text: string) => resumed(new TestHost(text, { keeps: true }));
const copyOf = ({ control, body }: LogMemory): LogMemory => ({
  control: control.slice(),
  body: body.slice(),
});

/** A core log in the middle of its resync: 0…3 are in sync, 4 could not be recovered, 5 is handed out. */
function resyncing(): TestHost {
  const host = start(CORE);
  for (let region = 0; region < 4; region++) {
    host.ask(R.GET_RESYNC_WORK);
    host.ask(R.SET_REGION_SYNC, region, 1);
    host.ask(R.CLEAR_REGION, region);
  }
  host.ask(R.GET_RESYNC_WORK);
  host.ask(R.SET_REGION_SYNC, 4, 0);
  expect(host.ask(R.GET_RESYNC_WORK)).toMatchObject({ first: 1, second: 5 });
  host.ask(R.MARK_REGION, 2);
  return host;
}

describe('a log after the death of its daemon', () => {
  it('goes on in the middle of its resync: same region under way, the failed one not offered again', () => {
    const host = resyncing();
    const before = host.log.summary();
    expect(host.restart()).toBeNull();
    expect(host.log.summary()).toEqual(before);
    expect(host.ask(R.GET_RESYNC_WORK)).toMatchObject({ first: 1, second: 5 });
    expect(host.ask(R.SET_REGION_SYNC, 5, 1).kind).toBe(ReplyKind.ACK);
    expect(host.ask(R.GET_RESYNC_WORK)).toMatchObject({ first: 1, second: 6 });
    expect(host.ask(R.GET_SYNC_COUNT).first).toBe(5);
    expect([0, 1, 2, 3].map((region) => host.log.isClean(region))).toEqual([true, true, false, true]);
    host.log.checkInvariants();
  });

  it('acknowledges the RESUME of a reconnect and forgets nothing', () => {
    const host = resyncing();
    host.restart();
    const before = host.log.summary();
    expect(host.ask(R.RESUME).kind).toBe(ReplyKind.ACK);
    expect(host.log.summary()).toEqual(before);
  });

  it('is suspended where it was, and starts its search anew at RESUME', () => {
    const host = resyncing();
    host.ask(R.PRESUSPEND);
    host.ask(R.POSTSUSPEND);
    expect(host.restart()).toBeNull();
    expect(host.log.summary()).toMatchObject({ state: 'suspended', recovering: null, inSyncCount: 4 });
    host.ask(R.RESUME);
    expect(host.ask(R.GET_RESYNC_WORK)).toMatchObject({ first: 1, second: 4 });
  });

  it.each([CORE, DISK])('%s: is constructed where it was never resumed', (text) => {
    const host = new TestHost(text, { keeps: true });
    expect(host.restart()).toBeNull();
    expect(host.log.state).toBe('constructed');
    expect(resumed(host).log.state).toBe('live');
  });

  it('reads the image for the first time where its first RESUME was not finished', () => {
    const host = new TestHost(DISK, { keeps: true });
    host.auto = false;
    expect(host.later(R.RESUME).errno).toBeNull();
    host.memory.control.set(freshControl()); // as before the image was read
    expect(host.restart()).toBeNull();
    expect(host.log.state).toBe('constructed');
    host.auto = true;
    expect(resumed(host).log.inSyncCount).toBe(REGIONS);
  });

  it('begins with all memory zero at a second first RESUME', () => {
    const host = start(CORE);
    host.log.restore({ control: freshControl(), body: new Uint8Array(0) });
    host.restart();
    host.ask(R.SET_REGION_SYNC, 3, 1);
    host.memory.control.set(freshControl());
    host.restart();
    expect(resumed(host).log.inSyncCount).toBe(0);
    expect(host.restart()).toBeNull();
    expect(host.log.summary()).toMatchObject({ state: 'live', inSyncCount: 0 });
  });

  it('finishes a suspend whose answer was still owed', () => {
    const host = start(DISK);
    host.ask(R.MARK_REGION, 9);
    host.later(R.FLUSH);
    host.auto = false;
    host.ask(R.CLEAR_REGION, 9);
    host.ask(R.PRESUSPEND);
    expect(host.later(R.POSTSUSPEND).errno).toBeNull();
    expect(host.restart()).toBeNull();
    expect(host.log.state).toBe('live');
    const suspend = host.later(R.POSTSUSPEND);
    // Repeated once more: it waits for the same.
    const again = host.later(R.POSTSUSPEND);
    expect([suspend.errno, again.errno]).toEqual([null, null]);
    host.endLegFlush();
    host.endWrite();
    expect([suspend.errno, again.errno]).toEqual([0, 0]);
    expect(host.cleanOnMedia()).toHaveLength(REGIONS);
  });

  it('keeps what it could not know: after a reconnect without state all marks are possible', () => {
    const host = new TestHost(DISK, { keeps: true, reconnected: true });
    host.media.set(start(DISK).media);
    resumed(host);
    expect(host.disk.marksUnknown).toBe(true);
    expect(host.restart()).toBeNull();
    expect(host.disk.marksUnknown).toBe(true);
    expect(host.log.summary()).toMatchObject({ inSyncCount: REGIONS, dirtyCount: REGIONS });
    expect(host.cleanOnMedia()).toEqual([]);
    host.ask(R.PRESUSPEND);
    host.later(R.POSTSUSPEND);
    expect(host.cleanOnMedia()).toHaveLength(REGIONS);
    host.restart();
    expect(host.disk.marksUnknown).toBe(false);
  });

  it('still writes nothing where the image was refused', () => {
    const media = new Uint8Array(2048);
    media.set([0x72, 0x52, 0x69, 0x4d, 9]);
    const host = new TestHost('1024 disk /dev/log 2', { keeps: true, media });
    host.later(R.RESUME);
    expect(host.restart()).toBeNull();
    expect(host.log.summary()).toMatchObject({ inSyncCount: 0, deviceStatus: 'D' });
    expect(host.later(R.FLUSH, 3).errno).toBe(5);
    expect(host.media).toEqual(media.subarray(0, host.media.byteLength));
  });
});

describe('a restored disk log', () => {
  it('writes what was under way again before it answers FLUSH, whatever the medium seems to have', () => {
    const host = start(DISK);
    host.auto = false;
    host.ask(R.MARK_REGION, 5);
    host.later(R.FLUSH);
    expect(host.write).not.toBeNull();
    // It landed, in a cache that may lose it.
    expect(host.restart(() => true)).toBeNull();
    expect(host.cleanOnMedia()).not.toContain(5);
    expect(host.write).not.toBeNull();
    const flush = host.later(R.FLUSH);
    expect(flush.errno).toBeNull();
    host.endWrite();
    expect(flush.errno).toBe(0);
    expect(host.cleanOnMedia()).not.toContain(5);
  });

  it('does so after a second death, and after a write that failed', () => {
    const host = start(DISK);
    host.auto = false;
    host.ask(R.MARK_REGION, 5);
    host.later(R.FLUSH);
    host.restart(() => true);
    host.restart(() => true);
    expect(host.write).not.toBeNull();
    host.endWrite(5);
    host.restart(() => true);
    expect(host.write).not.toBeNull();
    host.endWrite();
    host.restart();
    expect(host.write).toBeNull();
  });

  it('writes everything where the device cannot be read, and keeps what is in sync', () => {
    const host = start(DISK);
    host.ask(R.MARK_REGION, 5);
    host.later(R.FLUSH);
    host.failReads = 5;
    host.auto = false;
    expect(host.restart()).toBeNull();
    expect(host.log.summary()).toMatchObject({ inSyncCount: REGIONS, dirtyCount: 1, deviceStatus: 'D' });
    host.media.fill(0xff);
    host.endWrite(); // all but the header
    host.endWrite();
    expect(host.write).toBeNull();
    expect(host.cleanOnMedia()).toHaveLength(REGIONS - 1);
  });

  it('holds lazily cleared regions for a full period again, then releases them', () => {
    const host = resumed(
      new TestHost(DISK, { keeps: true, lazyClear: { milliseconds: 100, regionsMax: 99 } }),
    );
    host.ask(R.MARK_REGION, 1);
    host.ask(R.MARK_REGION, 2);
    host.later(R.FLUSH);
    host.ask(R.CLEAR_REGION, 1);
    host.tick(1000);
    host.tick(1100); // 1 is old
    host.ask(R.CLEAR_REGION, 2);
    expect(host.restart()).toBeNull();
    expect(host.disk.lazyCount).toBe(2);
    const flushes = host.legFlushes;
    host.tick(5000);
    host.tick(5100);
    expect(host.legFlushes).toBe(flushes);
    host.tick(5200);
    expect(host.legFlushes).toBe(flushes + 1);
    expect(host.disk.lazyCount).toBe(0);
    host.tick(5300);
    expect(host.cleanOnMedia()).toHaveLength(REGIONS);
  });

  it('leaves the image alone when it is suspended, and another table may have it', () => {
    const host = start(DISK);
    host.ask(R.PRESUSPEND);
    host.later(R.POSTSUSPEND);
    host.media.fill(0, 1024);
    const media = host.media.slice();
    expect(host.restart()).toBeNull();
    expect(host.later(R.FLUSH).errno).toBe(0);
    expect(host.media).toEqual(media);
  });

  it('gives the image up to another table, but not in the middle of a write', async () => {
    const { Effects } = await import('../src/index.js');
    const host = start(DISK);
    host.auto = false;
    host.ask(R.MARK_REGION, 5);
    host.later(R.FLUSH);
    expect(host.disk.giveUpImage(new Effects())).toBe(false);
    host.endWrite();
    expect(host.disk.giveUpImage(new Effects())).toBe(true);
    expect(host.log.state).toBe('suspended');
    host.restart();
    expect(host.log.state).toBe('suspended');
  });
});

describe('damaged state', () => {
  const restored = (host: TestHost, memory: LogMemory): string | null => {
    host.memory = memory;
    return host.restart();
  };

  it.each([CORE, DISK])('%s: nothing is believed of memory that was cut at any byte', (text) => {
    const host = start(text);
    const memory = copyOf(host.memory);
    for (let length = 0; length < memory.body.byteLength; length++) {
      const body = memory.body.slice(0, length);
      expect(restored(host, { control: memory.control.slice(), body })).toMatch(/cut/);
    }
    expect(restored(host, { control: memory.control, body: new Uint8Array(memory.body.length + 8) })).toMatch(
      /cut/,
    );
  });

  it('no region is in sync that was not, whichever byte is flipped', () => {
    const host = resyncing();
    const memory = copyOf(host.memory);
    const inSync = (h: TestHost) =>
      Array.from({ length: REGIONS }, (_, r) => r).filter((r) => h.log.isInSync(r));
    const before = inSync(host);
    let refused = 0;
    for (const part of ['control', 'body'] as const) {
      for (let at = 0; at < memory[part].byteLength; at++) {
        for (const flip of [0x01, 0x80, 0xff]) {
          const torn = copyOf(memory);
          torn[part][at] = (torn[part][at] as number) ^ flip;
          if (restored(host, torn) !== null) {
            refused++;
            continue;
          }
          host.log.checkInvariants();
          const now = inSync(host);
          expect([part, at, now]).toEqual([part, at, before]);
        }
      }
    }
    // The newest record, the seal of what is in sync, and that bitmap itself.
    expect(refused).toBeGreaterThan(64 * 3);
  });

  it('falls back on the record before, where the newest is damaged', () => {
    const host = resyncing();
    const newest = readRecord(host.memory.control)?.[0] as number;
    const slot = (newest & 1) * 32;
    for (let at = slot; at < slot + 32; at++) {
      const control = host.memory.control.slice();
      control[at] = (control[at] as number) ^ 0x55;
      expect(readRecord(control)?.[0]).toBe(newest - 1);
    }
  });

  it('makes nothing clean of a damaged bitmap of clean regions, and the next suspend puts it right', () => {
    const host = start(DISK);
    const memory = copyOf(host.memory);
    const cleanAt = REGIONS / 8;
    memory.body[cleanAt + 40] = 0;
    expect(restored(host, memory)).toBeNull();
    expect(host.log.summary()).toMatchObject({ inSyncCount: REGIONS, dirtyCount: REGIONS });
    expect(host.cleanOnMedia()).toEqual([]);
    host.ask(R.PRESUSPEND);
    host.later(R.POSTSUSPEND);
    expect(host.cleanOnMedia()).toHaveLength(REGIONS);
  });
});

describe('the record', () => {
  it('is the old or the new one wherever its writing stops', () => {
    const kept = new KeptState({ control: freshControl(), body: new Uint8Array(0) }, []);
    expect(kept.values).toEqual(new Uint32Array(6));
    const control = freshControl();
    const memory = { control, body: new Uint8Array(0) };
    let generation = 0;
    for (let round = 0; round < 20; round++) {
      const before = control.slice();
      const state = new KeptState(memory, []);
      state.values.fill(round + 1);
      state.commit();
      generation++;
      // Words are written in order, the check last.
      const slot = (generation & 1) * 32;
      for (let words = 0; words <= 8; words++) {
        const torn = before.slice();
        torn.set(control.subarray(slot, slot + 4 * words), slot);
        const record = readRecord(torn);
        expect([...(record ?? [])]).toEqual([...(readRecord(words === 8 ? control : before) as Uint32Array)]);
      }
    }
  });

  it('is newer across the end of the numbers', () => {
    const control = freshControl();
    const words = new Uint32Array(control.buffer);
    const memory = { control, body: new Uint8Array(0) };
    for (let commits = 0; commits < 2; commits++) new KeptState(memory, []).commit();
    expect(readRecord(control)?.[0]).toBe(2);
    expect(CONTROL_BYTES).toBe(words.byteLength);
  });
});

describe('a death between any two changes', () => {
  class Died extends Error {}
  afterEach(() => vi.restoreAllMocks());

  /** Lets the process die before its `nth` change of kept memory from now on. */
  function dieAt(nth: number): void {
    let left = nth;
    const guard = <A extends unknown[], T>(original: (this: unknown, ...args: A) => T) =>
      function (this: unknown, ...args: A): T {
        if (left-- === 0) throw new Died();
        return original.apply(this, args);
      };
    for (const method of ['set', 'clear'] as const) {
      const original = SealedBitmap.prototype[method];
      vi.spyOn(SealedBitmap.prototype, method).mockImplementation(guard(original));
    }
    const commit = KeptState.prototype.commit;
    vi.spyOn(KeptState.prototype, 'commit').mockImplementation(guard(commit));
  }

  const story: readonly (readonly [R, ...number[]])[] = [
    [R.GET_RESYNC_WORK],
    [R.SET_REGION_SYNC, 0, 1],
    [R.CLEAR_REGION, 0],
    [R.FLUSH],
    [R.MARK_REGION, 0, 1, 2],
    [R.FLUSH],
    [R.GET_RESYNC_WORK],
    [R.SET_REGION_SYNC, 1, 1],
    [R.CLEAR_REGION, 0, 1],
    [R.FLUSH],
    [R.SET_REGION_SYNC, 0, 0],
    [R.MARK_REGION, 1],
    [R.FLUSH],
    [R.PRESUSPEND],
    [R.POSTSUSPEND],
    [R.RESUME],
    [R.GET_RESYNC_WORK],
    [R.SET_REGION_SYNC, 0, 1],
    [R.CLEAR_REGION, 0, 1],
    [R.FLUSH],
  ];

  it.each(['1024 core 2', '1024 disk /dev/log 2'])(
    '%s: the request asked again has the effect of one',
    (text) => {
      const undisturbed = start(text);
      for (const [type, ...values] of story) undisturbed.ask(type, ...values);
      let deaths = 0;
      for (const [at] of story.entries()) {
        for (let nth = 0; ; nth++) {
          const host = start(text);
          for (const [type, ...values] of story.slice(0, at)) host.ask(type, ...values);
          const [type, ...values] = story[at] as readonly [R, ...number[]];
          dieAt(nth);
          let died = false;
          try {
            host.ask(type, ...values);
          } catch (error) {
            if (!(error instanceof Died)) throw error;
            died = true;
          }
          vi.restoreAllMocks();
          if (!died) break;
          deaths++;
          expect(host.restart()).toBeNull();
          host.log.checkInvariants();
          for (const [again, ...payload] of story.slice(at)) host.ask(again, ...payload);
          const { log } = host;
          expect([at, nth, log.summary()]).toEqual([at, nth, undisturbed.log.summary()]);
          for (let region = 0; region < 4; region++) {
            expect([region, log.isInSync(region), log.isClean(region)]).toEqual([
              region,
              undisturbed.log.isInSync(region),
              undisturbed.log.isClean(region),
            ]);
          }
          expect(host.cleanOnMedia()).toEqual(undisturbed.cleanOnMedia());
        }
      }
      expect(deaths).toBeGreaterThan(story.length);
    },
  );
});
