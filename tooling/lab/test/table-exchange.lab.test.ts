import { describe, expect, it } from 'vitest';
import { type Disk, disk, legsEqual, type Machine, mirrorTable } from '../src/index.js';
import { type Daemon, type DaemonStatus, startSingled } from '../src/singled.js';
import { between, seededRandom } from './seeded.js';
import { useLab } from './support.js';

/** Tables of one uuid come and go under I/O: two logs have one name for a while, and the right one must live on. */
const lab = useLab();

const REGION_SECTORS = 1024; // 512 KiB
const SMALL = 32_768; // 16 MiB in 32 regions: what is written to, always
const LARGE = 49_152; // 24 MiB in 48 regions
const ROUNDS = 50;
const SEED = 20_240_117;
/** Writes under way at once. */
const DEPTH = 4;

type LogStatus = DaemonStatus['logs'][number];

/** One mirror on a log of ours, and what it should be. */
interface Mirror {
  readonly name: string;
  readonly type: 'core' | 'disk';
  readonly legs: readonly [Disk, Disk];
  sectors: number;
}

const ACTIONS = ['exchange', 'clear', 'resize', 'suspend', 'replace', 'refused'] as const;
type Action = (typeof ACTIONS)[number];

function tableOf(
  machine: Machine,
  mirror: Mirror,
  sectors: number,
  sync: string[],
  regionSectors = REGION_SECTORS,
): string {
  const device = mirror.type === 'disk' ? [machine.device('log')] : [];
  return mirrorTable({
    lengthSectors: sectors,
    log: {
      kind: 'userspace',
      uuid: `LVM-${mirror.name}`,
      type: mirror.type,
      args: [...device, regionSectors, ...sync],
    },
    legs: mirror.legs.map((leg) => machine.device(leg)),
    features: ['handle_errors'],
  });
}

/** A reload makes a new core log, which knows nothing: the operator says that the legs are in sync. A disk log knows by its image. */
function nextTable(machine: Machine, mirror: Mirror, sectors: number, regionSectors?: number): string {
  return tableOf(machine, mirror, sectors, mirror.type === 'core' ? ['nosync'] : [], regionSectors);
}

const otherSize = (sectors: number) => (sectors === SMALL ? LARGE : SMALL);

/** The commands of a round; `status` prints the daemon's state at that point. */
function scriptOf(machine: Machine, mirror: Mirror, action: Action): string {
  const { name, sectors } = mirror;
  const reload = (table: string) => `echo '${table}' | dmsetup reload ${name}`;
  const same = nextTable(machine, mirror, sectors);
  const swap = `dmsetup suspend ${name}; dmsetup resume ${name}`;
  switch (action) {
    case 'exchange':
      return `${reload(same)}; status; ${swap}; status`;
    case 'clear':
      return `${reload(nextTable(machine, mirror, otherSize(sectors)))}; status; dmsetup clear ${name}; status`;
    case 'resize':
      return `${reload(nextTable(machine, mirror, otherSize(sectors)))}; status; ${swap}; status`;
    case 'suspend':
      return `status; ${swap}; status`;
    case 'replace':
      return `${reload(nextTable(machine, mirror, otherSize(sectors)))}; ${reload(same)}; status; ${swap}; status`;
    case 'refused':
      return `if ${reload(nextTable(machine, mirror, sectors, 1000))} 2>/dev/null; then exit 9; fi; status; dmsetup clear ${name}; status`;
  }
}

/** `singled status --json` without starting node a hundred times. */
const STATUS = `set -e
status() { perl -MIO::Socket::UNIX -e '
  $s = IO::Socket::UNIX->new("/run/dmlog/singled.sock") or die "no daemon: $!";
  print $s "{\\"id\\":1,\\"method\\":\\"status\\"}\\n"; $s->flush; print scalar <$s>'; }
`;

async function play(machine: Machine, mirror: Mirror, action: Action): Promise<LogStatus[][]> {
  const { stdout } = await machine.run(STATUS + scriptOf(machine, mirror, action), { timeoutMs: 120_000 });
  return stdout
    .trim()
    .split('\n')
    .map((line) =>
      (JSON.parse(line) as { result: DaemonStatus }).result.logs.filter(
        ({ uuid }) => uuid === `LVM-${mirror.name}`,
      ),
    );
}

/** All actions in drawn order, again and again: each mirror gets each of them. */
function deck(seed: number): () => Action {
  const random = seededRandom(seed);
  let left: Action[] = [];
  return () => {
    if (left.length === 0) left = [...ACTIONS];
    return left.splice(between(random, 0, left.length), 1)[0] as Action;
  };
}

const fio = (name: string, words: string) =>
  `fio --name=${name} --filename=/dev/mapper/${name} --thread --direct=1 --bs=4k --size=16m --ioengine=libaio --iodepth=${DEPTH} ` +
  `--verify=crc32c --verify_fatal=1 --output-format=json ${words}`;

function fioResult(output: string) {
  // A load that is ended says so before its JSON.
  const json = output.slice(output.indexOf('{\n'), output.lastIndexOf('}') + 1);
  return (
    JSON.parse(json) as {
      jobs: [{ error: number; read: { total_ios: number }; write: { total_ios: number } }];
    }
  ).jobs[0];
}

/** One round on one mirror: which logs there were before, during and after, by luid. */
async function round(machine: Machine, mirror: Mirror, action: Action, liveLuid: string): Promise<string> {
  const [during, after] = (await play(machine, mirror, action)) as [LogStatus[], LogStatus[]];
  const where = `${action} of ${mirror.name}`;
  const isLoaded = action !== 'suspend' && action !== 'refused';
  const old = during.find(({ luid }) => luid === liveLuid);
  expect(old, where).toMatchObject({ state: 'live', regionCount: mirror.sectors / REGION_SECTORS });
  const loaded = during.filter(({ luid }) => luid !== liveLuid);
  expect(loaded.length, where).toBe(isLoaded ? 1 : 0);
  if (isLoaded) expect(loaded[0]?.state, where).toBe('constructed');
  const isSwapped = action === 'exchange' || action === 'resize' || action === 'replace';
  if (action === 'resize') mirror.sectors = otherSize(mirror.sectors);
  expect(after, where).toHaveLength(1);
  const regionCount = mirror.sectors / REGION_SECTORS;
  expect(after[0], where).toMatchObject({
    state: 'live',
    luid: isSwapped ? loaded[0]?.luid : liveLuid,
    regionCount,
  });
  return (after[0] as LogStatus).luid;
}

/** What each disk log that was resumed from its image found there. */
function resumedFromImage(singled: Daemon): { inSync: number; regions: number }[] {
  return singled.lines().filter(({ msg }) => msg === 'log resumed from its image') as unknown as {
    inSync: number;
    regions: number;
  }[];
}

describe('tables of one uuid', () => {
  it(`are exchanged, cleared, grown, shrunk and refused ${ROUNDS} times under I/O`, async () => {
    const disks = { d0: disk('24M'), d1: disk('24M'), log: disk('1M'), c0: disk('24M'), c1: disk('24M') };
    for (const [seed, leg] of [disks.d0, disks.d1, disks.c0].entries()) leg.randomize(seed + 1);
    // "nosync" is said of what the core mirror grows by: it must be true.
    disks.c1.write(SMALL * 512, disks.c0.read(SMALL * 512));
    const machine = await lab().boot({ disks });
    const singled = await startSingled(machine);
    const mirrors: Mirror[] = [
      { name: 'd', type: 'disk', legs: [disks.d0, disks.d1], sectors: SMALL },
      { name: 'c', type: 'core', legs: [disks.c0, disks.c1], sectors: SMALL },
    ];
    const luids = new Map<string, string>();
    const loads = [];
    for (const mirror of mirrors) {
      await machine.dmCreate(mirror.name, tableOf(machine, mirror, SMALL, []));
      await machine.waitInSync(mirror.name);
      luids.set(mirror.name, (await play(machine, mirror, 'suspend'))[1]?.[0]?.luid ?? '');
      const words = '--rw=randwrite --verify_backlog=64 --rate_iops=30,30 --time_based --runtime=600';
      loads.push(await machine.start(fio(mirror.name, words)));
    }

    const draws = new Map(mirrors.map((mirror, index) => [mirror, deck(SEED + index)]));
    for (let i = 0; i < ROUNDS; i++) {
      const mirror = mirrors[i % mirrors.length] as Mirror;
      const action = draws.get(mirror)?.() as Action;
      const resumes = resumedFromImage(singled).length;
      const before = mirror.sectors;
      luids.set(mirror.name, await round(machine, mirror, action, luids.get(mirror.name) as string));
      // No region is copied again for an exchange, whatever was written to it just before. (The CLEARs of the very last writes may come when
      // POSTSUSPEND is answered already: those regions are dirty to the next table.)
      for (const { inSync } of resumedFromImage(singled).slice(resumes)) {
        expect(inSync, `round ${i}, ${action}`).toBeGreaterThanOrEqual(
          Math.min(before, mirror.sectors) / REGION_SECTORS - DEPTH,
        );
      }
      if (mirror.sectors > before) await machine.waitInSync(mirror.name);
    }

    for (const load of loads) {
      expect(load.running).toBe(true);
      load.kill('SIGINT');
      await load.exited;
      const { error, read } = fioResult(load.output());
      expect(error).toBe(0);
      expect(read.total_ios).toBeGreaterThan(100);
    }
    for (const { name } of mirrors) {
      await machine.waitInSync(name);
      expect(
        fioResult((await machine.run(fio(name, '--rw=randwrite --io_size=2m --do_verify=1'))).stdout).error,
      ).toBe(0);
      await machine.dmRemove(name);
    }
    expect((await singled.status()).logs).toEqual([]);
    expect(await machine.dmesg()).not.toMatch(/I\/O error|Insufficient space/);
    await singled.stop();
    await machine.halt();
    expect(legsEqual(disks.c0, disks.c1)).toBe(true);
    const bytes = (mirrors[0] as Mirror).sectors * 512;
    expect(disks.d0.read(0, bytes).equals(disks.d1.read(0, bytes))).toBe(true);
  });
});
