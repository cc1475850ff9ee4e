import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { CorosyncLabError } from './errors.js';
import { waitUntil } from './host.js';

/*
 * One JSON object per line. To the program: {"id", "method", "params"}. From it: {"id", "result"} or {"id", "error": {"code", "message"}}, and
 * {"event": …} unasked.
 */

/** Method name → function of one parameter. A program implements it ({@link serveLines}), its client calls it ({@link LineClient}). */
// biome-ignore lint/suspicious/noExplicitAny: any function of one parameter fits
export type LineMethods = Record<string, (params: any) => unknown>;

/** What a method threw over there; `code` is its error's. */
export class LineError extends Error {
  override readonly name = 'LineError';
  readonly code: string | undefined;

  constructor(message: string, code: string | undefined) {
    super(message);
    this.code = code;
  }
}

const REQUEST_TIMEOUT_MS = 60_000;

interface Pending {
  resolve(result: unknown): void;
  reject(error: Error): void;
  timer: NodeJS.Timeout;
}

/** Drives a program over its standard input and output. Events are collected in {@link events}. */
export class LineClient<Methods extends LineMethods, Event> {
  readonly child: ChildProcess;
  /** Every event so far, in order. */
  readonly events: Event[] = [];
  /** What the program wrote to standard error. */
  stderr = '';
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  readonly #pending = new Map<number, Pending>();
  #over = false;
  #nextId = 1;

  constructor(child: ChildProcess) {
    this.child = child;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    child.stdin!.on('error', () => {}); // it ended: its exit tells
    createInterface({ input: child.stdout! }).on('line', (line) => this.#onLine(line));
    this.exited = new Promise((resolve) => {
      const end = (code: number | null, signal: NodeJS.Signals | null): void => {
        if (this.#over) return;
        this.#over = true;
        for (const { reject, timer } of this.#pending.values()) {
          clearTimeout(timer);
          reject(this.#error(`the program ended (${signal ?? code})`));
        }
        this.#pending.clear();
        resolve({ code, signal });
      };
      child.once('error', () => end(null, null));
      child.once('close', end); // after the last line
    });
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  get over(): boolean {
    return this.#over;
  }

  request<Name extends keyof Methods & string>(
    method: Name,
    ...[params]: Parameters<Methods[Name]>
  ): Promise<Awaited<ReturnType<Methods[Name]>>> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      if (this.#over) {
        reject(this.#error(`${method}: the program has ended`));
        return;
      }
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(this.#error(`${method}: no answer within ${REQUEST_TIMEOUT_MS} ms`));
      }, REQUEST_TIMEOUT_MS);
      this.#pending.set(id, { resolve: resolve as (result: unknown) => void, reject, timer });
      this.child.stdin!.write(`${JSON.stringify({ id, method, params })}\n`);
    });
  }

  /** Waits until the events collected so far fulfil a condition. */
  async until(
    what: string,
    condition: (events: readonly Event[]) => boolean,
    timeoutMs = 60_000,
  ): Promise<void> {
    await waitUntil(
      what,
      () => condition(this.events) || this.#over,
      timeoutMs,
      () => this.#describe(),
    );
    if (!condition(this.events)) throw this.#error(`${what}: the program ended before`);
  }

  /** Ends the program at once and waits for its end. */
  async kill(): Promise<void> {
    if (!this.#over) this.child.kill('SIGKILL');
    await this.exited;
  }

  #onLine(line: string): void {
    let message: { id?: number; result?: unknown; error?: { message: string; code?: string }; event?: Event };
    try {
      message = JSON.parse(line);
    } catch {
      this.stderr += `${line}\n`;
      return;
    }
    if (message.event !== undefined) this.events.push(message.event);
    const pending = message.id === undefined ? undefined : this.#pending.get(message.id);
    if (pending === undefined) return;
    this.#pending.delete(message.id!);
    clearTimeout(pending.timer);
    if (message.error === undefined) pending.resolve(message.result);
    else pending.reject(new LineError(message.error.message, message.error.code));
  }

  #error(text: string): CorosyncLabError {
    return new CorosyncLabError('ERR_COROSYNC_LAB_CLIENT', `${text}\n${this.#describe()}`);
  }

  #describe(): string {
    const last = this.events.slice(-20).map((event) => JSON.stringify(event));
    return `last events:\n${last.join('\n')}\nstandard error:\n${this.stderr.slice(-4000)}`;
  }
}

/**
 * The program's side. Calls `methods` and answers, one line after the other; the end of standard input ends the process, so that it never outlives its client.
 * Returns the function that sends an event.
 */
export function serveLines<Event>(methods: LineMethods): (event: Event) => void {
  const write = (message: object): void => void process.stdout.write(`${JSON.stringify(message)}\n`);
  createInterface({ input: process.stdin })
    .on('line', async (line) => {
      const { id, method, params } = JSON.parse(line) as { id: number; method: string; params: unknown };
      try {
        const result = await methods[method]!(params);
        write({ id, result: result ?? null });
      } catch (error) {
        const { message, code } = error as { message?: string; code?: string };
        write({ id, error: { message: message ?? String(error), code } });
      }
    })
    .on('close', () => process.exit(0));
  return (event) => write({ event });
}
