import type { Machine } from '../src/index.js';

/** What fio does to one device. */
export interface FioJob {
  /** Device node in the guest. */
  readonly device: string;
  /** fio's own spelling, `randwrite` and so on. */
  readonly pattern: 'write' | 'randwrite' | 'randread' | 'randrw';
  /** Where the job begins and how far it reaches, in bytes. */
  readonly offset?: number;
  readonly size: number;
  /** Runs for so many seconds, or until `ioBytes` were moved. */
  readonly seconds?: number;
  readonly ioBytes?: number;
  /** Requests under way at once. Default 1. */
  readonly depth?: number;
  /** Every block carries a checksum that is read back at the end, and one that differs fails the job. */
  readonly verify?: boolean;
  readonly seed?: number;
}

/** What came out of a job. */
export interface FioResult {
  readonly error: number;
  readonly writes: number;
  readonly writesPerSecond: number;
}

/** Direct I/O in blocks of 4 KiB, as one command line. */
export function fioCommand(job: FioJob): string {
  const words = [
    `fio --name=job --filename=${job.device} --rw=${job.pattern} --offset=${job.offset ?? 0} --size=${job.size}`,
    '--direct=1 --bs=4k --thread --output-format=json',
    `--ioengine=${(job.depth ?? 1) > 1 ? `libaio --iodepth=${job.depth}` : 'psync'}`,
    `--randseed=${job.seed ?? 1}`,
  ];
  if (job.seconds !== undefined) words.push(`--time_based --norandommap --runtime=${job.seconds}`);
  if (job.ioBytes !== undefined) words.push(`--io_size=${job.ioBytes}`);
  if (job.verify === true) words.push('--verify=crc32c --do_verify=1 --verify_fatal=1');
  return words.join(' ');
}

/** Reads what fio printed; it may say a line before its JSON. */
export function fioResult(output: string): FioResult {
  const parsed = JSON.parse(output.slice(output.indexOf('{'), output.lastIndexOf('}') + 1)) as {
    jobs: { error: number; write: { total_ios: number; runtime: number } }[];
  };
  const [job] = parsed.jobs;
  if (job === undefined) throw new Error(`fio reports no job: ${output}`);
  const { total_ios: writes, runtime } = job.write;
  return { error: job.error, writes, writesPerSecond: runtime === 0 ? 0 : (writes * 1000) / runtime };
}

/** Runs a job to its end. */
export async function fio(machine: Machine, job: FioJob): Promise<FioResult> {
  return fioResult((await machine.run(fioCommand(job), { timeoutMs: 120_000 })).stdout);
}
