import { beforeAll, describe, expect, it } from 'vitest';
import {
  disk,
  legsEqual,
  type Machine,
  type MirrorLog,
  mirrorTable,
  regionsThatDiffer,
} from '../src/index.js';
import { type Daemon, startSingled } from '../src/singled.js';
import { DISK_LOG_MAGIC, decodeDiskLog, useLab } from './support.js';

/** Tables that cannot be, log devices that cannot be used, images that others wrote: all on the real kernel, beside a mirror that is in use. */
const lab = useLab();

const SECTORS = 8192; // 4 MiB in 32 regions of 128 KiB
const REGION_SECTORS = 256;
const REGION_BYTES = REGION_SECTORS * 512;
const REGION_COUNT = SECTORS / REGION_SECTORS;

const ours = { leg0: disk('4M'), leg1: disk('4M'), log: disk('1M') };
const kernels = { kernelsLeg0: disk('4M'), kernelsLeg1: disk('4M'), kernelsLog: disk('1M') };

let machine: Machine;
let singled: Daemon;

beforeAll(async () => {
  machine = await lab().boot({ disks: { ...ours, ...kernels }, modules: ['brd rd_nr=5 rd_size=16384'] });
  singled = await startSingled(machine, { args: ['--log-level', 'info'] });
  const log = {
    kind: 'userspace',
    uuid: 'bystander',
    type: 'disk',
    args: ['/dev/ram2', REGION_SECTORS],
  } as const;
  await machine.dmCreate(
    'bystander',
    mirrorTable({
      lengthSectors: SECTORS,
      log,
      legs: ['/dev/ram0', '/dev/ram1'],
      features: ['handle_errors'],
    }),
  );
  await machine.waitInSync('bystander');
  await machine.run(`
    dmsetup create tiny --table '0 2 linear /dev/ram3 0'
    dmsetup create locked --readonly --table '0 8192 linear /dev/ram3 8'
    mkfs.ext4 -q /dev/ram4 && mkdir -p /mnt/busy && mount /dev/ram4 /mnt/busy`);
});

const userspace = (type: string, ...args: (string | number)[]): MirrorLog => ({
  kind: 'userspace',
  uuid: 'bad',
  type,
  args,
});
const table = (log: MirrorLog) =>
  mirrorTable({ lengthSectors: SECTORS, log, legs: [machine.device('leg0'), machine.device('leg1')] });

const severe = () => singled.lines().filter(({ level }) => level === 'error' || level === 'fatal');

let refusals = 0;
let refusalsBySingled = 0;

/** `dmsetup create` of this table must fail; returns what the kernel said. */
async function refusedByKernel(log: MirrorLog): Promise<string> {
  const marker = `refusal ${++refusals}.`;
  const { code, stderr, stdout } = await machine.run(
    `echo "${marker}" >/dev/kmsg; dmsetup create bad; code=$?; dmesg | sed "1,/${marker}/d"; exit $code`,
    { input: `${table(log)}\n`, check: false },
  );
  expect(code).not.toBe(0);
  expect(stderr).toMatch(/ioctl on bad .*failed: /);
  expect(stdout).toMatch(/mirror: Error creating mirror dirty log/);
  return stdout;
}

/** As above, and singled must say why, in one line. */
async function expectRefused(log: MirrorLog, says: RegExp): Promise<void> {
  const before = refusalsBySingled++;
  expect(await refusedByKernel(log)).toMatch(/Userspace log server failed to create log/);
  await expect.poll(() => severe().length).toBe(before + 1);
  const line = severe().at(-1);
  expect(line).toMatchObject({ level: 'error', uuid: 'bad', msg: expect.stringMatching(/^log refused: /) });
  expect(line?.['msg']).toMatch(says);
}

/** The mirror in use has not noticed: it takes writes, and its log is alive. */
async function expectBystanderUntouched(): Promise<void> {
  await machine.run('dd if=/dev/urandom of=/dev/mapper/bystander bs=64k count=16 oflag=direct');
  expect(await machine.dmStatus('bystander')).toMatchObject({
    inSyncCount: REGION_COUNT,
    legHealth: 'AA',
    log: expect.stringMatching(/^disk \S+ A$/),
  });
  expect((await singled.status()).logs).toMatchObject([
    { uuid: 'bystander', state: 'live', deviceStatus: 'A' },
  ]);
}

describe('a table line', () => {
  it('with a wrong argument is refused, whichever it is, and says which one', async () => {
    for (const size of [0, 1]) {
      await expectRefused(
        userspace('core', size),
        new RegExp(`"${size}".*region size must lie between 2 and`),
      );
    }
    for (const size of [3, 1000]) {
      await expectRefused(userspace('core', size), new RegExp(`"${size}".*power of two`));
    }
    await expectRefused(userspace('core', 2 * SECTORS), /"16384".*target's length of 8192 sectors/);
    await expectRefused(userspace('core', 2 ** 40), /"1099511627776".*below 2\^32/);
    for (const size of ['-256', '0x100', 'many']) {
      await expectRefused(userspace('core', size), new RegExp(`"${size}".*must be a number of sectors`));
    }
    const { log } = ours;
    await expectRefused(userspace('disk', machine.device(log), 1000), /"1000".*power of two/);
    await expectRefused(
      userspace('core', REGION_SECTORS, 'maybe'),
      /"maybe".*expected sync, nosync or nothing/,
    );
    await expectRefused(userspace('flat', REGION_SECTORS), /"flat".*unknown log type/);
    await expectBystanderUntouched();
  });

  it('for a clustered log is refused with the name of the daemon that serves it, in both spellings', async () => {
    for (const type of ['clustered-core', 'clustered_core']) {
      await expectRefused(userspace(type, REGION_SECTORS), new RegExp(`"${type}".*clusterd`));
    }
    for (const type of ['clustered-disk', 'clustered_disk']) {
      await expectRefused(
        userspace(type, machine.device('log'), REGION_SECTORS),
        new RegExp(`"${type}".*clusterd`),
      );
    }
  });

  it('with too few or too many arguments is refused, and says what belongs there', async () => {
    // The kernel itself wants three words: singled is not asked.
    expect(await refusedByKernel(userspace('core'))).toMatch(/Too few arguments to userspace dirty log/);
    await expectRefused(userspace('core', REGION_SECTORS, 'sync', 'sync'), /wrong number of arguments/);
    await expectRefused(
      userspace('disk', machine.device('log')),
      /wrong number of arguments: disk takes <device>/,
    );
    await expectRefused(
      userspace('disk', machine.device('log'), REGION_SECTORS, 'sync', 1),
      /wrong number of arguments/,
    );
    await expectBystanderUntouched();
  });
});

describe('a log device', () => {
  it('that cannot be used is refused, and says what is wrong with it', async () => {
    const on = (device: string) => userspace('disk', device, REGION_SECTORS);
    await expectRefused(on('/dev/nowhere'), /there is no log device \/dev\/nowhere/);
    await expectRefused(on('99:99'), /there is no block device 99:99/);
    await expectRefused(
      on('/dev/mapper/tiny'),
      /tiny has 1024 bytes, 32 regions need \d+: use a larger device/,
    );
    await expectRefused(on('/dev/mapper/locked'), /locked cannot be written: it is write-protected/);
    await machine.run(`blockdev --setro ${machine.device('log')}`);
    await expectRefused(on(machine.device('log')), /cannot be written: it is write-protected/);
    await machine.run(`blockdev --setrw ${machine.device('log')}`);
    await expectRefused(on('/dev/ram4'), /\/dev\/ram4 is in use as a mounted file system/);
    await expectRefused(on('/dev/ram2'), /log device 1:2 is in use by log bystander/);
    await expectRefused(on('/run'), /\/run is not a block device/);
    await expectRefused(on('/dev/null'), /\/dev\/null is not a block device/);
    await expectRefused(on('/bin/sh'), /\/bin\/sh is not a block device/);
    await expectBystanderUntouched();
  });
});

/** An image that calls every region clean; what is given overrules the header. */
function image(header: { magic?: number; version?: number; regionCount?: bigint }): Buffer {
  const bytes = Buffer.alloc(4096);
  bytes.writeUInt32LE(header.magic ?? DISK_LOG_MAGIC, 0);
  bytes.writeUInt32LE(header.version ?? 2, 4);
  bytes.writeBigUInt64LE(header.regionCount ?? BigInt(REGION_COUNT), 8);
  bytes.fill(0xff, 1024);
  return bytes;
}

describe('an image', () => {
  it.each([
    { what: 'of another magic is no log: all is resynced', header: { magic: 0xdeadbeef }, believed: 0 },
    { what: 'for more regions is believed, and cut', header: { regionCount: 64n }, believed: REGION_COUNT },
    { what: 'for fewer regions is believed so far', header: { regionCount: 16n }, believed: 16 },
    { what: 'for no regions is not believed', header: { regionCount: 0n }, believed: 0 },
    {
      what: 'for 2^63 regions is damaged: all is resynced',
      header: { regionCount: 2n ** 63n },
      believed: 0,
    },
    { what: 'of version 1 is believed', header: { version: 1 }, believed: REGION_COUNT },
  ])("$what, exactly as by the kernel's own log", async ({ header, believed }) => {
    // Legs differ everywhere: what is believed to be in sync stays different.
    for (const [seed, leg] of [ours.leg0, ours.leg1, kernels.kernelsLeg0, kernels.kernelsLeg1].entries()) {
      leg.randomize(seed + 1);
    }
    for (const log of [ours.log, kernels.kernelsLog]) log.write(0, image(header));
    await machine.dmCreate('ours', table(userspace('disk', machine.device('log'), REGION_SECTORS)));
    await machine.dmCreate(
      'kernels',
      mirrorTable({
        lengthSectors: SECTORS,
        log: { kind: 'disk', args: [machine.device('kernelsLog'), REGION_SECTORS] },
        legs: [machine.device('kernelsLeg0'), machine.device('kernelsLeg1')],
      }),
    );
    for (const name of ['ours', 'kernels']) {
      await machine.waitInSync(name);
      await machine.dmRemove(name);
    }
    const left = regionsThatDiffer(ours.leg0, ours.leg1, REGION_BYTES, REGION_COUNT);
    expect(left).toEqual(Array.from({ length: believed }, (_, region) => region));
    expect(left).toEqual(
      regionsThatDiffer(kernels.kernelsLeg0, kernels.kernelsLeg1, REGION_BYTES, REGION_COUNT),
    );
    if (believed === 0) expect(legsEqual(ours.leg0, ours.leg1)).toBe(true);
    const written = decodeDiskLog(ours.log.read(), REGION_COUNT);
    expect(written).toEqual({
      magic: DISK_LOG_MAGIC,
      version: 2,
      regionCount: REGION_COUNT,
      dirtyRegions: [],
    });
    expect(written).toEqual(decodeDiskLog(kernels.kernelsLog.read(), REGION_COUNT));
  });

  it('of an unknown version is refused and left as it is', async () => {
    const foreign = image({ version: 3 });
    ours.log.write(0, foreign);
    const on = userspace('disk', machine.device('log'), REGION_SECTORS);
    await expectRefused(on, /format version 3, this daemon knows version 2: it is left as it is/);
    expect(ours.log.read(0, foreign.length).equals(foreign)).toBe(true);
  });

  it('none of all this has touched the mirror in use, or ended singled', async () => {
    await expectBystanderUntouched();
    expect(singled.process.running).toBe(true);
    // One line for each refusal, and nothing else went wrong.
    expect(severe().length).toBe(refusalsBySingled);
    await machine.dmRemove('bystander');
    await machine.run('cmp /dev/ram0 /dev/ram1');
  });
});
