import path from 'node:path';
import { parseTrace, RequestType as R, TRACE_FORMAT } from '@dmlog/protocol';
import pino from 'pino';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { operatorMethods } from '../src/control/methods.js';
import { TIMED_EVERY } from '../src/control/request-observer.js';
import {
  type ControlMethod,
  ControlServer,
  ControlStream,
  controlRequest,
  controlStream,
  type DaemonConfig,
  type DaemonStatus,
  EventWatch,
  type LogEvent,
  type LogRegions,
  type Operable,
  type RequestTotals,
  STREAM_BACKLOG_BYTES_MAX,
} from '../src/index.js';
import { rejection, scratchDirectory } from './helpers/scratch.js';
import { LOG, STATUS } from './helpers/status.js';
import { errnoOf, Kernel, log, MemoryDevice } from './kernel.js';

const A = log('LVM-aaaa', 0x1000);
const B = log('LVM-bbbb', 0x2000);
const BOUND = { timeout: 30_000, interval: 20 };

async function control(methods: Record<string, ControlMethod>): Promise<string> {
  const socket = path.join(scratchDirectory(), 'c.sock');
  const server = new ControlServer({ path: socket, methods, logger: pino({ level: 'silent' }) });
  await server.listen();
  onTestFinished(() => server.close());
  return socket;
}

/** A daemon over the loopback transport, and its control socket. */
async function daemon(devices: Record<string, MemoryDevice> = {}, config: Partial<DaemonConfig> = {}) {
  const kernel = await Kernel.start(devices, config);
  onTestFinished(() => kernel.daemon.stop('test ends'));
  const { operable } = kernel.daemon;
  const socket = await control(operatorMethods(operable as Operable, () => kernel.daemon.status()));
  return { kernel, socket };
}

describe('streams', () => {
  it('hand over events until they are asked to end, and then end at the other side', async () => {
    const ended = vi.fn();
    const socket = await control({
      count: (params) =>
        new ControlStream((emit) => {
          for (let i = 0; i < (params as number); i++) emit(i);
          return ended;
        }),
    });
    const events: unknown[] = [];
    const abort = new AbortController();
    const stream = controlStream(socket, 'count', 3, {
      onEvent: (event) => {
        events.push(event);
        if (events.length === 3) abort.abort();
      },
      signal: abort.signal,
    });
    await stream;
    expect(events).toEqual([0, 1, 2]);
    await vi.waitFor(() => expect(ended).toHaveBeenCalledOnce(), BOUND);
  });

  it('fail with the error of the method, and when the daemon ends', async () => {
    const socket = await control({
      refused: () => {
        throw Object.assign(new Error('no'), { code: 'ERR_NO' });
      },
    });
    const listener = { onEvent: () => {} };
    expect(await rejection(() => controlStream(socket, 'refused', null, listener))).toMatchObject({
      code: 'ERR_NO',
    });
    const dying = path.join(scratchDirectory(), 'd.sock');
    const server = new ControlServer({
      path: dying,
      methods: { watch: () => new ControlStream(() => () => {}) },
      logger: pino({ level: 'silent' }),
      idleMs: 50,
    });
    await server.listen();
    const stream = rejection(() => controlStream(dying, 'watch', null, listener));
    // It outlives the time after which an idle client is closed.
    await new Promise((resolve) => setTimeout(resolve, 200));
    await server.close();
    expect(await stream).toMatchObject({ code: 'ERR_CONTROL_NOT_RUNNING' });
  });

  it('lose events of a client that does not read, and tell it how many', async () => {
    let emit: (event: unknown) => void = () => {};
    const socket = await control({
      flood: () =>
        new ControlStream((to) => {
          emit = to;
          return () => {};
        }),
    });
    const line = 'x'.repeat(10_000);
    const count = Math.ceil((3 * STREAM_BACKLOG_BYTES_MAX) / line.length);
    let dropped = 0;
    let received = 0;
    const abort = new AbortController();
    const stream = controlStream(socket, 'flood', null, {
      onEvent: () => received++,
      onDropped: (n) => {
        dropped += n;
        abort.abort();
      },
      signal: abort.signal,
    });
    await vi.waitFor(() => {
      emit('first');
      expect(received).toBeGreaterThan(0);
    }, BOUND);
    // Within one turn: nothing can be read meanwhile.
    for (let i = 0; i < count; i++) emit(line);
    await vi.waitFor(() => {
      emit('last');
      expect(dropped).toBeGreaterThan(0);
    }, BOUND);
    await stream;
    expect(received + dropped).toBeGreaterThanOrEqual(count);
  });
});

describe('regions', () => {
  it('are counted in cells, of the log named by uuid or luid', async () => {
    const { kernel, socket } = await daemon();
    await kernel.resume(A, '102400 core 1024 nosync');
    await kernel.ask(A, R.MARK_REGION, 7, 8, 99);
    await kernel.ask(A, R.SET_REGION_SYNC, 42, 0);
    const all = (await controlRequest(socket, 'regions', { log: A.uuid, cells: 10 })) as LogRegions;
    expect(all).toEqual({
      uuid: A.uuid,
      luid: '0xffff888000001000',
      regionCount: 100,
      recovering: null,
      from: 0,
      to: 100,
      regionsPerCell: 10,
      inSync: [10, 10, 10, 10, 9, 10, 10, 10, 10, 10],
      clean: [8, 10, 10, 10, 9, 10, 10, 10, 10, 9],
    });
    const part = await controlRequest(socket, 'regions', { log: all.luid, from: 41, to: 44, cells: 10 });
    expect(part).toMatchObject({ from: 41, to: 44, regionsPerCell: 1, inSync: [1, 0, 1], clean: [1, 0, 1] });
  });

  it('of a log without bitmaps are none, and of 2^25 regions are counted while others are served', async () => {
    const { kernel, socket } = await daemon();
    await kernel.construct(A, '4096 core 1024');
    expect(await controlRequest(socket, 'regions', { log: A.uuid, cells: 2 })).toMatchObject({
      inSync: [0, 0],
    });
    await kernel.resume(B, `${2 ** 26} core 2 nosync`);
    await kernel.ask(B, R.MARK_REGION, 2 ** 25 - 1);
    let served = 0;
    let counting = true;
    const question = controlRequest(socket, 'regions', { log: B.uuid, cells: 2 }).finally(() => {
      counting = false;
    });
    while (counting) {
      if (errnoOf(await kernel.ask(B, R.MARK_REGION, 1)) === 0) served++;
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(await question).toMatchObject({ clean: [2 ** 24 - 1, 2 ** 24 - 1] });
    expect(served).toBeGreaterThan(10);
  });

  it.each([
    [{ log: 'LVM-none' }, 'ERR_CONTROL_UNKNOWN_LOG'],
    [{ log: 'LVM-aaaa', from: 5, to: 4 }, 'ERR_CONTROL_BAD_REQUEST'],
    [{ log: 'LVM-aaaa', to: 17 }, 'ERR_CONTROL_BAD_REQUEST'],
    [{ log: 'LVM-aaaa', cells: 0 }, 'ERR_CONTROL_BAD_REQUEST'],
    [{}, 'ERR_CONTROL_BAD_REQUEST'],
  ])('refuse %j', async (params, code) => {
    const { kernel, socket } = await daemon();
    await kernel.resume(A, '16384 core 1024');
    expect(await rejection(() => controlRequest(socket, 'regions', params))).toMatchObject({ code });
  });
});

describe('requests', () => {
  it('are counted by type, with errors, and timed', async () => {
    const device = new MemoryDevice(16);
    const { kernel, socket } = await daemon({ '/dev/log': device });
    await kernel.resume(A, '16384 disk /dev/log 1024 nosync');
    for (let i = 0; i < 2 * TIMED_EVERY; i++) await kernel.ask(A, R.IN_SYNC, i % 16);
    await kernel.ask(A, R.MARK_REGION, 99);
    await kernel.ask(A, R.MARK_REGION, 1);
    await kernel.ask(A, R.FLUSH);
    const { types, boundsSeconds } = (await controlRequest(socket, 'requests')) as {
      types: RequestTotals[];
      boundsSeconds: number[];
    };
    const of = (type: string): RequestTotals | undefined => types.find((t) => t.type === type);
    expect(of('IN_SYNC')).toMatchObject({ requests: 2 * TIMED_EVERY, errors: 0 });
    expect(of('IN_SYNC')?.timed).toBeGreaterThanOrEqual(1);
    expect(of('IN_SYNC')?.timed).toBeLessThanOrEqual(3);
    expect(of('MARK_REGION')).toMatchObject({ requests: 2, errors: 1 });
    // Late answers are all timed: the write's, the image's, the constructor's.
    for (const type of ['FLUSH', 'RESUME', 'CTR']) expect(of(type)).toMatchObject({ requests: 1, timed: 1 });
    expect(of('FLUSH')?.buckets).toHaveLength(boundsSeconds.length + 1);
    expect(of('FLUSH')?.timedSeconds).toBeGreaterThan(0);
    expect(of('DTR')).toBeUndefined();
  });
});

describe('flush', () => {
  it('gives up what lazy clear holds, at once although it would keep it for an hour, and not longer', async () => {
    const device = new MemoryDevice(16);
    const config = { lazyClear: { milliseconds: 3_600_000, regionsMax: 1000 } };
    const { kernel, socket } = await daemon({ '/dev/log': device }, config);
    await kernel.resume(A, '16384 disk /dev/log 1024 nosync');
    const touch = async (region: number) => {
      await kernel.ask(A, R.MARK_REGION, region);
      await kernel.ask(A, R.FLUSH);
      await kernel.ask(A, R.CLEAR_REGION, region);
      await kernel.ask(A, R.FLUSH);
    };
    await touch(3);
    await touch(9);
    expect(kernel.daemon.status().logs).toMatchObject([{ lazyCount: 2, dirtyCount: 2 }]);
    expect(device.isClean(3)).toBe(false);
    const answer = await controlRequest(socket, 'flush', {}, 30_000);
    expect(answer).toEqual({ logs: [{ uuid: A.uuid, luid: '0xffff888000001000', released: 2 }] });
    expect(kernel.daemon.status().logs).toMatchObject([{ lazyCount: 0, dirtyCount: 0 }]);
    expect([device.isClean(3), device.isClean(9)]).toEqual([true, true]);
    expect(device.legFlushes).toBeGreaterThan(0);
    await touch(4);
    expect(kernel.daemon.status().logs).toMatchObject([{ lazyCount: 1, lazyHits: 0 }]);
    const { writes } = device;
    await touch(4);
    expect(kernel.daemon.status().logs).toMatchObject([{ lazyCount: 1, lazyHits: 1 }]);
    expect(device.writes).toBe(writes);
  });

  it('says which log could not be flushed in time, and keeps its regions', async () => {
    const device = new MemoryDevice(16);
    device.failLegs = true;
    const { kernel, socket } = await daemon(
      { '/dev/log': device },
      { lazyClear: { milliseconds: 3_600_000, regionsMax: 1000 } },
    );
    await kernel.resume(A, '16384 disk /dev/log 1024 nosync');
    await kernel.ask(A, R.MARK_REGION, 3);
    await kernel.ask(A, R.CLEAR_REGION, 3);
    const error = await rejection(() =>
      controlRequest(socket, 'flush', { log: A.uuid, timeoutMs: 300 }, 60_000),
    );
    expect(error).toMatchObject({ code: 'ERR_CONTROL_NOT_DONE' });
    expect(error.message).toContain(A.uuid);
    expect(kernel.daemon.status().logs).toMatchObject([{ lazyCount: 1 }]);
  });
});

describe('settings', () => {
  it('are shown, changed for logs that are there and that come, and refused out of bounds', async () => {
    const device = new MemoryDevice(16);
    const other = new MemoryDevice(16, '254:4');
    const { kernel, socket } = await daemon({ '/dev/log': device, '/dev/other': other });
    await kernel.resume(A, '16384 disk /dev/log 1024 nosync');
    expect(await controlRequest(socket, 'settings')).toEqual({
      lazyClearMs: 0,
      lazyClearRegionsMax: 1000,
      logLevel: 'debug',
    });
    const changed = { lazyClearMs: 3_600_000, lazyClearRegionsMax: 1000, logLevel: 'warn' };
    expect(await controlRequest(socket, 'settings', { lazyClearMs: 3_600_000, logLevel: 'warn' })).toEqual(
      changed,
    );
    expect(await controlRequest(socket, 'settings')).toEqual(changed);
    await kernel.resume(B, '16384 disk /dev/other 1024 nosync');
    for (const name of [A, B]) {
      await kernel.ask(name, R.MARK_REGION, 3);
      await kernel.ask(name, R.CLEAR_REGION, 3);
    }
    expect(kernel.daemon.status().logs).toMatchObject([{ lazyCount: 1 }, { lazyCount: 1 }]);
    for (const bad of [{ lazyClearMs: -1 }, { lazyClearMs: 3_600_001 }, { logLevel: 'loud' }, { poll: 1 }]) {
      expect(await rejection(() => controlRequest(socket, 'settings', bad))).toMatchObject({
        code: 'ERR_CONTROL_BAD_REQUEST',
      });
    }
    expect(await controlRequest(socket, 'settings')).toEqual(changed);
  });
});

describe('watch', () => {
  it('tells of logs that are there, come, are synced, fail and go', async () => {
    const device = new MemoryDevice(2);
    const { kernel, socket } = await daemon({ '/dev/log': device });
    await kernel.resume(B, '2048 core 1024 nosync');
    const events: LogEvent[] = [];
    const abort = new AbortController();
    const watching = controlStream(socket, 'watch', null, {
      onEvent: (event) => events.push(event as LogEvent),
      signal: abort.signal,
    });
    const seen = (event: string, uuid: string) =>
      vi.waitFor(() => expect(events.map((e) => [e.event, e.uuid])).toContainEqual([event, uuid]), BOUND);
    await seen('present', B.uuid);
    await kernel.construct(A, '2048 disk /dev/log 1024');
    await seen('created', A.uuid);
    await kernel.ask(A, R.RESUME);
    await seen('resumed', A.uuid);
    for (const region of [0, 1]) {
      await kernel.ask(A, R.GET_RESYNC_WORK);
      await kernel.ask(A, R.SET_REGION_SYNC, region, 1);
    }
    await seen('synced', A.uuid);
    await kernel.ask(A, R.CLEAR_REGION, 0);
    await vi.waitFor(() => expect(device.isClean(0)).toBe(true), BOUND);
    await kernel.ask(A, R.SET_REGION_SYNC, 1, 0);
    await seen('out-of-sync', A.uuid);
    device.failWrites = true;
    await kernel.ask(A, R.MARK_REGION, 0);
    await kernel.ask(A, R.FLUSH);
    await seen('log-device-failed', A.uuid);
    await kernel.ask(A, R.DTR);
    await seen('removed', A.uuid);
    abort.abort();
    await watching;
    expect(events.filter(({ uuid }) => uuid === B.uuid)).toHaveLength(1);
    for (const event of events) expect(event.message).not.toBe('');
  });
});

describe('trace', () => {
  it('shows requests and replies of one log, as a trace that can be read again', async () => {
    const { kernel, socket } = await daemon({ '/dev/log': new MemoryDevice(16) });
    await kernel.resume(B, '16384 core 1024');
    const frames: unknown[] = [];
    const abort = new AbortController();
    const tracing = controlStream(
      socket,
      'trace',
      { log: A.uuid },
      {
        onEvent: (event) => frames.push(event),
        signal: abort.signal,
      },
    );
    // The tap is open once something of the log was seen.
    await vi.waitFor(async () => {
      await kernel.ask(A, R.IN_SYNC, 0);
      expect(frames.length).toBeGreaterThan(0);
    }, BOUND);
    await kernel.resume(A, '16384 disk /dev/log 1024 nosync');
    await kernel.ask(B, R.IN_SYNC, 1);
    await kernel.ask(A, R.MARK_REGION, 1);
    await kernel.ask(A, R.FLUSH);
    await vi.waitFor(() => {
      const text = [{ format: TRACE_FORMAT }, ...frames].map((line) => JSON.stringify(line)).join('\n');
      const { records } = parseTrace(text);
      const types = records.filter(({ dir }) => dir === 'from-kernel').map(({ frame }) => frame[188]);
      expect(types.filter((type) => type !== R.IN_SYNC)).toEqual([R.CTR, R.RESUME, R.MARK_REGION, R.FLUSH]);
      // Every request has its reply, late ones too.
      expect(records.filter(({ dir }) => dir === 'to-kernel')).toHaveLength(types.length);
    }, BOUND);
    abort.abort();
    await tracing;
  });

  it('shows requests of some types only, and refuses types that there are not', async () => {
    const { kernel, socket } = await daemon();
    await kernel.resume(A, '16384 core 1024');
    const types: number[] = [];
    const abort = new AbortController();
    const tracing = controlStream(
      socket,
      'trace',
      { types: ['FLUSH'] },
      {
        onEvent: (event) => {
          const { dir, hex } = event as { dir: string; hex: string };
          if (dir === 'from-kernel') types.push(Number.parseInt(hex.slice(376, 378), 16));
        },
        signal: abort.signal,
      },
    );
    await vi.waitFor(async () => {
      await kernel.ask(A, R.IN_SYNC, 0);
      await kernel.ask(A, R.FLUSH);
      expect(types.length).toBeGreaterThan(2);
    }, BOUND);
    expect(new Set(types)).toEqual(new Set([R.FLUSH]));
    abort.abort();
    await tracing;
    expect(
      await rejection(() => controlStream(socket, 'trace', { types: ['NONSENSE'] }, { onEvent: () => {} })),
    ).toMatchObject({ code: 'ERR_CONTROL_BAD_REQUEST' });
  });

  it('tells of a death although this node heard nobody, or looked while all introduced themselves, in between', () => {
    const members = (...nodeIds: number[]) =>
      nodeIds.map((nodeId) => ({ nodeId, presence: 'live', marks: 0, leases: 0 }));
    const looks = [
      { phase: 'active', members: members(1, 2, 3), vanished: [] as number[] },
      { phase: 'introducing', members: [], vanished: [2] },
      { phase: 'active', members: members(1, 3), vanished: [2] },
      { phase: 'active', members: members(1, 2, 3), vanished: [] },
    ].map((cluster) => {
      const parts = {
        quorate: true,
        refusal: null,
        staleCount: 0,
        givenUpCount: 0,
        writer: 1,
        needReload: [],
      };
      return { ...STATUS, logs: [{ ...LOG, cluster: { ...parts, ...cluster } }] } as unknown as DaemonStatus;
    });
    const told: (string | number | undefined)[][] = [];
    let at = 0;
    const watch = new EventWatch(
      () => looks[at++] as DaemonStatus,
      ({ event, nodeId }) => told.push([event, nodeId]),
    );
    for (const _ of looks) watch.look();
    expect(told).toEqual([
      ['present', undefined],
      ['member-died', 2],
      ['member-joined', 2],
    ]);
  });

  it('tells of no failed leg where this node only does not know the regions, for want of quorum', () => {
    const look = (quorate: boolean, inSyncCount: number, staleCount: number) => {
      const phase = quorate ? 'active' : 'introducing';
      const cluster = {
        quorate,
        phase,
        members: [],
        vanished: [],
        refusal: null,
        staleCount,
        givenUpCount: 0,
      };
      const log = { ...LOG, inSyncCount, cluster: { ...cluster, writer: 1, needReload: [] } };
      return { ...STATUS, logs: [log] } as unknown as DaemonStatus;
    };
    const all = LOG.regionCount;
    const looks = [look(true, all, 2), look(false, 0, 0), look(true, all, 2), look(true, all - 1, 2)];
    const told: string[] = [];
    let at = 0;
    const watch = new EventWatch(
      () => looks[at++] as DaemonStatus,
      ({ event }) => told.push(event),
    );
    for (const _ of looks) watch.look();
    expect(told).toEqual(['present', 'quorum-lost', 'quorum-regained', 'out-of-sync']);
  });
});
