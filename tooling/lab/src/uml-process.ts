import { type ChildProcess, spawn } from 'node:child_process';
import { appendFileSync, writeFileSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { CONSOLE_TAIL_LINES } from './constants.js';
import { lastLines } from './errors.js';
import { killSession, runDirectory } from './run-directory.js';

/** How a machine ended. `halted`: powered off (status 0). `panic`: the kernel said so. `killed`: powerCut. `died`: anything else. */
export interface MachineEnd {
  readonly how: 'halted' | 'panic' | 'killed' | 'died';
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface UmlProcessInit {
  readonly file: string;
  readonly args: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
  readonly directory: string;
  readonly consolePath: string;
}

/** The processes of one guest: a session of its own, whose leader is the kernel and whose other members are its helpers. */
export class UmlProcess {
  readonly ended: Promise<MachineEnd>;
  /** The agent's serial line: descriptor 3 of the guest's kernel, both directions. */
  readonly line: Duplex;
  readonly #child: ChildProcess;
  readonly #session: number;
  #console = '';
  #cut = false;
  #over = false;

  constructor(init: UmlProcessInit) {
    writeFileSync(init.consolePath, '');
    this.#child = spawn(init.file, [...init.args], {
      cwd: init.directory,
      env: init.environment,
      // setsid: an interrupt at the terminal does not reach it, and its helpers can be found.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    });
    this.line = this.#child.stdio[3] as Duplex;
    this.#session = this.#child.pid ?? -1;
    if (this.#session > 0) runDirectory().guard(this.#session);
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.#console += text;
        appendFileSync(init.consolePath, text);
      });
    }
    this.ended = new Promise((resolve) => {
      this.#child.once('error', (error) => {
        this.#console += `${error.message}\n`;
        resolve(this.#finish(null, null));
      });
      // 'close' comes after the last byte of the console, which says why; helpers may hold it open, so the session is ended first.
      this.#child.once('exit', () => void killSession(this.#session));
      this.#child.once('close', (code, signal) => resolve(this.#finish(code, signal)));
    });
  }

  get over(): boolean {
    return this.#over;
  }

  get pid(): number {
    return this.#session;
  }

  console(): string {
    return this.#console;
  }

  consoleTail(): string {
    return `--- end of the machine's console\n${lastLines(withoutTrace(this.#console), CONSOLE_TAIL_LINES)}`;
  }

  /** Ends every process of the session at once, as a power cut does. */
  async kill(): Promise<void> {
    if (this.#over) return;
    this.#cut = true;
    await killSession(this.#session);
    await this.ended;
  }

  /** To the first process only: stopping the traced children would wedge the guest for good. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    if (!this.#over) process.kill(this.#session, signal);
  }

  #finish(code: number | null, signal: NodeJS.Signals | null): MachineEnd {
    this.#over = true;
    if (this.#session > 0) runDirectory().unguard(this.#session);
    this.line.destroy();
    if (this.#cut) return { how: 'killed', code, signal };
    if (code === 0) return { how: 'halted', code, signal };
    // UML aborts after a panic: SIGABRT, signal 6.
    const panic = this.#console.includes('Kernel panic') || signal === 'SIGABRT';
    return { how: panic ? 'panic' : 'died', code, signal };
  }
}

/** What led to a panic and its first lines; the registers and addresses after them would push the reason out of sight. */
function withoutTrace(text: string): string {
  const panic = text.indexOf('Kernel panic');
  const trace = panic < 0 ? -1 : text.indexOf('\nStack:', panic);
  return trace < 0 ? text : `${text.slice(0, trace)}\n(trace left out)`;
}
