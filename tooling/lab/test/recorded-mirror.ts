import { expect } from 'vitest';
import { GUEST_DIRECTORY } from '../src/constants.js';
import { disk, type Lab, type Machine, type MirrorLog, mirrorTable } from '../src/index.js';
import { entriesBeforeMark, type LogWritesEntry, parseLogWrites, replay } from '../src/log-writes.js';
import { parseTrace, type TracedDisk, type TraceEvent } from '../src/order-trace.js';
import { type SingledOptions, startSingled } from '../src/singled.js';
import { checkWriteOrder, type WriteOrderReport } from '../src/write-order.js';
import { decodeDiskLog } from './support.js';

export const REGION_SECTORS = 32;
export const REGION_COUNT = 64;
const SECTOR_BYTES = 512;
const LENGTH_SECTORS = REGION_SECTORS * REGION_COUNT;
const DISK_BYTES = LENGTH_SECTORS * SECTOR_BYTES;
/** In the order of recorder.pl. */
const TRACED: readonly TracedDisk[] = ['leg0', 'leg1', 'log'];
/** The recording disks are used again by the next run; nbd devices are not. */
const RUNS_MAX = 16;

/** Three batches: hot and cold regions by one writer with pauses in which regions are cleared, by several at once, and with O_SYNC. */
const BATCHES = [
  '--number_ios=70 --thinktime=20000 --thinktime_blocks=3',
  '--number_ios=40 --numjobs=3',
  '--number_ios=25 --sync=1',
].map(
  (words, index) =>
    'fio --name=writes --filename=/dev/mapper/m --thread --ioengine=psync --direct=1 --rw=randwrite --bs=4k --norandommap ' +
    `--refill_buffers --random_distribution=zipf:1.2 --randseed=${index + 1} ${words} --output=/dev/null`,
);

export interface RecordedRun {
  readonly events: readonly TraceEvent[];
  readonly report: WriteOrderReport;
  readonly recordings: Readonly<Record<TracedDisk, readonly LogWritesEntry[]>>;
  readonly marks: readonly string[];
  /** The mirror's, as the kernel tells it. */
  readonly table: string;
}

/** A machine in which mirrors run on recorded disks, one after the other. */
export class RecordedMachine {
  readonly machine: Machine;
  readonly #recordings;
  #runs = 0;

  private constructor(machine: Machine, recordings: Record<TracedDisk, ReturnType<typeof disk>>) {
    this.machine = machine;
    this.#recordings = recordings;
  }

  static async boot(lab: Lab): Promise<RecordedMachine> {
    const recordings = { leg0: disk('32M'), leg1: disk('32M'), log: disk('32M') };
    const modules = [`nbd nbds_max=${RUNS_MAX * TRACED.length} max_part=0`, 'dm-log-writes'];
    return new RecordedMachine(await lab.boot({ disks: recordings, modules }), recordings);
  }

  /**
   * From a blank log and legs that differ everywhere: resync, the batches, removal. All three disks lie under dm-log-writes, and that lies on the disks
   * of recorder.pl. After the resync and each batch, while nobody writes, all recordings get a mark: the log's first, since what
   * happens between the marks can then only have made the legs more equal.
   */
  async run(logOn: (device: string) => MirrorLog, daemon?: SingledOptions): Promise<RecordedRun> {
    const { machine } = this;
    const first = this.#runs++ * TRACED.length;
    const trace = `/run/trace${first}`;
    const recorder = await machine.start(
      `perl ${GUEST_DIRECTORY}/recorder.pl ${first} ${trace} ${DISK_BYTES}`,
    );
    await recorder.waitFor('recording', 30_000);
    for (const [index, name] of TRACED.entries()) {
      const nbd = `nbd${first + index}`;
      // A child of the recorder starts the device; it has a size from then on.
      await machine.run(`until [ "$(cat /sys/block/${nbd}/size)" = ${LENGTH_SECTORS} ]; do sleep 0.1; done`);
      await machine.dmCreate(
        `lw-${name}`,
        `0 ${LENGTH_SECTORS} log-writes /dev/${nbd} ${machine.device(name)}`,
      );
    }
    const singled = daemon === undefined ? undefined : await startSingled(machine, daemon);
    await machine.dmCreate(
      'm',
      mirrorTable({
        lengthSectors: LENGTH_SECTORS,
        log: logOn('/dev/mapper/lw-log'),
        legs: ['/dev/mapper/lw-leg0', '/dev/mapper/lw-leg1'],
      }),
    );
    await machine.waitInSync('m');
    const marks = [await this.#mark('resynced')];
    for (const [index, batch] of BATCHES.entries()) {
      await machine.run(batch, { timeoutMs: 120_000 });
      marks.push(await this.#mark(`batch ${index}`));
    }
    const table = await machine.dmTable('m');
    await machine.dmRemove('m');
    await singled?.stop();
    for (const name of TRACED) await machine.dmRemove(`lw-${name}`);
    recorder.kill('SIGTERM');
    await recorder.exited;
    const events = parseTrace((await machine.run(`cat ${trace}`)).stdout);
    const shape = { regionSectors: REGION_SECTORS, regionCount: REGION_COUNT };
    const read = (name: TracedDisk) => parseLogWrites(this.#recordings[name].read());
    return {
      events,
      report: checkWriteOrder(events, shape),
      recordings: { leg0: read('leg0'), leg1: read('leg1'), log: read('log') },
      marks,
      table,
    };
  }

  async #mark(text: string): Promise<string> {
    for (const name of [...TRACED].reverse())
      await this.machine.run(`dmsetup message lw-${name} 0 mark ${text.replaceAll(' ', '-')}`);
    return text.replaceAll(' ', '-');
  }
}

/**
 * dm-log-writes alone, replayed to a mark: the power goes there and all three caches lose everything. Regions that are clean on that log although those legs
 * differ.
 */
export function cleanButDifferent({ recordings }: RecordedRun, mark: string): number[] {
  const image = (name: TracedDisk) => {
    const entries = recordings[name];
    return Buffer.from(replay(entries, entriesBeforeMark(entries, mark), initialImage(name)));
  };
  const [leg0, leg1, log] = [image('leg0'), image('leg1'), image('log')];
  const dirty = new Set(decodeDiskLog(log, REGION_COUNT).dirtyRegions);
  const bytes = REGION_SECTORS * SECTOR_BYTES;
  return Array.from({ length: REGION_COUNT }, (_, region) => region).filter(
    (region) =>
      !dirty.has(region) &&
      !leg0
        .subarray(region * bytes, (region + 1) * bytes)
        .equals(leg1.subarray(region * bytes, (region + 1) * bytes)),
  );
}

/** What recorder.pl's disks begin with: legs that differ in every sector, a blank log. */
function initialImage(name: TracedDisk): Buffer {
  const image = Buffer.alloc(DISK_BYTES);
  if (name === 'log') return image;
  for (let sector = 0; sector < LENGTH_SECTORS; sector++) {
    image.write(name, sector * SECTOR_BYTES, 'latin1');
    image.writeUInt32BE(sector, sector * SECTOR_BYTES + 4);
  }
  return image;
}

/** Guards against a proof of nothing: the run has marked, written, flushed and cleared as much as the scenario is about. */
export function expectExercised({ report }: RecordedRun): void {
  expect(report.coldWrites).toBeGreaterThan(20);
  expect(report.clears).toBeGreaterThan(REGION_COUNT + 20);
  expect(report.writes.leg0).toBeGreaterThan(150);
  expect(report.writes.leg1).toBeGreaterThan(150 + REGION_COUNT);
}
