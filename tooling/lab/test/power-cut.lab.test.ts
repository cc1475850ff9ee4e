import { describe, expect, it, onTestFinished } from 'vitest';
import {
  type Disk,
  disk,
  legsEqual,
  type Machine,
  type MirrorLog,
  mirrorTable,
  regionsThatDiffer,
} from '../src/index.js';
import { startSingled } from '../src/singled.js';
import { between, seededRandom } from './seeded.js';
import { DISK_LOG_MAGIC, decodeDiskLog, useLab } from './support.js';

const lab = useLab();

/** 20 in a full run. */
const CUTS = Number(process.env['DMLOG_POWER_CUTS'] ?? 6);
const SEED = Number(process.env['DMLOG_POWER_CUT_SEED'] ?? Date.now() % 2 ** 32) >>> 0;

const REGION_SECTORS = 128;
const REGION_BYTES = REGION_SECTORS * 512;
const LEG = '8M';
const REGION_COUNT = (8 << 20) / REGION_BYTES;
const BLOCK_BYTES = 4096;
const BLOCKS_PER_REGION = REGION_BYTES / BLOCK_BYTES;
const ALL_REGIONS = Array.from({ length: REGION_COUNT }, (_, region) => region);

/** The second leg is this much slower, so that a cut finds writes that only the first has (timers in the guest have 10 ms steps) … */
const LEG_DELAY_MS = 150;
/** … and so is the log: a daemon that does not wait for its marks is far ahead of them. */
const LOG_DELAY_MS = 10;
/** More than it takes to see a difference and cut, on a loaded machine too. */
const FAR_TOO_LATE_MS = 120_000;
const WRITERS = 4;
/** More than a writer gets done before any cut. */
const WRITES_PER_WRITER = 1000;
/** Lazy clear (3 s) lets regions go 3 to 6 s after their last write: some cuts come before, some after. */
const CUT_AFTER_MS_MAX = { lazy: 5000, prompt: 2500 };
const CUT_AFTER_MS_MIN = 200;

type Clears = keyof typeof CUT_AFTER_MS_MAX;

interface Disks extends Record<string, Disk> {
  readonly leg0: Disk;
  readonly leg1: Disk;
  readonly log: Disk;
}

function freshDisks(): Disks {
  const disks = { leg0: disk(LEG), leg1: disk(LEG), log: disk('64K') };
  disks.leg0.randomize(1);
  disks.leg1.randomize(2);
  return disks;
}

const differing = (disks: Disks) => regionsThatDiffer(disks.leg0, disks.leg1, REGION_BYTES, REGION_COUNT);
/** Regions whose legs differ although the image calls them clean: what a dirty log exists to prevent. */
const unmarked = (disks: Disks) => without(differing(disks), dirtyInImage(disks));
const without = (regions: readonly number[], taken: readonly number[]) => {
  const set = new Set(taken);
  return regions.filter((region) => !set.has(region));
};

/** Regions that the image calls dirty. On a device without an image: all. */
function dirtyInImage(disks: Disks): number[] {
  const image = decodeDiskLog(disks.log.read(), REGION_COUNT);
  if (image.magic !== DISK_LOG_MAGIC) return ALL_REGIONS;
  expect(image).toMatchObject({ version: 2, regionCount: REGION_COUNT });
  return image.dirtyRegions;
}

/** In each of these regions the legs are made to differ by a few bytes, which stay only where nothing is copied. Twice: as before. */
function toggleCanaries(disks: Disks, regions: readonly number[]): void {
  for (const region of regions) {
    const offset = (region + 1) * REGION_BYTES - 16;
    disks.leg1.write(
      offset,
      disks.leg1.read(offset, 16).map((byte) => byte ^ 0xff),
    );
  }
}

/** Boots the disks. The second leg and the log are behind devices that `slowDown` makes slow later, once the resync is over. */
async function boot(disks: Disks): Promise<Machine> {
  const machine = await lab().boot({ disks, modules: ['dm-delay'] });
  for (const key of ['leg1', 'log'] as const) {
    await machine.dmCreate(key, `0 ${disks[key].sectors} linear ${machine.device(key)} 0`);
  }
  return machine;
}

async function createMirror(machine: Machine, disks: Disks, log: MirrorLog): Promise<void> {
  const legs = [machine.device('leg0'), '/dev/mapper/leg1'];
  await machine.dmCreate('m', mirrorTable({ lengthSectors: disks.leg0.sectors, log, legs }));
}

function ourLog(): MirrorLog {
  const args = ['/dev/mapper/log', REGION_SECTORS];
  return { kind: 'userspace', uuid: 'LVM-power-cut', type: 'disk', args };
}

/** From now on writes to this disk take `milliseconds` longer. */
async function slowDown(
  machine: Machine,
  disks: Disks,
  key: 'leg1' | 'log',
  milliseconds: number,
): Promise<void> {
  const device = machine.device(key);
  await machine.run(`dmsetup suspend ${key} && dmsetup reload ${key} && dmsetup resume ${key}`, {
    input: `0 ${disks[key].sectors} delay ${device} 0 0 ${device} 0 ${milliseconds}\n`,
  });
}

/** Writers that go on until the cut: each writes random blocks, one after the other; half of them come back to a few regions again and again. */
async function startWriters(machine: Machine, random: () => number): Promise<void> {
  const hotRegions = [0, 1, 2].map(() => between(random, 0, REGION_COUNT));
  const writers = Array.from({ length: WRITERS }, (_, writer) => {
    const writes = Array.from({ length: WRITES_PER_WRITER }, () => {
      const hot = hotRegions[between(random, 0, hotRegions.length)]!;
      const region = writer % 2 === 0 ? between(random, 0, REGION_COUNT) : hot;
      const first = between(random, 0, BLOCKS_PER_REGION);
      const count = between(random, 1, Math.min(4, BLOCKS_PER_REGION - first) + 1);
      return `${region * BLOCKS_PER_REGION + first} ${count}`;
    });
    return `while read -r seek count; do
  dd if=/dev/urandom of=/dev/mapper/m bs=${BLOCK_BYTES} seek=$seek count=$count oflag=direct conv=notrunc status=none || exit
  echo wrote
done <<END\n${writes.join('\n')}\nEND`;
  });
  const processes = await Promise.all(
    writers.map((script) => machine.start('/bin/sh', { input: `${script}\n` })),
  );
  // The moment of the cut is counted from the first write on, however slow the machine is.
  await Promise.race(processes.map((process) => process.waitFor('wrote', 60_000)));
}

/** Brings up the disks that a cut has left behind, and checks what is copied: the dirty regions, and no other. */
async function recover(disks: Disks, clears: Clears): Promise<Machine> {
  const dirty = dirtyInImage(disks);
  const clean = without(ALL_REGIONS, dirty);
  toggleCanaries(disks, clean);
  const machine = await boot(disks);
  const singled = await startSingled(machine, { args: clears === 'prompt' ? ['--lazy-clear-ms', '0'] : [] });
  await createMirror(machine, disks, ourLog());
  await machine.waitInSync('m', 120_000);
  const resumed = singled.lines().find((line) => line['msg'] === 'log resumed from its image');
  expect(resumed).toMatchObject({ inSync: clean.length, regions: REGION_COUNT });
  // Equal wherever the image said dirty, and untouched wherever it said clean.
  expect(differing(disks)).toEqual(clean);
  toggleCanaries(disks, clean);
  expect(differing(disks)).toEqual([]);
  return machine;
}

describe('a power cut during writes', () => {
  it(`leaves no difference unmarked, and only marked regions are resynced: ${CUTS} cuts, seed ${SEED}`, {
    timeout: 120_000 + CUTS * 60_000,
  }, async () => {
    const random = seededRandom(SEED);
    const disks = freshDisks();
    const story: string[] = [`power cuts, seed ${SEED}:`];
    // Said when a cut fails, too.
    onTestFinished(() => console.log(story.join('\n  ')));
    let cutsWithDifferences = 0;
    for (let cut = 0; cut < CUTS; cut++) {
      const clears: Clears = cut % 2 === 0 ? 'prompt' : 'lazy';
      const machine = await recover(disks, clears);
      await slowDown(machine, disks, 'leg1', LEG_DELAY_MS);
      await slowDown(machine, disks, 'log', LOG_DELAY_MS);
      await startWriters(machine, random);
      const afterMs = between(random, CUT_AFTER_MS_MIN, CUT_AFTER_MS_MAX[clears]);
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      await machine.powerCut();

      const differ = differing(disks).length;
      story.push(
        `${clears} ${afterMs} ms: ${differ} regions differ, ${dirtyInImage(disks).length} are dirty`,
      );
      expect(unmarked(disks), `seed ${SEED}, cut ${cut}: legs differ in clean regions`).toEqual([]);
      if (differ > 0) cutsWithDifferences++;
    }
    const last = await recover(disks, 'prompt');
    await last.dmRemove('m');
    await last.halt();
    expect(legsEqual(disks.leg0, disks.leg1)).toBe(true);
    expect(dirtyInImage(disks)).toEqual([]);
    // Otherwise nothing was tried.
    expect(cutsWithDifferences).toBeGreaterThan(0);
  });

  it('is what finds a daemon that answers FLUSH before the marks are on stable media', async () => {
    const disks: Disks = { leg0: disk(LEG), leg1: disk(LEG), log: disk('64K') };
    const machine = await boot(disks);
    // The kernel makes the image, of legs that are equal; the liar takes it over.
    await createMirror(machine, disks, {
      kind: 'disk',
      args: ['/dev/mapper/log', REGION_SECTORS, 'nosync'],
    });
    await machine.dmRemove('m');
    expect(dirtyInImage(disks)).toEqual([]);
    await startSingled(machine, { faults: { lateLogWritesMs: FAR_TOO_LATE_MS } });
    await createMirror(machine, disks, ourLog());
    await slowDown(machine, disks, 'leg1', FAR_TOO_LATE_MS);
    for (const region of [3, 40]) {
      const seek = region * BLOCKS_PER_REGION;
      await machine.start(
        `dd if=/dev/urandom of=/dev/mapper/m bs=${BLOCK_BYTES} count=1 seek=${seek} oflag=direct`,
      );
    }
    await expect.poll(() => differing(disks), { timeout: 60_000 }).toEqual([3, 40]);
    await machine.powerCut();
    expect(unmarked(disks)).toEqual([3, 40]);
  });
});
