import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type GuestProcess, type Machine, mirrorTable } from '../src/index.js';
import { type Daemon, startSingled } from '../src/singled.js';
import { useLab } from './support.js';

/**
 * Devices that fail under a mirror: what the kernel's own disk log does in the same machine by the same steps, ours has to do, and singled has to
 * say so in one line.
 */
const lab = useLab();

const SECTORS = 32_768; // 16 MiB in 32 regions of 512 KiB
const REGION_SECTORS = 1024;
const REGION_BYTES = REGION_SECTORS * 512;
/** Far longer than a write takes: one that has not ended by then is held. */
const HELD_MS = 3000;

let machine: Machine;
let singled: Daemon;
beforeAll(async () => {
  machine = await lab().boot({ modules: ['brd rd_nr=6 rd_size=16384', 'dm-flakey'] });
  singled = await startSingled(machine, { args: ['--log-level', 'info'] });
});
// What a failed story left behind, so that the next one can begin.
afterEach(async () => {
  await machine.run('dmsetup remove_all --force', { check: false });
});

type Features = readonly ('handle_errors' | 'keep_log')[];

interface Rival {
  /** Of the mirror. */
  readonly name: string;
  /** The device-mapper device under the mirror's log, and what it stands on. */
  readonly logName: string;
  readonly logBelow: string;
  readonly table: (syncMode: readonly string[]) => string;
}

/** The same mirror twice, one with the kernel's own log, each log on a device that can be made to fail. */
function rivals(features: Features): readonly [Rival, Rival] {
  const common = { lengthSectors: SECTORS, features };
  const rest = (syncMode: readonly string[]) => [REGION_SECTORS, ...syncMode];
  return [
    {
      name: 'kernels',
      logName: 'kernels-log',
      logBelow: '/dev/ram4',
      table: (syncMode) =>
        mirrorTable({
          ...common,
          log: { kind: 'disk', args: ['/dev/mapper/kernels-log', ...rest(syncMode)] },
          legs: ['/dev/ram0', '/dev/ram1'],
        }),
    },
    {
      name: 'ours',
      logName: 'ours-log',
      logBelow: '/dev/ram5',
      table: (syncMode) =>
        mirrorTable({
          ...common,
          log: {
            kind: 'userspace',
            uuid: 'ours',
            type: 'disk',
            args: ['/dev/mapper/ours-log', ...rest(syncMode)],
          },
          legs: ['/dev/ram2', '/dev/ram3'],
        }),
    },
  ];
}

const good = (below: string) => `0 ${SECTORS} linear ${below} 0`;
const failing = {
  'the error target': () => `0 ${SECTORS} error`,
  /** Reads work, writes fail. */
  'dm-flakey': (below: string) => `0 ${SECTORS} flakey ${below} 0 0 3600 1 error_writes`,
};

/** Exchanges a table under whatever uses the device. */
async function exchange(name: string, table: string): Promise<void> {
  await machine.dmReload(name, table);
  // A mirror that stands on it may hold writes: nothing is flushed, and no file system is looked for.
  await machine.dmSuspend(name, { noflush: true, nolockfs: true });
  await machine.dmResume(name);
}

/** One block of 4 KiB of random bytes into `region`, in the background. */
function write(name: string, region: number): Promise<GuestProcess> {
  const seek = (region * REGION_BYTES) / 4096;
  return machine.start(`dd if=/dev/urandom of=/dev/mapper/${name} bs=4096 count=1 seek=${seek} oflag=direct`);
}

/** How a write went. */
async function fate(process: GuestProcess): Promise<'done' | 'failed' | 'held'> {
  const status = await Promise.race([process.exited, sleep(HELD_MS, 'held' as const)]);
  if (status === 'held') return 'held';
  return status === 0 ? 'done' : 'failed';
}

/** Messages that singled logged from line `from` on, at level warn and above. */
function complaints(from: number): unknown[] {
  return singled
    .lines()
    .slice(from)
    .filter(({ level }) => level === 'warn' || level === 'error' || level === 'fatal')
    .map(({ level, msg }) => `${level}: ${msg}`);
}

describe.each([
  { what: 'the error target', features: ['handle_errors'] },
  { what: 'dm-flakey', features: [] },
] as const)('a log device that fails ($what, features: $features)', ({ what, features }) => {
  it("is reported as by the kernel's own log, hangs nothing, and is repaired by another table", async () => {
    const from = singled.lines().length;
    const both = rivals(features);
    const observe = async (writes: readonly GuestProcess[]) => {
      const fates = await Promise.all(writes.map(fate));
      const seen = [];
      for (const [index, { name }] of both.entries()) {
        const { log, legHealth, inSyncCount } = await machine.dmStatus(name);
        seen.push({ write: fates[index], letter: log.split(' ')[2], legHealth, inSyncCount });
      }
      return seen;
    };
    for (const { name, logName, logBelow, table } of both) {
      await machine.dmCreate(logName, good(logBelow));
      await machine.dmCreate(name, table(['nosync']));
    }
    const before = [await write('kernels', 1), await write('ours', 1)];
    const alive = { write: 'done', letter: 'A', legHealth: 'AA', inSyncCount: 32 };
    expect(await observe(before)).toEqual([alive, alive]);
    expect(complaints(from)).toEqual([]);

    for (const { logName, logBelow } of both) await exchange(logName, failing[what](logBelow));
    // With handle_errors the kernel keeps writes until the table is exchanged, without it they go on unlogged.
    const first = [await write('kernels', 7), await write('ours', 7)];
    const dead = {
      write: features.length > 0 ? 'held' : 'done',
      letter: 'D',
      legHealth: 'AA',
      inSyncCount: 32,
    };
    expect(await observe(first)).toEqual([dead, dead]);
    // Reads ask nothing of the log device.
    await machine.run('dd if=/dev/mapper/ours of=/dev/null bs=64k count=16 iflag=direct');
    const second = [await write('kernels', 8), await write('ours', 8)];
    expect(await observe(second)).toEqual([dead, dead]);
    expect(complaints(from)).toEqual([expect.stringMatching(/^error: log device cannot be written/)]);

    for (const { logName, logBelow } of both) await exchange(logName, good(logBelow));
    const third = [await write('kernels', 9), await write('ours', 9)];
    // The log works again, but the kernel keeps letter and writes until another table.
    expect(await observe(third)).toEqual([dead, dead]);
    expect(complaints(from)).toEqual([
      expect.stringMatching(/^error: log device cannot be written/),
      expect.stringMatching(/^warn: log device can be written again/),
    ]);

    for (const { name, table } of both) await exchange(name, table([]));
    for (const { name } of both) await machine.waitInSync(name);
    // Writes that were held have been sent again to the new table.
    for (const writes of [first, second, third]) expect(await observe(writes)).toEqual([alive, alive]);
    for (const { name, logName } of both) {
      await machine.dmRemove(name);
      await machine.dmRemove(logName);
    }
    await machine.run('cmp /dev/ram0 /dev/ram1 && cmp /dev/ram2 /dev/ram3');
  });
});

describe('a log device that fails before its mirror begins', () => {
  it("starts as with the kernel's own log: nothing is taken to be in sync, and the letter says why", async () => {
    const from = singled.lines().length;
    const both = rivals(['handle_errors']);
    for (const { name, logName, table } of both) {
      await machine.dmCreate(logName, failing['the error target']());
      await machine.dmCreate(name, table(['nosync']));
    }
    const seen = [];
    for (const { name } of both) {
      const { log } = await machine.dmStatus(name);
      seen.push(log.split(' ')[2]);
    }
    expect(seen).toEqual(['D', 'D']);
    expect(complaints(from)[0]).toMatch(/^error: log device cannot be (read|written)/);
    for (const { name, logName } of both) {
      await machine.dmRemove(name);
      await machine.dmRemove(logName);
    }
  });
});

describe('a leg that fails under handle_errors', () => {
  it('puts the written region out of sync, and that region alone is copied after the repair', async () => {
    const [, ours] = rivals(['handle_errors']);
    const table = (syncMode: readonly string[]) =>
      ours.table(syncMode).replace('/dev/ram3', '/dev/mapper/leg');
    await machine.run(
      'dd if=/dev/urandom of=/dev/ram2 bs=1M oflag=direct; dd if=/dev/ram2 of=/dev/ram3 bs=1M oflag=direct',
      {
        check: false,
      },
    );
    await machine.dmCreate('leg', good('/dev/ram3'));
    await machine.dmCreate(ours.logName, good(ours.logBelow));
    await machine.dmCreate('ours', table(['nosync']));
    expect(await fate(await write('ours', 3))).toBe('done');
    // A difference in a region that nothing has written: copied only if more is copied than has to be.
    const canary = 20;
    await machine.run(
      `echo canary | dd of=/dev/ram3 bs=4096 seek=${(canary * REGION_BYTES) / 4096} conv=sync oflag=direct`,
    );

    await exchange('leg', failing['the error target']());
    const held = await write('ours', 12);
    expect(await fate(held)).toBe('held');
    expect(await machine.dmStatus('ours')).toMatchObject({
      legHealth: 'AD',
      inSyncCount: 31,
      log: expect.stringMatching(/A$/),
    });
    expect((await singled.status()).logs).toMatchObject([
      { uuid: 'ours', inSyncCount: 31, deviceStatus: 'A' },
    ]);

    await exchange('leg', good('/dev/ram3'));
    await exchange('ours', table([]));
    expect(await fate(held)).toBe('done');
    expect(await machine.waitInSync('ours')).toMatchObject({ legHealth: 'AA' });
    expect(singled.lines().findLast(({ msg }) => msg === 'log resumed from its image')).toMatchObject({
      inSync: 31,
      regions: 32,
    });
    // `cmp -l`: one line per byte that differs, its position from 1. Not from what the page cache kept of an earlier look.
    const differ = async () => {
      const { stdout } = await machine.run('echo 1 >/proc/sys/vm/drop_caches; cmp -l /dev/ram2 /dev/ram3', {
        check: false,
      });
      const bytes = stdout.split('\n').filter((line) => line !== '');
      return [...new Set(bytes.map((line) => Math.floor((Number.parseInt(line, 10) - 1) / REGION_BYTES)))];
    };
    expect(await differ()).toEqual([canary]);
    await machine.run(
      `dd if=/dev/urandom of=/dev/mapper/ours bs=4096 count=1 seek=${(canary * REGION_BYTES) / 4096} oflag=direct`,
    );
    expect(await differ()).toEqual([]);
    await machine.dmRemove('ours');
    await machine.dmRemove(ours.logName);
    await machine.dmRemove('leg');
    expect((await singled.status()).logs).toEqual([]);
  });
});
