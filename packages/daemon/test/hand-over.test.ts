import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { RequestType as R } from '@dmlog/protocol';
import pino from 'pino';
import { describe, expect, it, vi } from 'vitest';
import {
  type DaemonHandOver,
  giveWayToSuccessor,
  type HandOverMessage,
  inheritedPredecessor,
  type PreviousDaemon,
  SUCCESSOR_VARIABLE,
} from '../src/index.js';
import { errnoOf, Kernel, log, MemoryDevice } from './kernel.js';

const silent = pino({ level: 'silent' });

/** Both ends of a channel in one process: what one sends the other hears, on a later turn. */
class Channel extends EventEmitter {
  connected = true;
  readonly said: string[] = [];
  peer: Channel | null = null;
  send(
    message: HandOverMessage,
    _handle: undefined,
    _options: undefined,
    done: (error: null) => void,
  ): boolean {
    this.said.push(message.dmlog);
    setImmediate(() => {
      this.peer?.emit('message', message);
      done(null);
    });
    return true;
  }
  disconnect(): void {
    for (const end of [this, this.peer]) {
      if (end?.connected !== true) continue;
      end.connected = false;
      setImmediate(() => end.emit('disconnect'));
    }
  }
}

/** The parent's view of its child. */
class Child extends Channel {
  readonly pid = 4711;
  exitCode: number | null = null;
  killed: string[] = [];
  kill(signal: string): boolean {
    this.killed.push(signal);
    this.disconnect();
    setImmediate(() => this.emit('exit', null, signal));
    return true;
  }
  unref(): void {}
}

class Place implements DaemonHandOver {
  readonly descriptor = 17;
  readonly calls: string[] = [];
  /** Times that it cannot pause. */
  busy = 0;
  owed = false;
  async pause(): Promise<PreviousDaemon | null> {
    this.calls.push('pause');
    return this.busy-- > 0 ? null : { owed: this.owed, pausedAtMs: 17 };
  }
  resume(): void {
    this.calls.push('resume');
  }
  async letGo(): Promise<void> {
    this.calls.push('letGo');
  }
  async release(): Promise<void> {
    this.calls.push('release');
  }
}

function couple() {
  const child = new Child();
  const own = new Channel();
  child.peer = own;
  own.peer = child;
  const handOver = new Place();
  const given = giveWayToSuccessor({
    handOver,
    logger: silent,
    release: () => handOver.release(),
    start: () => child as unknown as ChildProcess,
    startMsMax: 20_000,
  });
  const environment: NodeJS.ProcessEnv = { [SUCCESSOR_VARIABLE]: '3' };
  return { child, own, handOver, given, environment };
}

describe('a hand-over', () => {
  it('releases the place once the next daemon has taken it', async () => {
    const { child, own, handOver, given, environment } = couple();
    const predecessor = inheritedPredecessor(own, environment);
    expect(predecessor?.descriptor).toBe(3);
    // What the next daemon starts is no successor.
    expect(environment).toEqual({});
    expect(await predecessor?.takeOver()).toEqual({ owed: false, pausedAtMs: 17 });
    // Its own end can wait until the next one answers.
    expect(handOver.calls).toEqual(['pause', 'letGo']);
    predecessor?.serving();
    expect(await given).toBe(true);
    expect(handOver.calls).toEqual(['pause', 'letGo', 'release']);
    expect([child.said, own.said]).toEqual([
      ['yours', 'released'],
      ['ready', 'taken'],
    ]);
    expect(own.connected).toBe(false);
  });

  it('tells that answers are owed', async () => {
    const { own, handOver, given, environment } = couple();
    handOver.owed = true;
    const predecessor = inheritedPredecessor(own, environment);
    expect(await predecessor?.takeOver()).toMatchObject({ owed: true });
    predecessor?.serving();
    expect(await given).toBe(true);
  });

  it('is tried again while a log device is busy, serving in between', async () => {
    const { own, handOver, given, environment } = couple();
    handOver.busy = 2;
    const predecessor = inheritedPredecessor(own, environment);
    await predecessor?.takeOver();
    predecessor?.serving();
    expect(await given).toBe(true);
    expect(handOver.calls).toEqual(['pause', 'resume', 'pause', 'resume', 'pause', 'letGo', 'release']);
  });

  it('leaves the daemon serving where the next one ends before it is ready', async () => {
    const { child, handOver, given } = couple();
    child.disconnect();
    expect(await given).toBe(false);
    expect(handOver.calls).toEqual(['resume']);
  });

  it('leaves the daemon serving where the next one hangs after it was ready, and kills that first', async () => {
    const { child, own, handOver, given } = couple();
    own.send({ dmlog: 'ready' }, undefined, undefined, () => {});
    expect(await given).toBe(false);
    expect(child.killed).toEqual(['SIGKILL']);
    expect(handOver.calls).toEqual(Array.from({ length: 8 }, () => ['pause', 'resume']).flat());
    expect(child.said).toEqual([...Array.from({ length: 8 }, () => 'yours'), 'refused']);
  });

  it('offers its place again where an answer came too late, which counts for nothing', async () => {
    const { own, handOver, given } = couple();
    const offers: number[] = [];
    const say = (message: HandOverMessage) => own.send(message, undefined, undefined, () => {});
    own.on('message', (message: HandOverMessage) => {
      if (message.dmlog === 'released') own.disconnect();
      if (message.dmlog !== 'yours') return;
      offers.push(message.offer as number);
      // The first offer is answered when the second one has been made.
      if (offers.length === 2) {
        say({ dmlog: 'taken', offer: 1 });
        setTimeout(() => say({ dmlog: 'taken', offer: 2 }), 10);
      }
    });
    say({ dmlog: 'ready' });
    expect(await given).toBe(true);
    expect(offers).toEqual([1, 2]);
    expect(handOver.calls).toEqual(['pause', 'resume', 'pause', 'letGo', 'release']);
  });

  it('ends the next daemon where this one refuses', async () => {
    const { own, environment } = couple();
    const taking = inheritedPredecessor(own, environment)?.takeOver();
    own.emit('message', { dmlog: 'refused', reason: 'busy' });
    await expect(taking).rejects.toMatchObject({ code: 'ERR_HANDOVER' });
  });

  it.each(['ready', 'taken'])(
    'goes on alone where its predecessor dies when it has said "%s"',
    async (step) => {
      const own = new Channel();
      const taking = inheritedPredecessor(own, { [SUCCESSOR_VARIABLE]: '3' })?.takeOver();
      if (step === 'taken') own.emit('message', { dmlog: 'yours', owed: false });
      await vi.waitFor(() => expect(own.said.at(-1)).toBe(step), { timeout: 20_000 });
      own.disconnect();
      expect(await taking).toEqual({ owed: true, pausedAtMs: null });
    },
  );

  it.each([
    ['nothing in the environment', {}, true],
    ['no channel', { [SUCCESSOR_VARIABLE]: '3' }, false],
    ['a number that is none', { [SUCCESSOR_VARIABLE]: '3x' }, true],
  ])('is not believed in with %s', (_, environment, connected) => {
    const own = new Channel();
    own.connected = connected;
    expect(inheritedPredecessor(own, environment)).toBeNull();
  });
});

describe('a daemon that is paused', () => {
  const A = log('LVM-aaaa', 0x1000);
  const DISK = '16384 disk /dev/log 1024 nosync';

  it('answers nothing, keeps what arrives, and goes on when it is resumed', async () => {
    const kernel = await Kernel.start();
    await kernel.resume(A, '16384 core 1024');
    expect(await kernel.daemon.handOver?.pause()).toMatchObject({ owed: false });
    const seq = kernel.send(A, R.GET_SYNC_COUNT, new Uint8Array(0));
    expect(await kernel.settled(seq)).toBeNull();
    kernel.daemon.handOver?.resume();
    expect(errnoOf(await kernel.settled(seq))).toBe(0);
  });

  it('waits for writes and their answers', async () => {
    const device = new MemoryDevice(16);
    const kernel = await Kernel.start({ '/dev/log': device });
    await kernel.resume(A, DISK);
    let end = (): void => {};
    device.beforeWrite = () =>
      new Promise((resolve) => {
        end = resolve;
      });
    await kernel.ask(A, R.MARK_REGION, 3);
    const seq = kernel.send(A, R.FLUSH, new Uint8Array(0));
    const paused = kernel.daemon.handOver?.pause();
    setTimeout(() => end(), 20);
    expect(await paused).toMatchObject({ owed: false });
    expect(errnoOf(await kernel.settled(seq))).toBe(0);
    expect(device.isClean(3)).toBe(false);
  });

  it('cannot be while a write does not end: what it writes must not come after what the next daemon writes', async () => {
    const device = new MemoryDevice(16);
    const kernel = await Kernel.start({ '/dev/log': device });
    await kernel.resume(A, DISK);
    let end = (): void => {};
    device.beforeWrite = () =>
      new Promise((resolve) => {
        end = resolve;
      });
    await kernel.ask(A, R.MARK_REGION, 3);
    const seq = kernel.send(A, R.FLUSH, new Uint8Array(0));
    expect(await kernel.daemon.handOver?.pause()).toBeNull();
    kernel.daemon.handOver?.resume();
    end();
    expect(errnoOf(await kernel.settled(seq))).toBe(0);
  });

  it("begins no write any more, although a flush of the legs ends then: that clear is the next one's", async () => {
    const device = new MemoryDevice(16);
    const kernel = await Kernel.start({ '/dev/log': device });
    await kernel.resume(A, DISK);
    await kernel.ask(A, R.MARK_REGION, 3);
    const marked = kernel.send(A, R.FLUSH, new Uint8Array(0));
    expect(errnoOf(await kernel.settled(marked))).toBe(0);
    let end = (): void => {};
    device.beforeLegsFlushed = () =>
      new Promise((resolve) => {
        end = resolve;
      });
    await kernel.ask(A, R.CLEAR_REGION, 3);
    await kernel.ask(A, R.FLUSH);
    await vi.waitFor(() => expect(device.legFlushes).toBe(1), { timeout: 20_000 });
    expect(await kernel.daemon.handOver?.pause()).toMatchObject({ owed: false });
    const { writes } = device;
    end();
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect({ writes: device.writes, clean: device.isClean(3) }).toEqual({ writes, clean: false });
    kernel.daemon.handOver?.resume();
    await vi.waitFor(() => expect(device.isClean(3)).toBe(true), { timeout: 20_000 });
  });

  it('lets go of its logs without a word to the kernel', async () => {
    const device = new MemoryDevice(16);
    const kernel = await Kernel.start({ '/dev/log': device });
    await kernel.resume(A, DISK);
    await kernel.daemon.handOver?.pause();
    await kernel.daemon.handOver?.letGo();
    await kernel.daemon.handOver?.release();
    expect(await kernel.daemon.closed).toBe(0);
    expect(device.closed).toBe(1);
    kernel.daemon.handOver?.resume();
    expect(await kernel.daemon.handOver?.pause()).toBeNull();
  });
});
