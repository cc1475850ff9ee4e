import { expect, it } from 'vitest';
import { type Machine, mirrorTable } from '../src/index.js';
import { startSingled } from '../src/singled.js';
import { type FioJob, fio } from './fio.js';
import { useLab } from './support.js';

/**
 * How fast writes are, against the kernel's own log and against what a naive daemon would do, in one machine. Only ratios mean anything: the
 * guest's kernel is some 40 times slower per process switch than its host. What is not promised is printed.
 */
const lab = useLab();

const GIB = 2 ** 30;
/** 1 GiB of a disk that takes memory only where it is written: `/dev/ram0` to `/dev/ram5`. */
const RAM_DISKS = `brd rd_nr=6 rd_size=${GIB / 1024}`;
const TARGET_SECTORS = GIB / 512;
/** One write of 4 KiB is one region: writes at random find a new region nearly each time, of 262144. */
const SMALL_REGION_SECTORS = 8;
/** Jiffies are 10 ms in the guest: 5 ms of delay cost a log write about 20. */
const LOG_DELAY_MS = 5;
const ROUNDS = 3;
const ROUND_SECONDS = 2;

/** Two mirrors on memory, alike but for who keeps the log; the legs need no resync. */
async function createRivals(machine: Machine, kernelsLog: string, ourLog: string): Promise<void> {
  const lengthSectors = TARGET_SECTORS;
  const rest = [SMALL_REGION_SECTORS, 'nosync'];
  const kernels = { kind: 'disk', args: [kernelsLog, ...rest] } as const;
  const ours = { kind: 'userspace', uuid: 'rival', type: 'disk', args: [ourLog, ...rest] } as const;
  await machine.dmCreate(
    'kernels',
    mirrorTable({ lengthSectors, log: kernels, legs: ['/dev/ram0', '/dev/ram1'] }),
  );
  await machine.dmCreate('ours', mirrorTable({ lengthSectors, log: ours, legs: ['/dev/ram2', '/dev/ram3'] }));
}

async function removeRivals(machine: Machine): Promise<void> {
  await machine.dmRemove('ours');
  await machine.dmRemove('kernels');
}

interface Duel {
  readonly kernels: number;
  readonly ours: number;
}

/** Medians of alternated rounds, in writes/s. A host that is busy for a while is so for both. */
async function duel(machine: Machine, what: string, job: Partial<FioJob>, rounds = ROUNDS): Promise<Duel> {
  const rates = { kernels: [] as number[], ours: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    for (const name of ['kernels', 'ours'] as const) {
      const device = `/dev/mapper/${name}`;
      const seed = round + 1;
      const base = { device, pattern: 'randwrite', size: GIB, seconds: ROUND_SECONDS, seed } as const;
      rates[name].push((await fio(machine, { ...base, ...job })).writesPerSecond);
    }
  }
  const result = { kernels: median(rates.kernels), ours: median(rates.ours) };
  const ratio = (result.ours / result.kernels).toPrecision(2);
  console.log(
    `${what}: kernel's disk log ${result.kernels.toFixed(0)} writes/s, ours ${result.ours.toFixed(0)}, ${ratio} times`,
  );
  return result;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] as number;
}

/** A RAM disk takes memory for what was written to it: the faster the host, the more of the legs is written before a round is over. */
const MEMORY_MIB = 3072;
const HOT = { size: 4096 };

it('on a slow log device, a hot region costs no log writes, and random regions no more than with the kernel', async () => {
  const machine = await lab().boot({ memoryMiB: MEMORY_MIB, modules: [RAM_DISKS, 'dm-delay'] });
  // Clears are written three times as often as by default: within the rounds.
  const singled = await startSingled(machine, { args: ['--lazy-clear-ms', '1000', '--log-level', 'info'] });
  for (const [name, below] of [
    ['slow0', '/dev/ram4'],
    ['slow1', '/dev/ram5'],
  ] as const) {
    await machine.dmCreate(name, `0 ${TARGET_SECTORS} delay ${below} 0 ${LOG_DELAY_MS}`);
  }
  await createRivals(machine, '/dev/mapper/slow0', '/dev/mapper/slow1');

  const hot = await duel(machine, 'log device of 5 ms, one region', HOT, 1);
  expect(hot.ours / hot.kernels).toBeGreaterThanOrEqual(10);
  const random = await duel(machine, 'log device of 5 ms, random regions', {});
  expect(random.ours / random.kernels).toBeGreaterThanOrEqual(0.9);
  const deep = await duel(machine, 'log device of 5 ms, random regions, 8 writes at once', { depth: 8 });
  expect(deep.ours / deep.kernels).toBeGreaterThanOrEqual(0.9);
  await removeRivals(machine);

  // What the round trips to a process cost where the log device costs nothing: no promise, a figure.
  await createRivals(machine, '/dev/ram4', '/dev/ram5');
  await duel(machine, 'log device in memory, one region', HOT, 1);
  await duel(machine, 'log device in memory, random regions', {}, 1);
  await removeRivals(machine);
  await singled.stop();
  await machine.halt();
});

it('writes far above the resync frontier stay fast: at least 10 times as with an honest hint', async () => {
  // So many regions (131072) that no host resyncs half of them while the writes last.
  const regionSectors = 16;
  const machine = await lab().boot({ memoryMiB: MEMORY_MIB, modules: [RAM_DISKS] });
  const rates: number[] = [];
  for (const faults of [undefined, { honestHint: true }]) {
    const singled = await startSingled(machine, faults === undefined ? {} : { faults });
    const log = { kind: 'userspace', uuid: 'large', type: 'core', args: [regionSectors] } as const;
    await machine.dmCreate(
      'm',
      mirrorTable({ lengthSectors: TARGET_SECTORS, log, legs: ['/dev/ram0', '/dev/ram1'] }),
    );
    const before = await machine.dmStatus('m');
    const job = { device: '/dev/mapper/m', pattern: 'randwrite', size: GIB / 16 } as const;
    rates.push((await fio(machine, { ...job, offset: GIB / 2, seconds: 3 })).writesPerSecond);
    const after = await machine.dmStatus('m');
    // It was resyncing all the while, and is not near to where the writes went.
    expect(after.inSyncCount).toBeGreaterThan(before.inSyncCount);
    expect(after.inSyncCount).toBeLessThan(after.regionCount / 2);
    await machine.dmRemove('m');
    await singled.stop();
  }
  const [ours, honest] = rates as [number, number];
  console.log(
    `above the resync frontier: ${ours.toFixed(0)} writes/s, with an honest hint ${honest.toFixed(1)}`,
  );
  expect(honest).toBeGreaterThan(0);
  expect(ours / honest).toBeGreaterThanOrEqual(10);
  await machine.halt();
});
