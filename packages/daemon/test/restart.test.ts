import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RequestType as R } from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import {
  HEAD_BYTES,
  loadMappingBinding,
  type MappingBinding,
  openRuntimeState,
  RuntimeState,
  type ServeParts,
  type ServeStart,
} from '../src/index.js';
import { scratchDirectory } from './helpers/scratch.js';
import { errnoOf, Kernel, log, MemoryDevice, values } from './kernel.js';

/** One daemon after the other on one runtime directory. The first is left standing where it died. */

const A = log('LVM-aaaa', 0x1000);
const B = log('LVM-bbbb', 0x2000);
const CORE = '16384 core 1024';
const DISK = '16384 disk /dev/log 1024';
const REGIONS = 16;

/** The log device by path, and by the number under which it is found again. */
const onDevice = (device: MemoryDevice) => ({ '/dev/log': device, [device.deviceNumber]: device });

class Host {
  readonly runtimeDir = scratchDirectory();
  binding: MappingBinding = loadMappingBinding();
  bootId = 'boot-1';
  #firstSeq = 10_000;

  start(devices: Record<string, MemoryDevice> = {}, takeOver?: ServeStart['takeOver']): Promise<Kernel> {
    const openState: ServeParts['openState'] = ({ runtimeDir }, logger) =>
      new RuntimeState({ runtimeDir, logger, binding: this.binding, bootId: this.bootId });
    // The kernel goes on counting. Far enough that no "ask again" is taken for an answer.
    this.#firstSeq += 10_000;
    const { runtimeDir } = this;
    return Kernel.start(
      devices,
      { runtimeDir },
      {
        openState,
        firstSeq: this.#firstSeq,
        ...(takeOver === undefined ? {} : { start: { descriptor: null, takeOver } }),
      },
    );
  }

  get files(): string[] {
    return readdirSync(join(this.runtimeDir, 'state'))
      .filter((name) => name !== 'last-seq')
      .map((name) => join(this.runtimeDir, 'state', name));
  }
}

const only = (kernel: Kernel) => kernel.daemon.status().logs[0];
const loud = (kernel: Kernel) => kernel.lines.filter(({ level }) => (level as number) >= 40);

/** A core log with regions 0…2 in sync and region 3 handed out. */
async function halfSynced(kernel: Kernel): Promise<void> {
  await kernel.resume(A, CORE);
  for (let region = 0; region < 3; region++) {
    await kernel.ask(A, R.GET_RESYNC_WORK);
    await kernel.ask(A, R.SET_REGION_SYNC, region, 1);
    await kernel.ask(A, R.CLEAR_REGION, region);
  }
  await kernel.ask(A, R.GET_RESYNC_WORK);
  await kernel.ask(A, R.MARK_REGION, 1);
}

describe('a daemon that is started again', () => {
  it('answers for a core log at once, exactly as it was', async () => {
    const host = new Host();
    const first = await host.start();
    await halfSynced(first);
    const before = only(first);
    const second = await host.start();
    expect(only(second)).toEqual({ ...before, requests: 0 });
    expect(values(await second.ask(A, R.GET_SYNC_COUNT))).toEqual([3]);
    expect(values(await second.ask(A, R.GET_RESYNC_WORK))).toEqual([1, 3]);
    expect(values(await second.ask(A, R.IS_CLEAN, 1))).toEqual([0]);
    expect(values(await second.ask(A, R.IS_CLEAN, 2))).toEqual([1]);
    expect(loud(second)).toEqual([]);
  });

  it('opens the devices before it takes the place of a daemon that still serves, and believes only what it finds then', async () => {
    const host = new Host();
    const device = new MemoryDevice(REGIONS);
    const first = await host.start(onDevice(device));
    await first.resume(A, `${DISK} nosync`);
    await first.ask(A, R.MARK_REGION, 1);
    let openedBefore = 0;
    const second = await host.start(onDevice(device), async () => {
      openedBefore = device.opened;
      // All of this is later than what was prepared.
      await first.ask(A, R.MARK_REGION, 5);
      await first.resume(B, CORE);
      await first.daemon.handOver?.pause();
      return { owed: false, pausedAtMs: null };
    });
    expect({ before: openedBefore, after: device.opened }).toEqual({ before: 2, after: 2 });
    expect(
      second.daemon
        .status()
        .logs.map(({ uuid }) => uuid)
        .sort(),
    ).toEqual(['LVM-aaaa', 'LVM-bbbb']);
    expect(values(await second.ask(A, R.IS_CLEAN, 5))).toEqual([0]);
    expect(device.closed).toBe(0);
  });

  it.each(['gone', 'not held'])(
    'closes a device again that it prepared for a log which is %s by then',
    async (how) => {
      const host = new Host();
      const device = new MemoryDevice(REGIONS);
      const first = await host.start(onDevice(device));
      await first.resume(A, `${DISK} nosync`);
      if (how === 'not held') device.held = false;
      const second = await host.start(onDevice(device), async () => {
        device.held = true;
        if (how === 'gone') {
          for (const type of [R.PRESUSPEND, R.POSTSUSPEND, R.DTR]) await first.ask(A, type);
        }
        return { owed: false, pausedAtMs: null };
      });
      expect(second.daemon.status().logs.length).toBe(how === 'gone' ? 0 : 1);
      // The first daemon's own at DTR; the one that was prepared.
      expect(device.closed).toBe(how === 'gone' ? 2 : 1);
    },
  );

  it('takes the CTR and RESUME of a reconnect for a repetition', async () => {
    const host = new Host();
    await halfSynced(await host.start());
    const second = await host.start();
    expect(errnoOf(await second.construct(A, CORE, true))).toBe(0);
    expect(errnoOf(await second.ask(A, R.RESUME))).toBe(0);
    expect(only(second)).toMatchObject({ state: 'live', inSyncCount: 3, recovering: 3 });
  });

  it('finds a disk log with its device, by number, and reads nothing but the shadow from the medium', async () => {
    const host = new Host();
    const device = new MemoryDevice(REGIONS);
    const first = await host.start(onDevice(device));
    await first.resume(A, `${DISK} nosync`);
    await first.ask(A, R.MARK_REGION, 4);
    await first.ask(A, R.FLUSH);
    const { writes } = device;
    const second = await host.start({ '254:3': device });
    expect(only(second)).toMatchObject({
      state: 'live',
      inSyncCount: REGIONS,
      dirtyCount: 1,
      deviceStatus: 'A',
    });
    await second.ask(A, R.MARK_REGION, 4);
    expect(errnoOf(await second.ask(A, R.FLUSH))).toBe(0);
    expect(device.writes).toBe(writes);
    await second.ask(A, R.MARK_REGION, 5);
    expect(errnoOf(await second.ask(A, R.FLUSH))).toBe(0);
    expect([4, 5, 6].map((region) => device.isClean(region))).toEqual([false, false, true]);
    await second.ask(A, R.CLEAR_REGION, 4);
    await second.ask(A, R.CLEAR_REGION, 5);
    await expect.poll(() => device.isClean(4) && device.isClean(5), { timeout: 20_000 }).toBe(true);
  });

  it('finds both tables of a uuid, live and constructed', async () => {
    const host = new Host();
    const device = new MemoryDevice(REGIONS);
    const first = await host.start(onDevice(device));
    const inactive = log('LVM-aaaa', 0x1001);
    await first.resume(A, `${DISK} nosync`);
    await first.construct(inactive, `${DISK} nosync`);
    const second = await host.start(onDevice(device));
    const states = second.daemon.status().logs.map(({ state }) => state);
    expect(states.sort()).toEqual(['constructed', 'live']);
    await second.ask(A, R.PRESUSPEND);
    await second.ask(A, R.POSTSUSPEND);
    expect(errnoOf(await second.ask(inactive, R.RESUME))).toBe(0);
    expect(values(await second.ask(inactive, R.GET_SYNC_COUNT))).toEqual([REGIONS]);
  });

  it('lets a new table have the image although nobody was there for POSTSUSPEND', async () => {
    const host = new Host();
    const device = new MemoryDevice(REGIONS);
    const first = await host.start(onDevice(device));
    const next = log('LVM-aaaa', 0x1001);
    await first.resume(A, `${DISK} nosync`);
    await first.construct(next, DISK);
    const second = await host.start(onDevice(device));
    // Nothing tells yet that the new table is in use; its first write does, and the kernel resumes the log once more.
    expect(errnoOf(await second.ask(next, R.RESUME))).toBe(0);
    expect(errnoOf(await second.ask(next, R.MARK_REGION, 7))).toBe(3);
    expect(errnoOf(await second.construct(next, DISK, true))).toBe(0);
    expect(errnoOf(await second.ask(next, R.RESUME))).toBe(0);
    expect(errnoOf(await second.ask(next, R.MARK_REGION, 7))).toBe(0);
    expect(errnoOf(await second.ask(next, R.FLUSH))).toBe(0);
    // The last words of the old table's mirror, a reconnect in between: none of them touches the image.
    await second.construct(A, `${DISK} nosync`, true);
    expect(errnoOf(await second.ask(A, R.RESUME))).toBe(0);
    await second.ask(A, R.CLEAR_REGION, 7);
    expect(errnoOf(await second.ask(A, R.FLUSH))).toBe(0);
    const states = second.daemon.status().logs.map(({ luid, state }) => [luid.slice(-4), state]);
    expect(states.sort()).toEqual([
      ['1000', 'suspended'],
      ['1001', 'live'],
    ]);
    expect(device.isClean(7)).toBe(false);
  });

  it('leaves the image to the table in use when the kernel reconnects to one that is only loaded', async () => {
    const host = new Host();
    const device = new MemoryDevice(REGIONS);
    const first = await host.start(onDevice(device));
    const next = log('LVM-aaaa', 0x1001);
    await first.resume(A, `${DISK} nosync`);
    await first.construct(next, `${DISK} nosync`);
    const second = await host.start(onDevice(device));
    await second.ask(A, R.MARK_REGION, 3);
    expect(errnoOf(await second.ask(A, R.FLUSH))).toBe(0);
    // The loaded table's question for the sync count found no daemon.
    for (let time = 0; time < 2; time++) {
      expect(errnoOf(await second.construct(next, `${DISK} nosync`, true))).toBe(0);
      expect(errnoOf(await second.ask(next, R.RESUME))).toBe(0);
      expect(values(await second.ask(next, R.GET_SYNC_COUNT))).toEqual([0]);
    }
    expect(device.isClean(3)).toBe(false);
    expect(errnoOf(await second.ask(A, R.MARK_REGION, 4))).toBe(0);
    expect(errnoOf(await second.ask(A, R.FLUSH))).toBe(0);
    expect(device.isClean(4)).toBe(false);
    expect(values(await second.ask(A, R.GET_SYNC_COUNT))).toEqual([REGIONS]);
    // Now the tables are exchanged.
    for (const region of [3, 4]) await second.ask(A, R.CLEAR_REGION, region);
    for (const type of [R.PRESUSPEND, R.POSTSUSPEND]) expect(errnoOf(await second.ask(A, type))).toBe(0);
    expect(errnoOf(await second.ask(next, R.RESUME))).toBe(0);
    expect(errnoOf(await second.ask(next, R.MARK_REGION, 5))).toBe(0);
    expect(errnoOf(await second.ask(A, R.DTR))).toBe(0);
  });

  it('finds nothing of a log that was destroyed, or constructed anew under the same name', async () => {
    const host = new Host();
    const first = await host.start();
    await halfSynced(first);
    await first.resume(B, `${CORE} nosync`);
    await first.ask(B, R.DTR);
    expect(errnoOf(await first.construct(A, CORE))).toBe(0);
    const second = await host.start();
    expect(second.daemon.status().logs).toMatchObject([{ uuid: A.uuid, state: 'constructed' }]);
    await second.ask(A, R.DTR);
    expect(host.files).toEqual([]);
  });

  it('finds what was left at an orderly stop', async () => {
    const host = new Host();
    const first = await host.start();
    await halfSynced(first);
    await first.daemon.stop('test');
    expect(loud(first)).toMatchObject([{ waiting: [A.uuid] }]);
    expect(String(loud(first)[0]?.['msg'])).toMatch(/will find their logs/);
    expect(only(await host.start())).toMatchObject({ inSyncCount: 3 });
  });

  it('asks the kernel to repeat what the last one owed it', async () => {
    const host = new Host();
    const first = await host.start();
    await halfSynced(first);
    const lastSeq = first.send(A, R.FLUSH, new Uint8Array());
    const second = await host.start();
    for (const seq of [lastSeq - 900, lastSeq, lastSeq + 900]) expect(errnoOf(second.replyTo(seq))).toBe(11);
    expect(second.replyTo(lastSeq)?.kind).toBe('ack');
    expect(errnoOf((await new Host().start()).replyTo(lastSeq))).toBeNull();
  });
});

describe('state that is not to be believed', () => {
  /** Dies with a log of three regions in sync, changes its file, starts again. */
  async function afterDamage(
    damage: (path: string, host: Host) => void,
  ): Promise<{ host: Host; kernel: Kernel }> {
    const host = new Host();
    await halfSynced(await host.start());
    damage(host.files[0] as string, host);
    return { host, kernel: await host.start() };
  }

  const flip = (at: number) => (path: string) => {
    const bytes = readFileSync(path);
    bytes[at] = (bytes[at] as number) ^ 0x10;
    writeFileSync(path, bytes);
  };

  it.each<[string, (path: string, host: Host) => void, RegExp]>([
    ['of another boot', (_path, host) => Object.assign(host, { bootId: 'boot-2' }), /another boot/],
    ['with a damaged identity', flip(100), /identity is damaged/],
    ['of another kind of file', flip(0), /no state of a log/],
    ['with a damaged bitmap', flip(HEAD_BYTES + 1), /in sync is damaged/],
    ['cut short', (path) => truncateSync(path, HEAD_BYTES + 3), /cut/],
    ['cut within its identity', (path) => truncateSync(path, 700), /cut/],
    ['without its bitmaps', (path) => truncateSync(path, HEAD_BYTES), /cut/],
    ['emptied', (path) => truncateSync(path, 0), /cut/],
  ])('%s is ignored with one line, and nothing is in sync', async (_what, damage, line) => {
    const { host, kernel } = await afterDamage(damage);
    expect(kernel.daemon.status().logs).toEqual([]);
    expect(loud(kernel)).toHaveLength(1);
    expect(String(loud(kernel)[0]?.['msg'])).toMatch(line);
    expect(host.files).toEqual([]);
    // The kernel's next question is answered "unknown", and it reconnects.
    expect(errnoOf(await kernel.ask(A, R.IN_SYNC, 0))).toBe(3);
    await kernel.construct(A, CORE, true);
    await kernel.ask(A, R.RESUME);
    expect(values(await kernel.ask(A, R.GET_SYNC_COUNT))).toEqual([0]);
  });

  it('has its log made anew when the kernel reconnects with other arguments', async () => {
    const host = new Host();
    await halfSynced(await host.start());
    const second = await host.start();
    expect(errnoOf(await second.construct(A, '16384 core 2048', true))).toBe(0);
    await second.ask(A, R.RESUME);
    expect(only(second)).toMatchObject({ regionCount: 8, inSyncCount: 0 });
    expect(loud(second)).toHaveLength(1);
  });

  it('is that of a mirror that went away meanwhile', async () => {
    const host = new Host();
    const device = new MemoryDevice(REGIONS);
    await (await host.start(onDevice(device))).resume(A, `${DISK} nosync`);
    device.held = false;
    const second = await host.start(onDevice(device));
    expect(second.daemon.status().logs).toEqual([]);
    expect(String(loud(second)[0]?.['msg'])).toMatch(/no mirror holds its device/);
    expect(host.files).toEqual([]);
    expect(device.closed).toBe(1);
  });

  it('is kept while the device cannot be opened: the reconnect finds the log', async () => {
    const host = new Host();
    const device = new MemoryDevice(REGIONS);
    await (await host.start(onDevice(device))).resume(A, `${DISK} nosync`);
    const devices: Record<string, MemoryDevice> = {};
    const second = await host.start(devices);
    expect(second.daemon.status().logs).toEqual([]);
    expect(errnoOf(await second.ask(A, R.IN_SYNC, 0))).toBe(3);
    Object.assign(devices, onDevice(device));
    expect(errnoOf(await second.construct(A, `${DISK} nosync`, true))).toBe(0);
    expect(only(second)).toMatchObject({ state: 'live', inSyncCount: REGIONS, dirtyCount: 0 });
  });
});

describe('a log device that does not answer', () => {
  it('holds up its own log only: it is unknown until the device answers, and the kernel reconnects', async () => {
    const host = new Host();
    const device = new MemoryDevice(REGIONS);
    const first = await host.start(onDevice(device));
    await halfSynced(first);
    await first.resume(B, `${DISK} nosync`);
    let answer = () => {};
    device.beforeOpen = () => new Promise((resolve) => (answer = resolve));
    const second = await host.start(onDevice(device));
    expect(values(await second.ask(A, R.GET_SYNC_COUNT))).toEqual([3]);
    expect(errnoOf(await second.ask(B, R.MARK_REGION, 0))).toBe(3);
    const reconnect = second.send(B, R.CTR, new TextEncoder().encode(`${DISK} nosync\0`));
    expect(await second.settled(reconnect)).toBeNull();
    answer();
    expect(errnoOf(await second.settled(reconnect))).toBe(0);
    expect(errnoOf(await second.ask(B, R.RESUME))).toBe(0);
    expect(values(await second.ask(B, R.GET_SYNC_COUNT))).toEqual([REGIONS]);
    expect(device.opened).toBe(2);
  });
});

describe('a daemon that cannot keep state', () => {
  it('says so loudly at the start, and serves', async () => {
    const kernel = await Kernel.start({}, { runtimeDir: '/nonexistent' }, { openState: openRuntimeState });
    expect(String(loud(kernel)[0]?.['msg'])).toMatch(/NO RUNTIME STATE/);
    await halfSynced(kernel);
    expect(only(kernel)).toMatchObject({ inSyncCount: 3 });
  });

  it('says so of a log for which there is no room, and leaves no file that says less than the kernel knows', async () => {
    const host = new Host();
    const { map, unmap } = host.binding;
    host.binding = {
      unmap,
      map: (fd, bytes) => {
        if (bytes > HEAD_BYTES) throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
        return map(fd, bytes);
      },
    };
    const first = await host.start();
    await halfSynced(first);
    expect(String(loud(first)[0]?.['msg'])).toMatch(/cannot be kept/);
    expect(only(first)).toMatchObject({ inSyncCount: 3 });
    expect(host.files).toEqual([]);
    expect((await host.start()).daemon.status().logs).toEqual([]);
  });
});
