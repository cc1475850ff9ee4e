import { beforeAll, describe, expect, it } from 'vitest';
import {
  type Disk,
  disk,
  type Machine,
  type MirrorLog,
  mirrorTable,
  regionsThatDiffer,
} from '../src/index.js';
import { type Daemon, startSingled } from '../src/singled.js';
import { DISK_LOG_MAGIC, decodeDiskLog, useLab } from './support.js';

/** The image of a log belongs to no daemon: the kernel's own `disk` log and ours read and write the same bytes. */
const lab = useLab();

const REGION_SECTORS = 128;
const REGION_BYTES = REGION_SECTORS * 512;
const UUID = 'LVM-moves';

type Server = 'kernel' | 'ours';
const SERVERS: readonly Server[] = ['kernel', 'ours'];

/** The same log, kept by the kernel or by our daemon. */
function logOf(server: Server, args: readonly (string | number)[]): MirrorLog {
  if (server === 'kernel') return { kind: 'disk', args };
  return { kind: 'userspace', uuid: UUID, type: 'disk', args };
}

describe('under a mounted file system', () => {
  const REGION_COUNT = 256;
  /** The file system ends before the last region: nobody writes there, and only a resync would copy it. */
  const FILE_SYSTEM_BYTES = (REGION_COUNT - 1) * REGION_BYTES;
  const CANARY = REGION_COUNT - 1;

  it("moves from the kernel's log to ours and back while files are written, without a region resynced", async () => {
    const disks = { leg0: disk('16M'), leg1: disk('16M'), log: disk('64K') };
    disks.leg0.randomize(1);
    const machine = await lab().boot({ disks });
    const singled = await startSingled(machine);
    const table = (server: Server) =>
      mirrorTable({
        lengthSectors: disks.leg0.sectors,
        log: logOf(server, [machine.device('log'), REGION_SECTORS]),
        legs: [machine.device('leg0'), machine.device('leg1')],
        features: ['handle_errors'],
      });
    await machine.dmCreate('m', table('kernel'));
    await machine.waitInSync('m');
    disks.leg1.write(CANARY * REGION_BYTES + 100, Buffer.from('nobody copies this'));
    await machine.run(`mkfs.ext4 -q -b 4096 /dev/mapper/m ${FILE_SYSTEM_BYTES / 4096}
      mkdir -p /mnt/m && mount /dev/mapper/m /mnt/m
      dd if=/dev/urandom of=/mnt/m/old bs=64k count=32 status=none
      cd /mnt/m && sha256sum old >/run/sums`);
    const writer = await machine.start('/bin/sh', {
      input: `n=0
while [ ! -e /run/stop ]; do
  n=$((n + 1)); file=/mnt/m/new$((n % 40))
  dd if=/dev/urandom of=$file bs=4k count=12 conv=fsync status=none || exit
  sha256sum $file >/run/sum$((n % 40)); echo file $n
done\n`,
    });
    await writer.waitFor('file 3');

    for (const server of ['ours', 'kernel', 'ours', 'kernel'] as const) {
      const before = singled.lines().length;
      await machine.dmReload('m', table(server));
      await machine.dmSuspend('m');
      // The moment of the exchange: what the next log will read. (Status alone could miss a quick resync.)
      expect(decodeDiskLog(disks.log.read(), REGION_COUNT).dirtyRegions, `given to ${server}`).toEqual([]);
      await machine.dmResume('m');
      expect(await machine.dmStatus('m'), server).toMatchObject({
        inSyncCount: REGION_COUNT,
        regionCount: REGION_COUNT,
      });
      if (server === 'ours') {
        expect(singled.lines().slice(before)).toContainEqual(
          expect.objectContaining({
            msg: 'log resumed from its image',
            inSync: REGION_COUNT,
            regions: REGION_COUNT,
          }),
        );
      }
      const written = Number(/file (\d+)\s*$/.exec(writer.output())?.[1]);
      await writer.waitFor(`file ${written + 4}`, 60_000);
    }

    await machine.run('touch /run/stop');
    expect(await writer.exited).toBe(0);
    await machine.run('echo 3 >/proc/sys/vm/drop_caches; cd /mnt/m && sha256sum -c /run/sums /run/sum[0-9]*');
    await machine.run('umount /mnt/m && fsck.ext4 -fn /dev/mapper/m');
    await machine.dmRemove('m');
    await singled.stop();
    await machine.halt();
    expect(regionsThatDiffer(disks.leg0, disks.leg1, REGION_BYTES, REGION_COUNT)).toEqual([CANARY]);
    expect(decodeDiskLog(disks.log.read(), REGION_COUNT)).toEqual({
      magic: DISK_LOG_MAGIC,
      version: 2,
      regionCount: REGION_COUNT,
      dirtyRegions: [],
    });
  });
});

/** One table in the life of a mirror, and what the kernel's own log makes of the image that the step before has left. */
interface Step {
  readonly regions: number;
  readonly mode?: 'sync' | 'nosync';
  /** Regions that are written to (4 KiB, through the mirror) once all is in sync. */
  readonly writes?: readonly number[];
  /** Regions that are resynced: from the first to below the second. */
  readonly copied: readonly [from: number, to: number];
}

/** Counts that are multiples of neither 8, 32 nor 64: the ends of a bitmap are where formats differ. */
const LIFE: readonly Step[] = [
  // Garbage is no image: everything is new.
  { regions: 61, copied: [0, 61] },
  { regions: 61, copied: [0, 0], writes: [0, 7, 8, 60] },
  // Grown: the new regions are out of sync …
  { regions: 77, copied: [61, 77] },
  // … but not under nosync.
  { regions: 90, mode: 'nosync', copied: [0, 0], writes: [3, 89] },
  // Shrunk, and grown again: what was cut off has been forgotten.
  { regions: 33, copied: [0, 0], writes: [32] },
  { regions: 70, copied: [33, 70] },
  { regions: 70, mode: 'sync', copied: [0, 70] },
  { regions: 128, mode: 'sync', copied: [0, 128], writes: [127] },
  { regions: 64, mode: 'nosync', copied: [0, 0], writes: [63] },
  { regions: 65, copied: [64, 65] },
];

const range = ([from, to]: readonly [number, number]) =>
  Array.from({ length: to - from }, (_, index) => from + index);

/** Who serves each step. The kernel alone is the measure of the others. */
const LIVES = {
  kernel: () => 'kernel',
  ours: () => 'ours',
  kernelFirst: (step) => SERVERS[step % 2]!,
  oursFirst: (step) => SERVERS[(step + 1) % 2]!,
  lazy: () => 'ours',
} satisfies Readonly<Record<string, (step: number) => Server>>;
type Life = keyof typeof LIVES;

/** What a step has left behind. */
interface Left {
  readonly copied: readonly number[];
  readonly image: Buffer;
}

describe('through a life of tables that grow and shrink, with sync and with nosync', () => {
  const LEG_REGIONS = Math.max(...LIFE.map(({ regions }) => regions));
  const legs = { leg0: disk(LEG_REGIONS * REGION_BYTES), leg1: disk(LEG_REGIONS * REGION_BYTES) };
  const logs = mapLives(() => disk('16K'));
  const left = {} as Record<Life, Left[]>;
  let machine: Machine;
  let singled: Daemon;

  beforeAll(async () => {
    // The same garbage everywhere: bytes that a log leaves alone count too.
    for (const log of Object.values(logs)) log.randomize(9);
    legs.leg0.randomize(1);
    machine = await lab().boot({ disks: { ...legs, ...logs } });
    singled = await startSingled(machine, { args: ['--lazy-clear-ms', '0'] });
    left.kernel = await live('kernel');
  });

  async function live(life: Life): Promise<Left[]> {
    const all: Left[] = [];
    for (const [index, step] of LIFE.entries()) {
      // Legs differ everywhere: a region that is equal afterwards has been copied.
      legs.leg1.randomize(100 + index);
      const args = [
        machine.device(logs[life]),
        REGION_SECTORS,
        ...(step.mode === undefined ? [] : [step.mode]),
      ];
      const table = mirrorTable({
        lengthSectors: step.regions * REGION_SECTORS,
        log: logOf(LIVES[life](index), args),
        legs: [machine.device('leg0'), machine.device('leg1')],
      });
      await machine.dmCreate('m', table);
      await machine.waitInSync('m');
      const differ = new Set(regionsThatDiffer(legs.leg0, legs.leg1, REGION_BYTES, LEG_REGIONS));
      const writes = (step.writes ?? []).map(
        (region) =>
          `dd if=/dev/urandom of=/dev/mapper/m bs=4k count=1 seek=${region * (REGION_BYTES / 4096)} oflag=direct conv=notrunc`,
      );
      await machine.run(['set -e', ...writes, 'dmsetup remove m'].join('\n'));
      all.push({
        copied: range([0, LEG_REGIONS]).filter((region) => !differ.has(region)),
        image: logs[life].read(),
      });
    }
    return all;
  }

  /** The same regions copied and the same bytes on the log device, step by step. */
  function expectSame(life: Life): void {
    for (const [index, step] of LIFE.entries()) {
      const about = `${life}, step ${index}: ${step.regions} regions ${step.mode ?? ''}`;
      const [mine, kernels] = [left[life][index]!, left.kernel[index]!];
      expect(mine.copied, about).toEqual(kernels.copied);
      expect(bytesThatDiffer(mine.image, kernels.image), about).toEqual([]);
    }
  }

  it("the kernel's log copies what its arguments say, and is the measure", () => {
    expect(left.kernel.map(({ copied }) => copied)).toEqual(LIFE.map(({ copied }) => range(copied)));
    for (const [index, { regions }] of LIFE.entries()) {
      const image = decodeDiskLog(left.kernel[index]!.image, regions);
      expect(image).toEqual({ magic: DISK_LOG_MAGIC, version: 2, regionCount: regions, dirtyRegions: [] });
    }
  });

  it.each(['ours', 'kernelFirst', 'oursFirst'] as const)(
    'copies the same regions and leaves the same image, byte for byte: %s',
    async (life) => {
      left[life] = await live(life);
      expectSame(life);
    },
  );

  it('does so with lazy clears too, once the mirror is removed', async () => {
    await singled.stop();
    singled = await startSingled(machine);
    left.lazy = await live('lazy');
    expectSame('lazy');
  });

  it('and what is on the devices after power off is what was seen', async () => {
    await machine.halt();
    for (const log of Object.values(logs))
      expect(bytesThatDiffer(log.read(), logs.kernel.read())).toEqual([]);
  });
});

function mapLives(make: () => Disk): Record<Life, Disk> {
  return Object.fromEntries(Object.keys(LIVES).map((life) => [life, make()])) as Record<Life, Disk>;
}

/** Offsets with both bytes, which says more than "buffers are not equal". */
function bytesThatDiffer(a: Buffer, b: Buffer): string[] {
  expect(a.length).toBe(b.length);
  return range([0, a.length]).flatMap((at) =>
    a[at] === b[at] ? [] : [`${at}: ${a[at]!.toString(16)} ${b[at]!.toString(16)}`],
  );
}
