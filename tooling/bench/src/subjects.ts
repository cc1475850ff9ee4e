import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Driver, type RunReport, type RunSpec } from './driver.js';
import { BenchError } from './errors.js';
import type { NativePrograms } from './native.js';
import { clusterdEntry, singledEntry, transportEchoEntry } from './paths.js';

/** Who answers: the floor, C that never sleeps, the transport alone, the daemon, the daemon where it cannot keep state, the daemon of clusters. */
export type SubjectName = 'echo' | 'echo poll' | 'transport' | 'singled' | 'singled, no state' | 'clusterd';

/** In the runtime directory. */
const CONTROL_SOCKET = 'control.sock';

const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 5_000;
const LOOK_AGAIN_MS = 20;
/** What a failing subject said last; enough for a stack. */
const ERRORS_KEPT_CHARACTERS = 4000;

interface Recipe {
  readonly command: readonly string[];
  /** Ready when this file exists; without one, when it prints a line. */
  readonly readyFile?: string;
}

/** A running subject and the driver that plays its kernel, alone together in a network namespace. */
export class Subject {
  readonly name: SubjectName;
  readonly driver: Driver;
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #runtime: string;
  readonly #output: Output;

  constructor(name: SubjectName, driver: Driver, child: ChildProcess, runtime: string, output: Output) {
    this.name = name;
    this.driver = driver;
    this.pid = child.pid!;
    this.#child = child;
    this.#runtime = runtime;
    this.#output = output;
  }

  /** Of daemons. */
  get controlSocket(): string {
    return join(this.#runtime, CONTROL_SOCKET);
  }

  /** Plays one run. What fails says whose fault it was and whether it still lives. */
  async run(spec: RunSpec): Promise<RunReport> {
    try {
      return await this.driver.run(spec);
    } catch (cause) {
      if (!(cause instanceof BenchError)) throw cause;
      const { exitCode, signalCode } = this.#child;
      const state =
        exitCode === null && signalCode === null ? 'still runs' : `ended (${signalCode ?? exitCode})`;
      const said = this.#output.errors.trim();
      const message = `${this.name}, which ${state}: ${cause.message}${said === '' ? '' : `\nit said: ${said}`}`;
      throw new BenchError(cause.code, message, { cause });
    }
  }

  /** Ends driver and subject and removes the runtime folder. */
  async stop(): Promise<void> {
    await this.driver.end();
    await endProcess(this.#child);
    rmSync(this.#runtime, { recursive: true, force: true });
  }
}

/** Which of the subjects can be started from what is built. */
export function availableSubjects(): SubjectName[] {
  const names: SubjectName[] = ['echo', 'echo poll'];
  if (transportEchoEntry() !== undefined) names.push('transport');
  if (singledEntry() !== undefined) names.push('singled');
  return names;
}

export interface StartOptions {
  readonly programs: NativePrograms;
  /** Processors for subject and driver, as taskset takes them: `1` or `0,1`. */
  readonly cpus: string;
  /**
   * Once the subject is ready, pins it to one processor and the driver to another. Left to itself, the scheduler often keeps
   * a sleeping pair on one processor, and then two cores are measured as one.
   */
  readonly apart?: { readonly subject: number; readonly driver: number };
  /** A network namespace to join instead of making one: of clusterd's corosync. */
  readonly namespace?: string;
  /** Further arguments of singled. */
  readonly singledArgs?: readonly string[];
  /** A fault for the echo to make, see `native/echo.c`: for tests. */
  readonly fault?: string;
}

/**
 * Starts a subject in a network namespace of its own: nobody else's requests reach it and its frames reach nobody else, so
 * several can stand ready at once while only one is measured.
 * Throws {@link BenchError} `ERR_BENCH_SUBJECT` or `ERR_BENCH_NO_RIGHTS`.
 */
export async function startSubject(name: SubjectName, options: StartOptions): Promise<Subject> {
  // tmpfs, where there is one: runtime state must not count as log writes.
  const runtime = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'dmlog-bench-'));
  const prefix = `bench-${process.pid}-`;
  const { command, readyFile } = recipe(name, runtime, prefix, options);
  const { namespace } = options;
  const network = namespace === undefined ? ['unshare', '--net', '--'] : ['ip', 'netns', 'exec', namespace];
  const [program, ...args] = [...network, 'taskset', '-c', options.cpus, ...command];
  const child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  killWithParent(child);
  const output = collectOutput(child);
  try {
    await ready(name, child, output, readyFile);
    if (options.apart !== undefined) {
      execFileSync('taskset', ['-a', '-p', '-c', String(options.apart.subject), String(child.pid)], {
        stdio: 'ignore',
      });
    }
  } catch (cause) {
    await endProcess(child);
    rmSync(runtime, { recursive: true, force: true });
    throw cause;
  }
  const driverCpus = options.apart === undefined ? options.cpus : String(options.apart.driver);
  const driver = new Driver(options.programs.driver, child.pid!, driverCpus, prefix);
  return new Subject(name, driver, child, runtime, output);
}

function recipe(name: SubjectName, runtime: string, prefix: string, options: StartOptions): Recipe {
  switch (name) {
    case 'echo':
      return {
        command: [options.programs.echo, prefix, ...(options.fault === undefined ? [] : [options.fault])],
      };
    case 'echo poll':
      return { command: [options.programs.echo, prefix, 'poll'] };
    case 'transport':
      return { command: [process.execPath, transportEchoEntry() ?? missing(name), prefix] };
    case 'singled, no state':
    case 'clusterd':
    case 'singled': {
      // A file where the folder for state belongs: the very same program, which says so loudly and serves.
      if (name === 'singled, no state') writeFileSync(join(runtime, 'state'), '');
      const socket = join(runtime, CONTROL_SOCKET);
      const fixed = ['--unsafe-accept-user-requests', '--runtime-dir', runtime, '--control-socket', socket];
      const entry = name === 'clusterd' ? clusterdEntry() : singledEntry();
      const command = [process.execPath, entry ?? missing(name), ...fixed, '--log-level', 'warn'];
      return { command: [...command, ...(options.singledArgs ?? [])], readyFile: socket };
    }
  }
}

function missing(name: SubjectName): never {
  throw new BenchError('ERR_BENCH_SUBJECT', `${name} is not built: run pnpm build first`);
}

/** What a subject printed: whether anything on standard output, and the end of its errors. */
interface Output {
  printed: boolean;
  errors: string;
}

function collectOutput(child: ChildProcess): Output {
  const output: Output = { printed: false, errors: '' };
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    output.errors = (output.errors + text).slice(-ERRORS_KEPT_CHARACTERS);
  });
  child.stdout!.on('data', () => {
    output.printed = true;
  });
  return output;
}

async function ready(
  name: SubjectName,
  child: ChildProcess,
  output: Output,
  readyFile: string | undefined,
): Promise<void> {
  let failed: Error | undefined;
  child.once('error', (error) => {
    failed = error;
  });
  for (let waited = 0; waited < START_TIMEOUT_MS; waited += LOOK_AGAIN_MS) {
    if (failed !== undefined || child.exitCode !== null || child.signalCode !== null) {
      const rights = /permission|not permitted|denied/i.test(output.errors);
      throw new BenchError(
        rights ? 'ERR_BENCH_NO_RIGHTS' : 'ERR_BENCH_SUBJECT',
        `${name} did not start: ${failed?.message ?? output.errors.trim()}${rights ? ' (run as root)' : ''}`,
      );
    }
    if (readyFile === undefined ? output.printed : existsSync(readyFile)) return;
    await sleep(LOOK_AGAIN_MS);
  }
  throw new BenchError(
    'ERR_BENCH_SUBJECT',
    `${name} was not ready after ${START_TIMEOUT_MS} ms: ${output.errors.trim()}`,
  );
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await ended;
  clearTimeout(timer);
}

/** The C programs end with their parent by themselves; node has no such call. */
function killWithParent(child: ChildProcess): void {
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  child.once('exit', () => process.removeListener('exit', kill));
}
