import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { alignedBuffer } from '@dmlog/daemon';
import { RequestType } from '@dmlog/protocol';
import type { Summary } from '../driver.js';
import { summarize } from '../statistics.js';
import type { BenchKernel, PlayedLog } from './kernel.js';

/** Rows by name, and how often the sequence was played. */
export interface Played {
  readonly cycles: number;
  readonly types: Readonly<Record<string, Summary>>;
}

/** Requests that are answered in place are timed in blocks of this many, against the cost of the clock. */
const BLOCK = 200;
const REGIONS_PER_FLUSH = 32;
/** What a disk log writes for a region that is new: a block of its image. */
const DISK_BLOCK_BYTES = 4096;
const DISK_BLOCKS = 64;

class Times {
  readonly #rows = new Map<string, number[]>();

  add(row: string, ns: number): number {
    const times = this.#rows.get(row);
    if (times === undefined) this.#rows.set(row, [ns]);
    else times.push(ns);
    return ns;
  }

  types(): Record<string, Summary> {
    return Object.fromEntries([...this.#rows].map(([row, times]) => [row, summarize(times)]));
  }
}

type Cycle = (times: Times, n: number) => Promise<void>;

async function forMs(ms: number, cycle: Cycle): Promise<Played> {
  const times = new Times();
  const end = performance.now() + ms;
  let cycles = 0;
  // Each request comes on a turn of the event loop of its own, as from a socket.
  for (; performance.now() < end; cycles++) await cycle(times, cycles);
  return { cycles, types: times.types() };
}

/** Writes to regions that nobody has marked: MARK, then FLUSH, as the kernel sends them; then the same in one request (integrated flush). */
export function playWrites(
  kernel: BenchKernel,
  log: PlayedLog,
  ms: number,
  nextRegion: () => number,
): Promise<Played> {
  return forMs(ms, async (times) => {
    const first = nextRegion();
    await nextTurn();
    const mark = times.add('MARK', (await kernel.ask(log, RequestType.MARK_REGION, [first])).ns);
    await nextTurn();
    const flush = times.add('FLUSH after MARK', (await kernel.ask(log, RequestType.FLUSH)).ns);
    times.add('MARK + FLUSH', mark + flush);
    await nextTurn();
    await kernel.ask(log, RequestType.CLEAR_REGION, [first]);
  });
}

export function playFlushes(
  kernel: BenchKernel,
  log: PlayedLog,
  ms: number,
  nextRegion: () => number,
): Promise<Played> {
  return forMs(ms, async (times) => {
    const region = nextRegion();
    await nextTurn();
    times.add('FLUSH with a new mark', (await kernel.ask(log, RequestType.FLUSH, [region])).ns);
    await nextTurn();
    await kernel.ask(log, RequestType.CLEAR_REGION, [region]);
  });
}

/** GET_RESYNC_WORK that finds nothing leased to this node and has to ask, then SET_REGION_SYNC. The mirror's leases are given back before, as at a suspend. */
export function playWork(
  kernel: BenchKernel,
  log: PlayedLog,
  ms: number,
  nextRegion: () => number,
): Promise<Played> {
  return forMs(ms, async (times) => {
    const region = nextRegion();
    await nextTurn();
    await kernel.ask(log, RequestType.PRESUSPEND);
    // Ordered after the RELEASE, so that this is known here when it was answered.
    await nextTurn();
    await kernel.ask(log, RequestType.FLUSH, [region]);
    await nextTurn();
    await kernel.ask(log, RequestType.CLEAR_REGION, [region]);
    await nextTurn();
    const { ns, values } = await kernel.ask(log, RequestType.GET_RESYNC_WORK);
    if (values[0] !== 1) throw new Error('there is no more work to ask for');
    times.add('GET_RESYNC_WORK that asks', ns);
    await nextTurn();
    const done = await kernel.ask(log, RequestType.SET_REGION_SYNC, [values[1]!, 1]);
    times.add('SET_REGION_SYNC', done.ns);
    await nextTurn();
    await kernel.ask(log, RequestType.CLEAR_REGION, [values[1]!]);
  });
}

/** Requests that need no order, in place. `held`: a region that this node has marked. */
export function playLocal(kernel: BenchKernel, log: PlayedLog, ms: number, held: number): Promise<Played> {
  const rows: [string, [RequestType, number[]][]][] = [
    ['MARK, hot', [[RequestType.MARK_REGION, [held]]]],
    ['FLUSH, hot', [[RequestType.FLUSH, []]]],
    [
      'rewrite: MARK, FLUSH, CLEAR, FLUSH',
      [
        [RequestType.MARK_REGION, [held]],
        [RequestType.FLUSH, []],
        [RequestType.CLEAR_REGION, [held]],
        [RequestType.FLUSH, []],
      ],
    ],
    ['IN_SYNC', [[RequestType.IN_SYNC, [held]]]],
    ['IS_CLEAN', [[RequestType.IS_CLEAN, [held]]]],
    ['GET_SYNC_COUNT', [[RequestType.GET_SYNC_COUNT, []]]],
    ['IS_REMOTE_RECOVERING', [[RequestType.IS_REMOTE_RECOVERING, [held]]]],
  ];
  return forMs(ms, async (times) => {
    for (const [row, requests] of rows) {
      const frames = kernel.frames(log, Array.from({ length: BLOCK }, () => requests).flat());
      await nextTurn();
      times.add(row, kernel.playLocal(frames) / BLOCK);
    }
  });
}

/** The floor of what is written to a device before it is answered: one block, as the daemon's devices write it, past all caches. */
export async function playDisk(path: string, ms: number): Promise<Played> {
  const { O_CREAT, O_DIRECT, O_DSYNC, O_RDWR } = constants;
  const fd = openSync(path, O_CREAT | O_RDWR | O_DIRECT | O_DSYNC);
  const block = alignedBuffer(DISK_BLOCK_BYTES);
  try {
    return await forMs(ms, async (times, n) => {
      await nextTurn();
      const began = performance.now();
      writeSync(fd, block, 0, block.byteLength, (n % DISK_BLOCKS) * block.byteLength);
      times.add('write of a block', (performance.now() - began) * 1e6);
    });
  } finally {
    closeSync(fd);
  }
}

export interface Resynced {
  readonly ms: number;
  /** Regions that this node recovered. */
  readonly regions: number;
  /** Messages that its GET_RESYNC_WORKs made it send. */
  readonly sentForWork: number;
  /** SET_REGION_SYNC. */
  readonly types: Readonly<Record<string, Summary>>;
}

/** Recovers until nothing is left, one region at a time, as dm-mirror does. `copyMs`: how long the copy of a region takes; 0: no time. */
export async function playResync(
  kernel: BenchKernel,
  log: PlayedLog,
  regions: number,
  copyMs: number,
): Promise<Resynced> {
  const times = new Times();
  const began = performance.now();
  let recovered = 0;
  let sentForWork = 0;
  for (;;) {
    await nextTurn();
    const before = kernel.sent(log);
    const {
      values: [there, region],
    } = await kernel.ask(log, RequestType.GET_RESYNC_WORK);
    sentForWork += kernel.sent(log) - before;
    if (there !== 1) {
      const { values } = await kernel.ask(log, RequestType.GET_SYNC_COUNT);
      if (values[0] === regions) break;
      await sleep(1); // others recover the rest
      continue;
    }
    if (copyMs > 0) await sleep(copyMs);
    else await nextTurn();
    times.add('SET_REGION_SYNC', (await kernel.ask(log, RequestType.SET_REGION_SYNC, [region!, 1])).ns);
    await nextTurn();
    await kernel.ask(log, RequestType.CLEAR_REGION, [region!]);
    await nextTurn();
    await kernel.ask(log, RequestType.FLUSH);
    recovered++;
  }
  return { ms: performance.now() - began, regions: recovered, sentForWork, types: times.types() };
}

/** Marks `regions` and makes sure that they are committed. They stay marked. */
export async function playMarks(
  kernel: BenchKernel,
  log: PlayedLog,
  regions: readonly number[],
): Promise<void> {
  for (let i = 0; i < regions.length; i += REGIONS_PER_FLUSH) {
    await nextTurn();
    await kernel.ask(log, RequestType.FLUSH, regions.slice(i, i + REGIONS_PER_FLUSH));
  }
}
