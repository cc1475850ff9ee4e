import { encodeRequestInto, RequestType as R } from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import { errnoOf, Kernel, log, MemoryDevice, text, values } from './kernel.js';

const A = log('LVM-aaaa', 0x1000);
const DISK = '16384 disk /dev/log 1024';
const CORE = '16384 core 1024';
const EXPECTED_BYTES = new Map<number, number>([
  [R.GET_REGION_SIZE, 8],
  [R.IS_CLEAN, 8],
  [R.IN_SYNC, 8],
  [R.GET_RESYNC_WORK, 16],
  [R.GET_SYNC_COUNT, 8],
  // Room for the text of the repeated answer.
  [R.STATUS_INFO, 64],
  [R.STATUS_TABLE, 64],
  [R.IS_REMOTE_RECOVERING, 16],
]);

describe('CTR', () => {
  it('answers a core log without a device name', async () => {
    const kernel = await Kernel.start();
    const reply = await kernel.construct(A, CORE);
    expect(errnoOf(reply)).toBe(0);
    expect(text(reply)).toBe('');
  });

  it('names the log device on the first CTR only', async () => {
    const kernel = await Kernel.start({ '/dev/log': new MemoryDevice(16) });
    expect(text(await kernel.construct(A, DISK))).toBe('254:3\0');
    expect(text(await kernel.construct(A, DISK, true))).toBe('');
  });

  it('names it again when the kernel repeats the first CTR', async () => {
    const kernel = await Kernel.start({ '/dev/log': new MemoryDevice(16) });
    await kernel.construct(A, DISK);
    expect(text(await kernel.construct(A, DISK))).toBe('254:3\0');
    expect(kernel.daemon.status().logs).toHaveLength(1);
  });

  it('of a name that is known replaces the log, and leaves none behind when it fails', async () => {
    const device = new MemoryDevice(16);
    const kernel = await Kernel.start({ '/dev/log': device });
    await kernel.resume(A, `${DISK} nosync`);
    expect(errnoOf(await kernel.construct(A, '16384 disk /dev/log 1000'))).toBe(22);
    expect(kernel.daemon.status().logs).toHaveLength(1);
    expect(errnoOf(await kernel.construct(A, '16384 disk /dev/absent 1024'))).toBe(2);
    expect(kernel.daemon.status().logs).toEqual([]);
    expect(device.closed).toBe(device.opened);
    expect(errnoOf(await kernel.ask(A, R.FLUSH))).toBe(3);
  });

  it('does not name it in version 1', async () => {
    const kernel = await Kernel.start({ '/dev/log': new MemoryDevice(16) });
    expect(text(await kernel.construct(A, DISK, false, 1))).toBe('');
  });

  it.each([
    ['16384 core 1000', 22, /1000.*power of two/],
    ['16384 mirror 1024', 22, /mirror.*unknown log type/],
    ['16384 clustered-disk /dev/log 1024', 95, /clusterd/],
    ['16384 disk /dev/absent 1024', 2, /\/dev\/absent/],
    ['32768 disk /dev/small 2', 22, /larger device/],
  ])('refuses %j with one clear line', async (arguments_, errno, line) => {
    const kernel = await Kernel.start({ '/dev/small': new MemoryDevice(16) });
    expect(errnoOf(await kernel.construct(A, arguments_))).toBe(errno);
    const errors = kernel.lines.filter(({ level }) => (level as number) >= 50);
    expect(errors).toHaveLength(1);
    expect(errors[0]?.['msg']).toMatch(line);
    expect(kernel.daemon.status().logs).toHaveLength(0);
  });

  it('refuses an image of another version, and closes the device', async () => {
    const device = new MemoryDevice(16);
    device.media.set([0x72, 0x52, 0x69, 0x4d, 9]);
    const kernel = await Kernel.start({ '/dev/log': device });
    expect(errnoOf(await kernel.construct(A, DISK))).toBe(22);
    expect(device.closed).toBe(device.opened);
    expect(errnoOf(await kernel.construct(A, `${DISK} nosync`))).toBe(0);
  });

  it('refuses a log device that another log uses, and leaves that one alone', async () => {
    const kernel = await Kernel.start({ '/dev/log': new MemoryDevice(16) });
    await kernel.resume(A, DISK);
    const b = log('LVM-bbbb', 0x2000);
    expect(errnoOf(await kernel.construct(b, DISK))).toBe(16);
    expect(errnoOf(await kernel.ask(A, R.IN_SYNC, 0))).toBe(0);
  });

  it('gives the device of a log whose DTR was lost to the next, once no mirror holds it', async () => {
    const device = new MemoryDevice(16);
    const kernel = await Kernel.start({ '/dev/log': device });
    await kernel.resume(A, DISK);
    await kernel.ask(A, R.PRESUSPEND);
    await kernel.ask(A, R.POSTSUSPEND);
    const b = log('LVM-bbbb', 0x2000);
    expect(errnoOf(await kernel.construct(b, DISK))).toBe(16);
    device.held = false;
    expect(errnoOf(await kernel.construct(b, DISK))).toBe(0);
    expect(kernel.daemon.status().logs.map(({ uuid }) => uuid)).toEqual(['LVM-bbbb']);
  });

  it('gives the device of a log that was never resumed to the next', async () => {
    const kernel = await Kernel.start({ '/dev/log': new MemoryDevice(16) });
    await kernel.construct(A, DISK);
    expect(errnoOf(await kernel.construct(log('LVM-bbbb', 0x2000), DISK))).toBe(0);
    expect(kernel.daemon.status().logs.map(({ uuid }) => uuid)).toEqual(['LVM-bbbb']);
  });
});

describe('an unknown log', () => {
  it.each(Object.entries(R).filter(([, type]) => type !== R.CTR))(
    'is answered -ESRCH with the expected size: %s',
    async (_, type) => {
      const kernel = await Kernel.start();
      const payload = type === R.SET_REGION_SYNC ? [0, 1] : [0];
      const reply = await kernel.ask(A, type, ...payload);
      expect(reply).toMatchObject({ kind: 'full', error: -3 });
      expect((reply as { data: Uint8Array }).data.byteLength).toBe(EXPECTED_BYTES.get(type) ?? 0);
    },
  );

  it('is told by luid from the other table of its uuid', async () => {
    const kernel = await Kernel.start();
    await kernel.resume(A, `${CORE} nosync`);
    const inactive = log(A.uuid, 0x3000);
    expect(errnoOf(await kernel.ask(inactive, R.IN_SYNC, 0))).toBe(3);
    await kernel.construct(inactive, CORE);
    await kernel.ask(A, R.PRESUSPEND);
    await kernel.ask(A, R.POSTSUSPEND);
    await kernel.ask(inactive, R.RESUME);
    await kernel.ask(A, R.DTR);
    expect(errnoOf(await kernel.ask(A, R.GET_SYNC_COUNT))).toBe(3);
    expect(values(await kernel.ask(inactive, R.GET_SYNC_COUNT))).toEqual([0]);
  });

  it('believes nothing of a core log that the kernel reconnects to', async () => {
    const kernel = await Kernel.start();
    await kernel.construct(A, `${CORE} nosync`, true);
    await kernel.ask(A, R.RESUME);
    expect(values(await kernel.ask(A, R.IN_SYNC, 0))).toEqual([0]);
  });
});

describe('a disk log', () => {
  it('answers FLUSH when the mark is on the medium, and other logs meanwhile', async () => {
    const device = new MemoryDevice(16);
    const kernel = await Kernel.start({ '/dev/log': device });
    await kernel.resume(A, `${DISK} nosync`);
    const b = log('LVM-core', 0x2000);
    await kernel.resume(b, `${CORE} nosync`);
    let release = () => {};
    device.beforeWrite = () => new Promise((resolve) => (release = resolve));
    await kernel.ask(A, R.MARK_REGION, 5);
    const flush = kernel.send(A, R.FLUSH, new Uint8Array(0));
    expect(await kernel.settled(flush)).toBeNull();
    expect(errnoOf(await kernel.ask(b, R.MARK_REGION, 5))).toBe(0);
    expect(errnoOf(await kernel.ask(b, R.FLUSH))).toBe(0);
    expect(device.isClean(5)).toBe(true);
    release();
    expect(errnoOf(await kernel.settled(flush))).toBe(0);
    expect(device.isClean(5)).toBe(false);
  });

  it('tells the kernel and the operator once when the log device fails', async () => {
    const device = new MemoryDevice(16);
    const kernel = await Kernel.start({ '/dev/log': device });
    await kernel.resume(A, `${DISK} nosync`);
    device.failWrites = true;
    await kernel.ask(A, R.MARK_REGION, 5);
    expect(errnoOf(await kernel.ask(A, R.FLUSH))).toBe(5);
    expect(errnoOf(await kernel.ask(A, R.FLUSH))).toBe(5);
    expect(kernel.lines.filter(({ msg }) => /cannot be written/.test(String(msg)))).toHaveLength(1);
    expect(text(await kernel.ask(A, R.STATUS_INFO))).toBe('3 disk 254:3 D\0');
    device.failWrites = false;
    expect(errnoOf(await kernel.ask(A, R.FLUSH))).toBe(0);
  });

  it('flushes the legs before it writes a clear', async () => {
    const device = new MemoryDevice(16);
    const kernel = await Kernel.start({ '/dev/log': device });
    await kernel.resume(A, `${DISK} nosync`);
    device.failLegs = true;
    await kernel.ask(A, R.MARK_REGION, 5);
    await kernel.ask(A, R.FLUSH);
    await kernel.ask(A, R.CLEAR_REGION, 5);
    await kernel.ask(A, R.FLUSH);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(device.legFlushes).toBe(1);
    expect(device.isClean(5)).toBe(false);
  });

  it('has everything on the medium when POSTSUSPEND is answered, and gives the device back at DTR', async () => {
    const device = new MemoryDevice(16);
    const kernel = await Kernel.start(
      { '/dev/log': device },
      { lazyClear: { milliseconds: 60_000, regionsMax: 10 } },
    );
    await kernel.resume(A, `${DISK} nosync`);
    await kernel.ask(A, R.MARK_REGION, 5);
    await kernel.ask(A, R.FLUSH);
    await kernel.ask(A, R.CLEAR_REGION, 5);
    await kernel.ask(A, R.PRESUSPEND);
    expect(errnoOf(await kernel.ask(A, R.POSTSUSPEND))).toBe(0);
    expect(device.isClean(5)).toBe(true);
    await kernel.ask(A, R.DTR);
    expect(device.closed).toBe(device.opened);
    expect(kernel.daemon.status().logs).toEqual([]);
  });
});

describe('bad frames', () => {
  it('are refused with EINVAL where they can be answered, IN_SYNC with silence, and nothing stops', async () => {
    const kernel = await Kernel.start();
    await kernel.resume(A, `${CORE} nosync`);
    expect(errnoOf(await kernel.ask(A, R.MARK_REGION, 99))).toBe(22);
    expect(await kernel.ask(A, R.IN_SYNC, 99)).toBeNull();
    expect(kernel.lines.slice(-2)).toMatchObject([
      { request: 'MARK_REGION', errno: 22, regions: [99] },
      { request: 'IN_SYNC', errno: null, regions: [99] },
    ]);
    expect(await kernel.ask(A, R.IN_SYNC)).toBeNull();
    expect(errnoOf(await kernel.ask(A, R.SET_REGION_SYNC, 1))).toBe(22);
    kernel.deliver(new Uint8Array(0));
    kernel.deliver(new Uint8Array(300).fill(0xff));
    expect(kernel.daemon.status().transport['malformed']).toBe(4);
    expect(values(await kernel.ask(A, R.GET_SYNC_COUNT))).toEqual([16]);
  });

  it('refused by the hundred are logged with a few lines', async () => {
    const kernel = await Kernel.start();
    await kernel.resume(A, CORE);
    for (let i = 0; i < 500; i++) await kernel.ask(A, R.MARK_REGION, 99);
    expect(kernel.lines.length).toBeLessThan(20);
  });

  it('log a flood with a few lines', async () => {
    const kernel = await Kernel.start();
    for (let i = 0; i < 500; i++) kernel.deliver(new Uint8Array(40));
    expect(kernel.lines.length).toBeLessThan(20);
  });

  it('from a process other than the kernel are not heard', async () => {
    const kernel = await Kernel.start();
    const frame = new Uint8Array(512);
    const end = encodeRequestInto(frame, 0, {
      type: R.RESUME,
      version: 3,
      seq: 9,
      luid: A.luid,
      uuid: A.uuid,
      data: new Uint8Array(0),
    });
    kernel.transport.deliver(frame.subarray(0, end), 1234);
    expect(await kernel.settled(9)).toBeNull();
    expect(kernel.transport.stats().foreign).toBe(1);
  });
});

describe('stop', () => {
  it('says which logs now wait', async () => {
    const kernel = await Kernel.start();
    await kernel.resume(A, CORE);
    await kernel.daemon.stop('SIGTERM');
    expect(await kernel.daemon.closed).toBe(0);
    expect(kernel.lines.at(-1)).toMatchObject({ waiting: [A.uuid] });
  });
});
