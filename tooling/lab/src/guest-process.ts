import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { OUTPUT_POLL_MS, OUTPUT_TAIL_LINES } from './constants.js';
import { LabError, lastLines } from './errors.js';

/** A file that the guest appends to, read from the host without reading twice. */
export class GrowingFile {
  readonly #path: string;
  #offset = 0;
  #chunks: Buffer[] = [];

  constructor(path: string) {
    this.#path = path;
  }

  /** Everything in the file so far. A file that the guest has not made yet is empty. */
  read(): string {
    let file: number;
    try {
      file = openSync(this.#path, 'r');
    } catch {
      return this.#text();
    }
    try {
      const bytes = Buffer.alloc(Math.max(0, fstatSync(file).size - this.#offset));
      const length = readSync(file, bytes, 0, bytes.length, this.#offset);
      this.#offset += length;
      if (length > 0) this.#chunks.push(bytes.subarray(0, length));
    } finally {
      closeSync(file);
    }
    return this.#text();
  }

  #text(): string {
    // Joined as bytes: a character may be cut between two reads.
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0]?.toString('utf8') ?? '';
  }
}

export interface GuestProcessHandle {
  readonly command: string;
  readonly pid: number;
  readonly file: GrowingFile;
  /** Exit status as the shell says it: 128 + number for a signal. Rejects with ERR_LAB_LOST when the machine ends first. */
  readonly exited: Promise<number>;
  readonly sendKill: (signal: string, pid: number) => void;
  readonly consoleTail: () => string;
}

/** A program that runs in a guest while the scenario goes on. */
export class GuestProcess {
  readonly pid: number;
  readonly command: string;
  readonly exited: Promise<number>;
  readonly #handle: GuestProcessHandle;
  #ended: string | undefined;

  constructor(handle: GuestProcessHandle) {
    this.#handle = handle;
    this.pid = handle.pid;
    this.command = handle.command;
    this.exited = handle.exited;
    handle.exited.then(
      (status) => {
        this.#ended = `ended with status ${status}`;
      },
      (error: Error) => {
        this.#ended = error.message;
      },
    );
  }

  get running(): boolean {
    return this.#ended === undefined;
  }

  /** Standard output and standard error so far, as they were written. */
  output(): string {
    return this.#handle.file.read();
  }

  /**
   * Waits until the output holds `pattern` and returns the output.
   * @throws LabError ERR_LAB_TIMEOUT, or ERR_LAB_COMMAND when the program ends without having said it.
   */
  async waitFor(pattern: string | RegExp, timeoutMs = 30_000): Promise<string> {
    const matches = (text: string) =>
      typeof pattern === 'string' ? text.includes(pattern) : text.search(pattern) >= 0;
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      // Read first: what a program said just before it ended counts.
      const ended = this.#ended;
      const text = this.output();
      if (matches(text)) return text;
      if (ended !== undefined)
        throw this.#failure('ERR_LAB_COMMAND', `${ended} and never said ${String(pattern)}`);
      if (Date.now() > deadline) {
        throw this.#failure('ERR_LAB_TIMEOUT', `did not say ${String(pattern)} within ${timeoutMs} ms`);
      }
      await new Promise((resolve) => setTimeout(resolve, OUTPUT_POLL_MS));
    }
  }

  /** Sends a signal to the program, or with `group` to all that it has started too. Does not wait: await `exited`. */
  kill(signal: NodeJS.Signals = 'SIGTERM', options: { group?: boolean } = {}): void {
    this.#handle.sendKill(signal.replace(/^SIG/, ''), options.group === true ? -this.pid : this.pid);
  }

  #failure(code: 'ERR_LAB_COMMAND' | 'ERR_LAB_TIMEOUT', what: string): LabError {
    const output = lastLines(this.output(), OUTPUT_TAIL_LINES);
    return new LabError(
      code,
      `\`${this.command}\` ${what}\n--- its output\n${output}\n${this.#handle.consoleTail()}`,
    );
  }
}
