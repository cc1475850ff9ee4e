/**
 * The main job, shown: a real kernel whose mirror keeps its dirty log with singled, a power cut in the middle of writes, and what it costs afterwards.
 * Run by `npm start`. Ends with status 0 only when the legs are equal and no clean region was touched.
 */
import cliProgress from 'cli-progress';
import { disk, type Lab, legsEqual, type Machine, mirrorTable, openLab, regionsThatDiffer } from './index.js';
import { dirtyRegions, readImageState, regionMap } from './region-map.js';
import { type Daemon, startSingled } from './singled.js';

const LEG_MIB = 32;
const REGION_SECTORS = 512; // 256 KiB
const SECTORS = LEG_MIB * 2048;
const REGIONS = SECTORS / REGION_SECTORS;
/** The second leg answers this much later than the first: a power cut then catches writes that only one leg has. */
const SLOW_LEG_MS = 50;
/** The writers get at least this long, and up to twice as long, before the power is cut. */
const WRITE_MS = 2500;
const STATUS_MS = 150;

const startedAt = performance.now();
const say = (text = '') => console.log(text);
const seconds = () => ((performance.now() - startedAt) / 1000).toFixed(0).padStart(3);
const chapter = (text: string) => say(`\n[${seconds()} s] ${text}`);
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const disks = { fast: disk(`${LEG_MIB}M`), slow: disk(`${LEG_MIB}M`), log: disk('1M') };

async function boot(lab: Lab): Promise<{ machine: Machine; singled: Daemon }> {
  const machine = await lab.boot({ disks, modules: ['dm-delay'] });
  const singled = await startSingled(machine);
  const slow = machine.device('slow');
  await machine.dmCreate('slowleg', `0 ${SECTORS} delay ${slow} 0 0 ${slow} 0 ${SLOW_LEG_MS}`);
  return { machine, singled };
}

function table(machine: Machine): string {
  return mirrorTable({
    lengthSectors: SECTORS,
    log: {
      kind: 'userspace',
      uuid: 'demo-mirror',
      type: 'disk',
      args: [machine.device('log'), REGION_SECTORS],
    },
    legs: [machine.device('fast'), '/dev/mapper/slowleg'],
  });
}

/** Creates the mirror, watches it until it is in sync, and returns how many regions were in sync to begin with. */
async function resync(machine: Machine, singled: Daemon): Promise<number> {
  const mirror = table(machine);
  say(`  dmsetup create mirror --table "${mirror}"`);
  await machine.dmCreate('mirror', mirror);
  const bar = new cliProgress.SingleBar(
    {
      format: '  resync {bar} {value}/{total} regions',
      hideCursor: true,
      noTTYOutput: true,
      notTTYSchedule: 2000,
      stream: process.stdout,
    },
    cliProgress.Presets.shades_classic,
  );
  let status = await machine.dmStatus('mirror');
  bar.start(status.regionCount, status.inSyncCount);
  while (status.inSyncCount < status.regionCount) {
    await sleep(STATUS_MS);
    status = await machine.dmStatus('mirror');
    bar.update(status.inSyncCount);
  }
  bar.stop();
  // By the daemon's own word: the first regions are in sync again before anybody can ask.
  const resumed = singled.lines().find(({ msg }) => msg === 'log resumed from its image');
  return Number(resumed?.['inSync']);
}

async function main(): Promise<number> {
  chapter('getting the real kernel ready (Debian user-mode-linux; downloaded once)');
  const lab = await openLab();
  try {
    return await story(lab);
  } finally {
    await lab.close();
  }
}

async function story(lab: Lab): Promise<number> {
  disks.fast.randomize(1);
  disks.slow.randomize(2);
  chapter(
    `Linux ${lab.kernelVersion} boots as a process, singled inside; the legs hold different random data`,
  );
  const { machine: first, singled: firstSingled } = await boot(lab);
  await resync(first, firstSingled);
  // Lazy clear keeps what was recovered dirty for a while.
  for (let i = 0; i < 60 && dirtyRegions(readImageState(disks.log)).length > 0; i++) await sleep(STATUS_MS);
  say(
    `\n  region map on the log device (█ clean, ░ dirty), ${REGIONS} regions of ${REGION_SECTORS / 2} KiB:`,
  );
  say(regionMap(readImageState(disks.log).clean));

  chapter('four writers write all over the mirror; then the power is cut');
  const writers = [1, 2, 3, 4].map((seed) =>
    first.start(`sh -c '${writerScript(seed)}'`).then((writer) => writer.exited.catch(() => undefined)),
  );
  const wait = WRITE_MS * (1 + Math.random());
  await sleep(wait);
  await first.powerCut();
  await Promise.allSettled(writers);
  const image = readImageState(disks.log);
  const dirty = new Set(dirtyRegions(image));
  const differing = regionsThatDiffer(disks.fast, disks.slow, REGION_SECTORS * 512, REGIONS);
  const missed = differing.filter((region) => !dirty.has(region));
  say(
    `  killed after ${(wait / 1000).toFixed(1)} s. × regions whose legs differ, ░ dirty on the log, █ clean:`,
  );
  say(regionMap(image.clean, new Set(differing)));
  say(
    `  ${differing.length} regions differ between the legs, ${dirty.size} are dirty on the log, ${missed.length} were missed`,
  );

  chapter('the machine boots again');
  const { machine: second, singled: secondSingled } = await boot(lab);
  const inSyncAtStart = await resync(second, secondSingled);
  await second.dmRemove('mirror');
  await second.dmRemove('slowleg');
  await second.halt();
  const equal = legsEqual(disks.fast, disks.slow);
  const resynced = REGIONS - inSyncAtStart;

  chapter('summary');
  say(`  regions of the mirror             ${REGIONS}`);
  say(`  legs differed after the power cut ${differing.length}`);
  say(`  dirty on the log                  ${dirty.size}`);
  say(`  resynced after the boot           ${resynced}`);
  say(`  differing but clean (must be 0)   ${missed.length}`);
  say(`  legs equal now                    ${equal ? 'yes, byte for byte' : 'NO'}`);
  const good = equal && missed.length === 0 && resynced === dirty.size;
  say(
    good ? '\nOnly what was dirty was resynced, and nothing was lost.' : '\nThis is wrong: please report it.',
  );
  return good ? 0 : 1;
}

/** Random 4 KiB direct writes, without end. `$RANDOM` is not in sh: awk draws the numbers. */
function writerScript(seed: number): string {
  const blocks = (LEG_MIB << 20) / 4096;
  const offsets = `awk "BEGIN { srand(${seed}); for (;;) print int(rand() * ${blocks}) }"`;
  return `${offsets} | while read at; do dd if=/dev/urandom of=/dev/mapper/mirror bs=4k count=1 seek=$at oflag=direct conv=notrunc status=none; done`;
}

process.exitCode = await main();
