import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type Disk, disk, legsEqual, type Machine, mirrorTable, regionsThatDiffer } from '../src/index.js';
import { type Daemon, startSingled } from '../src/singled.js';
import { fioCommand, fioResult } from './fio.js';
import { between, seededRandom } from './seeded.js';
import { decodeDiskLog, useLab } from './support.js';

/** singled dies at any instant and is started again: the logs are found exactly as they were, and nothing is resynced. */
const lab = useLab();

/** 50 in a full run, of about eight minutes. */
const KILLS = Number(process.env['DMLOG_RESTART_KILLS'] ?? 4);
const SEED = Number(process.env['DMLOG_RESTART_SEED'] ?? Date.now() % 2 ** 32) >>> 0;
/** How long after the start of a daemon all mirrors are written to again, on an idle machine: 3000. */
const RESUME_MS_MAX = Number(process.env['DMLOG_RESTART_RESUME_MS_MAX'] ?? Number.POSITIVE_INFINITY);
const SINGLED = fileURLToPath(new URL('../../../apps/singled/dist/cli.cjs', import.meta.url));

const REGION_SECTORS = 128;
const REGION_BYTES = REGION_SECTORS * 512;
const LEG = '4M';
const REGIONS = (4 << 20) / REGION_BYTES;
const KINDS = ['disk', 'core'] as const;
type Kind = (typeof KINDS)[number];

/** What the resync that is to be killed takes for each region, at least: the first kill must find it in the middle, on a busy machine too. */
const SLOW_LEG_MS = 100;

/** Kills while a resync runs. */
const RESYNC_KILLS = Math.ceil(KILLS / 3);

/** A kill comes so long after every load has written again; some come while the next daemon is still starting. */
const KILL_AFTER_MS_MAX = 700;
const EARLY_KILL_AFTER_MS_MAX = 1500;
const EARLY_KILL_CHANCE = 0.3;

interface Disks extends Record<string, Disk> {
  readonly disk0: Disk;
  readonly disk1: Disk;
  readonly core0: Disk;
  readonly core1: Disk;
  readonly log: Disk;
}

function freshDisks(): Disks {
  const disks = { disk0: disk(LEG), disk1: disk(LEG), core0: disk(LEG), core1: disk(LEG), log: disk('1M') };
  for (const [seed, leg] of [disks.disk0, disks.disk1, disks.core0, disks.core1].entries()) {
    leg.randomize(seed + 1);
  }
  return disks;
}

function tableOf(machine: Machine, kind: Kind, secondLeg = machine.device(`${kind}1`)): string {
  return mirrorTable({
    lengthSectors: REGIONS * REGION_SECTORS,
    log: {
      kind: 'userspace',
      uuid: `LVM-${kind}`,
      type: kind,
      args: kind === 'disk' ? [machine.device('log'), REGION_SECTORS] : [REGION_SECTORS],
    },
    legs: [machine.device(`${kind}0`), secondLeg],
    features: ['handle_errors'],
  });
}

/** Sectors written to a leg since boot: what is recovered is written to the second leg only, all else to both. */
async function sectorsWritten(machine: Machine, leg: string): Promise<number> {
  const name = machine.device(leg).replace('/dev/', '');
  const { stdout } = await machine.run(`cat /sys/block/${name}/stat`);
  return Number(stdout.trim().split(/\s+/)[6]);
}

/** Sectors that were written to the second leg and not to the first. */
async function recoveredSectors(machine: Machine, kind: Kind): Promise<number> {
  return (await sectorsWritten(machine, `${kind}1`)) - (await sectorsWritten(machine, `${kind}0`));
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Starts a daemon that is killed before, or just after, it serves. */
async function startInVain(machine: Machine, afterMs: number): Promise<void> {
  const process = await machine.start(`node ${SINGLED}`);
  await sleep(afterMs);
  process.kill('SIGKILL');
  await process.exited;
}

/** In sync and state of each log, as the daemon sees them. */
async function seen(singled: Daemon): Promise<object> {
  const { logs } = await singled.status();
  return Object.fromEntries(logs.map((log) => [log.uuid, { state: log.state, inSync: log.inSyncCount }]));
}

const FULL = Object.fromEntries(KINDS.map((kind) => [`LVM-${kind}`, { state: 'live', inSync: REGIONS }]));

/** Logs that this daemon made instead of finding them. */
const madeAnew = (singled: Daemon) => singled.lines().filter(({ msg }) => msg === 'log created');

/** Checksummed writes of 4 KiB to the second half of a mirror, each pass read back, until `/run/tmp/enough` is there. */
const fioLoad = (kind: Kind) => {
  const half = (REGIONS / 2) * REGION_BYTES;
  const job = { device: `/dev/mapper/${kind}`, pattern: 'randwrite', offset: half, size: half } as const;
  const command = fioCommand({ ...job, ioBytes: 256 << 10, depth: 4, verify: true });
  return `
set -e
while [ ! -e /run/tmp/enough ]; do
  ${command} > /run/tmp/${kind}.fio || { cat /run/tmp/${kind}.fio; exit 1; }
  echo passed; sleep 0.5
done
cat /run/tmp/${kind}.fio`;
};

const place = (kind: Kind) => `/run/tmp/${kind}.$i`;
const sameAsWritten = (kind: Kind) =>
  `{ [ ! -e ${place(kind)} ] || dd if=/dev/mapper/${kind} bs=64k skip=$((i * 4)) count=1 iflag=direct status=none | cmp - ${place(kind)}; }`;

/** Writes to eight regions of the first half in turn, and reads each write back: each line is one acknowledged and verified write. */
const verifiedLoad = (kind: Kind) => `
set -e; n=0
while [ ! -e /run/tmp/enough ]; do
  i=$((n % 8)); n=$((n + 1))
  dd if=/dev/urandom of=${place(kind)} bs=64k count=1 status=none
  dd if=${place(kind)} of=/dev/mapper/${kind} bs=64k seek=$((i * 4)) oflag=direct conv=notrunc status=none
  ${sameAsWritten(kind)}
  echo verified; sleep 0.05
done`;

describe(`singled is killed ${KILLS} times (DMLOG_RESTART_SEED=${SEED})`, () => {
  it(
    'under verified writes: I/O goes on, every region stays in sync, none is recovered, nothing is lost',
    async () => {
      const random = seededRandom(SEED);
      const disks = freshDisks();
      const machine = await lab().boot({ disks, memoryMiB: 320 });
      let singled = await startSingled(machine);
      for (const kind of KINDS) await machine.dmCreate(kind, tableOf(machine, kind));
      for (const kind of KINDS) await machine.waitInSync(kind);
      const recoveredAtFirst = await Promise.all(KINDS.map((kind) => recoveredSectors(machine, kind)));
      expect(recoveredAtFirst).toEqual(KINDS.map(() => REGIONS * REGION_SECTORS));

      const start = (script: string) => machine.start(`sh -c '${script}'`);
      const loads = await Promise.all(KINDS.map((kind) => start(verifiedLoad(kind))));
      const fios = await Promise.all(KINDS.map((kind) => start(fioLoad(kind))));
      const writes = () => loads.map((load) => load.output().split('verified').length - 1);
      const wroteMore = async () => {
        const before = writes();
        const all = () => writes().every((now, index) => now > (before[index] as number));
        await expect.poll(all, { timeout: 60_000, interval: 20 }).toBe(true);
      };

      const waitedMs: number[] = [];
      for (let kill = 0; kill < KILLS; kill++) {
        await wroteMore();
        await sleep(between(random, 0, KILL_AFTER_MS_MAX));
        await singled.stop('SIGKILL');
        if (random() < EARLY_KILL_CHANCE) {
          await startInVain(machine, between(random, 0, EARLY_KILL_AFTER_MS_MAX));
        }
        const startedAt = performance.now();
        singled = await startSingled(machine);
        await wroteMore();
        waitedMs.push(Math.round(performance.now() - startedAt));
        for (const kind of KINDS) {
          const { inSyncCount, legHealth } = await machine.dmStatus(kind);
          expect({ inSyncCount, legHealth }, `kill ${kill}`).toEqual({
            inSyncCount: REGIONS,
            legHealth: 'AA',
          });
        }
        expect(madeAnew(singled), `kill ${kill}`).toEqual([]);
      }
      console.log(`all mirrors written to again ${waitedMs.join(', ')} ms after the start`);
      expect(Math.max(...waitedMs)).toBeLessThan(RESUME_MS_MAX);

      expect(await seen(singled)).toEqual(FULL);
      // An orderly end says who waits, and is as good as a kill.
      await singled.stop('SIGTERM');
      const told = singled.lines().find(({ msg }) => /^stopped: writes/.test(String(msg)));
      expect([told?.['waiting'] ?? []].flat().sort()).toEqual(Object.keys(FULL).sort());
      singled = await startSingled(machine);
      await wroteMore();
      expect(await seen(singled)).toEqual(FULL);

      await machine.run('touch /run/tmp/enough');
      for (const load of [...loads, ...fios]) expect(await load.exited, load.output()).toBe(0);
      for (const load of fios) expect(fioResult(load.output()).error).toBe(0);
      // Whatever differs is dirty on the medium.
      const differ = regionsThatDiffer(disks.disk0, disks.disk1, REGION_BYTES, REGIONS);
      const { dirtyRegions } = decodeDiskLog(disks.log.read(), REGIONS);
      expect(differ.filter((region) => !dirtyRegions.includes(region))).toEqual([]);
      // RESUME makes the kernel ask for everything anew: it would recover what the log does not hold for in sync.
      for (const kind of KINDS) {
        expect(await machine.dmStatus(kind)).toMatchObject({ inSyncCount: REGIONS, regionCount: REGIONS });
        await machine.dmSuspend(kind);
        await machine.dmResume(kind);
        expect(await machine.waitInSync(kind)).toMatchObject({ legHealth: 'AA', inSyncCount: REGIONS });
        await machine.run(`for i in 0 1 2 3 4 5 6 7; do ${sameAsWritten(kind)} || exit 1; done`);
      }
      expect(await Promise.all(KINDS.map((kind) => recoveredSectors(machine, kind)))).toEqual(
        recoveredAtFirst,
      );
      for (const kind of KINDS) await machine.dmRemove(kind);
      expect((await singled.status()).logs).toEqual([]);
      expect((await machine.run('ls /run/dmlog/state')).stdout.trim()).toBe('last-seq');
      expect(await machine.dmesg()).not.toMatch(/I\/O error|Insufficient space/);
      await singled.stop();
      await machine.halt();
      expect(legsEqual(disks.disk0, disks.disk1)).toBe(true);
      expect(legsEqual(disks.core0, disks.core1)).toBe(true);
    },
    60_000 + KILLS * 60_000,
  );

  it(
    'during a resync: what was in sync stays so, and the resync goes on from there',
    async () => {
      const random = seededRandom(SEED + 1);
      const disks = freshDisks();
      const machine = await lab().boot({ disks, modules: ['dm-delay'] });
      let singled = await startSingled(machine);
      for (const kind of KINDS) {
        const slow = `0 ${REGIONS * REGION_SECTORS} delay ${machine.device(`${kind}1`)} 0 ${SLOW_LEG_MS}`;
        await machine.dmCreate(`slow-${kind}`, slow);
        await machine.dmCreate(kind, tableOf(machine, kind, `/dev/mapper/slow-${kind}`));
      }
      const progress = () =>
        Promise.all(KINDS.map(async (kind) => (await machine.dmStatus(kind)).inSyncCount));

      const found: { before: number[]; after: number[] }[] = [];
      for (let kill = 0; kill < RESYNC_KILLS; kill++) {
        const goal = Math.floor((REGIONS * (kill + random())) / (RESYNC_KILLS + 1));
        let before: number[] = [];
        const reached = async () => {
          before = await progress();
          return Math.min(...before) >= goal;
        };
        await expect.poll(reached, { timeout: 60_000, interval: 10 }).toBe(true);
        await sleep(between(random, 0, 50));
        await singled.stop('SIGKILL');
        singled = await startSingled(machine);
        expect(madeAnew(singled), `kill ${kill}`).toEqual([]);
        found.push({ before, after: await progress() });
      }
      for (const { before, after } of found) {
        expect(after.every((count, index) => count >= (before[index] as number))).toBe(true);
      }
      // The first goal is far from the end: one kill at least came in the middle.
      expect(Math.min(...(found[0]?.before ?? []))).toBeLessThan(REGIONS);
      for (const kind of KINDS) await machine.waitInSync(kind);
      for (const kind of KINDS) {
        const recovered = (await recoveredSectors(machine, kind)) / REGION_SECTORS;
        expect(recovered).toBeGreaterThanOrEqual(REGIONS);
        expect(recovered).toBeLessThanOrEqual(REGIONS + RESYNC_KILLS);
        await machine.dmRemove(kind);
        await machine.dmRemove(`slow-${kind}`);
      }
      expect(await machine.dmesg()).not.toMatch(/I\/O error|Insufficient space/);
      await singled.stop();
      await machine.halt();
      expect(legsEqual(disks.disk0, disks.disk1)).toBe(true);
      expect(legsEqual(disks.core0, disks.core1)).toBe(true);
    },
    60_000 + RESYNC_KILLS * 60_000,
  );
});
