import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { BenchError } from './errors.js';

/** Times of one kind of request in nanoseconds; percentiles by nearest rank. */
export interface Summary {
  readonly count: number;
  readonly mean: number;
  readonly min: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** What the driver prints for one command. */
export interface RunReport {
  readonly what: string;
  readonly wallNs: number;
  readonly requests: number;
  readonly requestsPerSecond: number;
  readonly cycles: number;
  /** Requests without a reply for 2 s (CTR and RESUME 15 s); each was sent again. */
  readonly lost: number;
  /** Replies that nobody waited for. */
  readonly stale: number;
  /** Datagrams that were no log's. */
  readonly foreign: number;
  /** How often a resync ended and its table was loaded anew. */
  readonly reopened: number;
  /** By row, see `native/scripts.h`. */
  readonly types: Readonly<Record<string, Summary>>;
  readonly cycle?: Summary;
}

/** One log that the driver plays the kernel of. */
export interface LogSpec {
  /** The driver's slot, 0 to 63. */
  readonly log: number;
  readonly regions: number;
  /** Log type and arguments, as in a table line: `core 2 nosync`. */
  readonly args: string;
}

/** One measured run; see `native/driver.c`. Ends after `ms`, or after `cycles`. */
export interface RunSpec {
  readonly script: 'write' | 'resync' | 'types' | 'in_sync' | 'lifecycle';
  readonly pattern?: 'random' | 'seq' | 'hot';
  /** Requests in flight. Lane k plays on log `log + k % logs`. */
  readonly lanes?: number;
  readonly log: number;
  readonly logs?: number;
  readonly ms?: number;
  readonly cycles?: number;
  /** How the driver waits for a reply. The kernel sleeps. */
  readonly wait?: 'sleep' | 'spin';
  /** Also check answers that only a real log can give. */
  readonly strict?: boolean;
}

/** All logs have this region size, in sectors: the least, so that the largest count fits a 64-bit device length. */
export const REGION_SIZE_SECTORS = 2;

/** What the driver may be handed through its standard input before it answers: one command. */
export class Driver {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterableIterator<string>;
  readonly #uuid: string;
  #errors = '';

  /** Starts the driver in the network namespace of `subjectPid`, on the processors `cpus` (as taskset takes them). */
  constructor(program: string, subjectPid: number, cpus: string, uuidPrefix: string) {
    this.#uuid = uuidPrefix;
    this.#child = spawn('taskset', ['-c', cpus, program, '--netns-of', String(subjectPid)], {
      stdio: 'pipe',
    });
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.#errors += text;
    });
    this.#child.stdin!.on('error', () => {}); // the driver's end is seen where its answer is read
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }

  /** CTR, GET_REGION_SIZE, RESUME. */
  open(spec: LogSpec): Promise<RunReport> {
    return this.#command(`open ${this.#describe(spec)}`);
  }

  /** Makes a log known without opening it: for the script `lifecycle`. */
  async prepare(spec: LogSpec): Promise<void> {
    await this.#command(`prepare ${this.#describe(spec)}`);
  }

  run(spec: RunSpec): Promise<RunReport> {
    const words = Object.entries(spec).map(
      ([key, value]) => `${key}=${value === true ? 1 : value === false ? 0 : value}`,
    );
    return this.#command(`run ${words.join(' ')}`);
  }

  /** PRESUSPEND, POSTSUSPEND, DTR. */
  close(log: number): Promise<RunReport> {
    return this.#command(`close log=${log}`);
  }

  /** Ends the driver. Open logs stay open in the subject. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.stdin!.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 1000);
    await ended;
    clearTimeout(timer);
  }

  #describe(spec: LogSpec): string {
    const uuid = `${this.#uuid}${spec.log}`;
    return `log=${spec.log} uuid=${uuid} regions=${spec.regions} size=${REGION_SIZE_SECTORS} args=${spec.args}`;
  }

  async #command(line: string): Promise<RunReport> {
    this.#child.stdin!.write(`${line}\n`);
    const answer = await this.#lines.next();
    if (answer.done === true) {
      throw new BenchError('ERR_BENCH_WRONG_REPLY', `the driver ended at "${line}": ${this.#errors.trim()}`);
    }
    const report = JSON.parse(answer.value) as RunReport & { fail?: string };
    if (report.fail !== undefined) {
      throw new BenchError('ERR_BENCH_WRONG_REPLY', `${report.fail} (at "${line}")`);
    }
    return report;
  }
}
