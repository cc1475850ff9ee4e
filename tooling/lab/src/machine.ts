import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { AgentLine, shellQuote } from './channel.js';
import { COMMAND_TIMEOUT_MS, HALT_TIMEOUT_MS, OUTPUT_TAIL_LINES, STATUS_POLL_MS } from './constants.js';
import type { Disk } from './disk.js';
import { LabError, type LabErrorCode, lastLines } from './errors.js';
import { GrowingFile, GuestProcess } from './guest-process.js';
import { type MirrorStatus, parseMirrorStatus } from './mirror.js';
import { keepsFiles } from './run-directory.js';
import type { MachineEnd, UmlProcess } from './uml-process.js';

export type { MachineEnd } from './uml-process.js';

export interface RunOptions {
  /** Then everything the command has started is killed and the run fails. Default 60 s. */
  readonly timeoutMs?: number;
  /** Whether a status other than 0 throws. Default true. */
  readonly check?: boolean;
  /** Standard input; none by default. */
  readonly input?: string | Uint8Array;
  readonly env?: Readonly<Record<string, string>>;
}

export interface RunResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

export interface MachineInit {
  readonly name: string;
  readonly uml: UmlProcess;
  /** The host's side of the directory that is /run/lab in the guest. */
  readonly share: string;
  readonly disks: Readonly<Record<string, Disk>>;
}

interface Pending {
  readonly command: string;
  pid: number;
  onPid: (pid: number) => void;
  readonly onExit: (status: number) => void;
  readonly onLost: (error: LabError) => void;
}

/** A booted machine. Its root is the host's tree under a private tmpfs: programs of the host run in it, nothing it writes reaches the host. */
export class Machine {
  readonly name: string;
  /** Settles when the machine has ended, however that came. Never rejects. */
  readonly ended: Promise<MachineEnd>;
  readonly #init: MachineInit;
  readonly #line: AgentLine;
  readonly #pending = new Map<number, Pending>();
  readonly #ready: Promise<void>;
  readonly #outputs: { readonly program: string; readonly path: string }[] = [];
  #commandCount = 0;

  constructor(init: MachineInit) {
    this.#init = init;
    this.name = init.name;
    let markReady = () => {};
    this.#ready = new Promise((resolve) => {
      markReady = resolve;
    });
    this.#line = new AgentLine(init.uml.line, {
      ready: () => markReady(),
      pid: (id, pid) => this.#onPid(id, pid),
      exit: (id, status) => this.#pending.get(id)?.onExit(status),
    });
    this.ended = init.uml.ended.then((end) => {
      this.#onEnd(end);
      return end;
    });
  }

  /** Waits for the agent. A boot that fails or hangs is ended and throws ERR_LAB_BOOT. */
  async booted(timeoutMs: number): Promise<void> {
    const outcome = await withTimeout(
      Promise.race([this.#ready.then(() => 'ready' as const), this.ended]),
      timeoutMs,
    );
    if (outcome === 'ready') return;
    const what =
      outcome === undefined
        ? `did not answer within ${timeoutMs} ms`
        : `ended while booting (${describeEnd(outcome)})`;
    await this.powerCut();
    throw this.#failure('ERR_LAB_BOOT', `machine ${this.name} ${what}`);
  }

  get running(): boolean {
    return !this.#init.uml.over;
  }

  /** The device node of a disk, by its key in `disks` or by the disk itself: `/dev/ubda`, `/dev/ubdb`, … in the order of the keys. */
  device(which: string | Disk): string {
    const entries = Object.entries(this.#init.disks);
    const index = entries.findIndex(([name, disk]) => name === which || disk === which);
    if (index < 0) {
      const name = typeof which === 'string' ? `"${which}"` : 'that one';
      throw new LabError(
        'ERR_LAB_USAGE',
        `machine ${this.name} has no disk ${name}: ${entries.map(([key]) => key).join(', ')}`,
      );
    }
    return `/dev/ubd${String.fromCharCode(97 + index)}`;
  }

  /**
   * Runs a shell script (/bin/sh; any number of lines) and returns its output. Runs may overlap.
   * @throws LabError ERR_LAB_COMMAND for a status other than 0 (unless `check` is false), ERR_LAB_TIMEOUT, ERR_LAB_LOST.
   */
  async run(script: string, options: RunOptions = {}): Promise<RunResult> {
    const timeoutMs = options.timeoutMs ?? COMMAND_TIMEOUT_MS;
    const { id, base, exited } = this.#launch(script, script, options);
    const code = await withTimeout(exited, timeoutMs);
    const stdout = readIfThere(`${base}.out`);
    const stderr = readIfThere(`${base}.err`);
    const outputs = () =>
      `--- stdout\n${lastLines(stdout, OUTPUT_TAIL_LINES)}\n--- stderr\n${lastLines(stderr, OUTPUT_TAIL_LINES)}`;
    if (code === undefined) {
      const pid = this.#pending.get(id)?.pid ?? 0;
      if (pid > 0) this.#line.send(`kill KILL -${pid}`);
      throw this.#failure(
        'ERR_LAB_TIMEOUT',
        `\`${script}\` on ${this.name} took more than ${timeoutMs} ms\n${outputs()}`,
      );
    }
    if (!keepsFiles())
      for (const suffix of ['cmd', 'in', 'out', 'err']) rmSync(`${base}.${suffix}`, { force: true });
    if (code !== 0 && options.check !== false) {
      // Not a fault of the lab: no console, and nothing is kept for it.
      throw new LabError(
        'ERR_LAB_COMMAND',
        `\`${script}\` on ${this.name} ended with status ${code}\n${outputs()}`,
      );
    }
    return { stdout, stderr, code };
  }

  /** Starts one program (with arguments and redirections; for more, `sh -c '…'`) and returns when it has a pid. */
  async start(command: string, options: Pick<RunOptions, 'env' | 'input'> = {}): Promise<GuestProcess> {
    const { base, exited, started } = this.#launch(command, `exec 2>&1\nexec ${command}`, options);
    const pid = await withTimeout(started, COMMAND_TIMEOUT_MS);
    this.#outputs.push({ program: programName(command), path: `${base}.out` });
    if (pid === undefined)
      throw this.#failure('ERR_LAB_TIMEOUT', `\`${command}\` on ${this.name} got no pid`);
    return new GuestProcess({
      command,
      pid,
      exited,
      file: new GrowingFile(`${base}.out`),
      sendKill: (signal, target) => this.#line.send(`kill ${signal} ${target}`),
      consoleTail: () => this.#init.uml.consoleTail(),
    });
  }

  /**
   * Process 1 becomes this program, such as a service manager; commands are obeyed as before, by a process that the end of a shutdown spares. What the program says goes to
   * the console. Once in a machine's life.
   */
  async becomeInit(command: string): Promise<void> {
    const { started } = this.#launch(command, `exec ${command}`, {}, 'init');
    if ((await withTimeout(started, COMMAND_TIMEOUT_MS)) === undefined)
      throw this.#failure('ERR_LAB_TIMEOUT', `process 1 of ${this.name} did not become \`${command}\``);
  }

  /** Every process of the machine is gone at once; disks keep what had been written to them. */
  async powerCut(): Promise<void> {
    await this.#init.uml.kill();
    await this.ended;
  }

  /** The machine hangs: nothing in it runs, nothing is lost. */
  pause(): void {
    this.#init.uml.signal('SIGSTOP');
  }

  /** The machine goes on; to it, the clock jumps. */
  resume(): void {
    this.#init.uml.signal('SIGCONT');
  }

  /** `sync` and power off. @throws LabError ERR_LAB_LOST when the kernel panics instead, ERR_LAB_TIMEOUT when it hangs. */
  async halt(timeoutMs = HALT_TIMEOUT_MS): Promise<MachineEnd> {
    this.#line.send('off');
    return this.poweredOff(timeoutMs);
  }

  /** Waits until the machine has powered off, whoever made it do so. @throws as {@link halt}. */
  async poweredOff(timeoutMs = HALT_TIMEOUT_MS): Promise<MachineEnd> {
    const end = await withTimeout(this.ended, timeoutMs);
    if (end === undefined) {
      const failure = this.#failure(
        'ERR_LAB_TIMEOUT',
        `machine ${this.name} did not power off within ${timeoutMs} ms`,
      );
      await this.powerCut();
      throw failure;
    }
    if (end.how !== 'halted')
      throw this.#failure('ERR_LAB_LOST', `machine ${this.name}: ${describeEnd(end)} instead of power off`);
    return end;
  }

  /** Everything the kernel and the boot script have said so far. */
  console(): string {
    return this.#init.uml.console();
  }

  /** Where the host finds what each program of `start` has said. */
  outputs(): readonly { readonly program: string; readonly path: string }[] {
    return this.#outputs;
  }

  /** The guest kernel's ring buffer. */
  async dmesg(): Promise<string> {
    return (await this.run('dmesg')).stdout;
  }

  async dmCreate(name: string, table: string): Promise<void> {
    await this.run(`dmsetup create ${shellQuote(name)}`, { input: `${table}\n` });
  }

  /** Loads an inactive table; `dmResume` makes it live. */
  async dmReload(name: string, table: string): Promise<void> {
    await this.run(`dmsetup reload ${shellQuote(name)}`, { input: `${table}\n` });
  }

  async dmSuspend(name: string, options: { noflush?: boolean; nolockfs?: boolean } = {}): Promise<void> {
    const flags = `${options.noflush === true ? ' --noflush' : ''}${options.nolockfs === true ? ' --nolockfs' : ''}`;
    await this.run(`dmsetup suspend${flags} ${shellQuote(name)}`);
  }

  async dmResume(name: string): Promise<void> {
    await this.run(`dmsetup resume ${shellQuote(name)}`);
  }

  async dmRemove(name: string): Promise<void> {
    await this.run(`dmsetup remove ${shellQuote(name)}`);
  }

  async dmTable(name: string): Promise<string> {
    return (await this.run(`dmsetup table ${shellQuote(name)}`)).stdout.trim();
  }

  async dmStatus(name: string): Promise<MirrorStatus> {
    return parseMirrorStatus((await this.run(`dmsetup status ${shellQuote(name)}`)).stdout);
  }

  /** Waits until every region of a mirror is in sync and returns that status. */
  async waitInSync(name: string, timeoutMs = 60_000): Promise<MirrorStatus> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const status = await this.dmStatus(name);
      if (status.inSyncCount === status.regionCount) return status;
      if (Date.now() > deadline) {
        const where = `${status.inSyncCount}/${status.regionCount} regions, legs ${status.legHealth}, log ${status.log}`;
        throw this.#failure(
          'ERR_LAB_TIMEOUT',
          `mirror ${name} is not in sync after ${timeoutMs} ms: ${where}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, STATUS_POLL_MS));
    }
  }

  #launch(
    command: string,
    script: string,
    options: Pick<RunOptions, 'env' | 'input'>,
    verb: 'run' | 'init' = 'run',
  ) {
    if (!this.running)
      throw new LabError('ERR_LAB_LOST', `machine ${this.name} is not running: cannot run \`${command}\``);
    const id = ++this.#commandCount;
    const base = `${this.#init.share}/${id}`;
    const exports = Object.entries(options.env ?? {}).map(
      ([key, value]) => `export ${key}=${shellQuote(value)}\n`,
    );
    if (options.input !== undefined) writeFileSync(`${base}.in`, options.input);
    writeFileSync(`${base}.cmd`, `echo "pid ${id} $$" >&9; exec 9>&-\n${exports.join('')}${script}\n`);
    let onPid = (_pid: number) => {};
    const started = new Promise<number>((resolve) => {
      onPid = resolve;
    });
    const exited = new Promise<number>((onExit, onLost) => {
      this.#pending.set(id, { command, pid: 0, onPid, onExit, onLost });
    });
    // Nobody may be waiting when the power is cut.
    exited.then(
      () => this.#pending.delete(id),
      () => this.#pending.delete(id),
    );
    const startedOrOver = Promise.race([started, exited.then(() => 0)]);
    startedOrOver.catch(() => {});
    this.#line.send(`${verb} ${id}`);
    return { id, base, exited, started: startedOrOver };
  }

  #onPid(id: number, pid: number): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    pending.pid = pid;
    pending.onPid(pid);
  }

  #onEnd(end: MachineEnd): void {
    for (const pending of this.#pending.values()) {
      pending.onLost(
        this.#failure(
          'ERR_LAB_LOST',
          `machine ${this.name} ended (${describeEnd(end)}) during \`${pending.command}\``,
        ),
      );
    }
  }

  #failure(code: LabErrorCode, what: string): LabError {
    return new LabError(code, `${what}\n${this.#init.uml.consoleTail()}`);
  }
}

function describeEnd(end: MachineEnd): string {
  const how = { halted: 'powered off', panic: 'kernel panic', killed: 'power cut', died: 'died' }[end.how];
  return `${how}, ${end.signal ?? `status ${end.code}`}`;
}

/** A word for a file's name: `singled` for `node /x/apps/singled/dist/cli.cjs …`. */
function programName(command: string): string {
  const [first = '', second = ''] = command.trim().split(/\s+/);
  const program =
    first === 'node' && second.startsWith('/')
      ? second.replace(/\/dist\/cli\.c?js$/, '').replace(/\.c?js$/, '')
      : first;
  return program.slice(program.lastIndexOf('/') + 1).replaceAll(/[^a-zA-Z0-9-]/g, '') || 'program';
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** The promise's value, or undefined when the time is over first. Leaves no timer behind. */
async function withTimeout<T>(promise: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, undefined);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
