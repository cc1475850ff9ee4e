import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type LoopbackTransport, loopbackTransport } from '@dmlog/connector';
import {
  ControlServer,
  createLogger,
  type Dmsetup,
  daemonMetrics,
  loadConfig,
  type Operable,
  openStore,
  operatorMethods,
  serve,
  serveHttp,
} from '@dmlog/daemon';
import { decodeReply, encodeRequestInto, type Reply, RequestType } from '@dmlog/protocol';
import pino from 'pino';
import { onTestFinished, vi } from 'vitest';
import { dmlogctl } from '../../src/dmlogctl.js';
import type { Environment } from '../../src/environment.js';

export const BOUND = { timeout: 30_000, interval: 20 };

/** A directory that is gone after the test. */
export function scratch(): string {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'dmlogctl-'));
  onTestFinished(() => fs.rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export interface Result {
  code: number;
  out: string;
  error: string;
}

export interface Running extends Result {
  readonly ended: Promise<Result>;
  stop(): void;
}

/** Starts a command in this process; `out` and `error` grow while it runs. */
export function start(args: readonly string[], parts: Partial<Environment> = {}): Running {
  const abort = new AbortController();
  const result: Result = { code: -1, out: '', error: '' };
  const environment: Environment = {
    out: (text) => {
      result.out += typeof text === 'string' ? text : Buffer.from(text).toString('latin1');
    },
    error: (text) => {
      result.error += text;
    },
    dmsetup: () => Promise.reject(new Error('dmsetup must not be called')),
    deviceBytes: () => Promise.reject(new Error('no device')),
    unitProperties: async () => '',
    procRoot: '/nonexistent',
    sysfsRoot: '/nonexistent',
    signal: abort.signal,
    terminal: null,
    ...parts,
  };
  const ended = dmlogctl(args, environment).then((code) => Object.assign(result, { code }));
  return Object.assign(result, { ended, stop: () => abort.abort() });
}

export function run(args: readonly string[], parts: Partial<Environment> = {}): Promise<Result> {
  return start(args, parts).ended;
}

/** A daemon and its control socket, whose kernel is the test. */
export class TestDaemon {
  readonly directory = scratch();
  readonly #replies = new Map<number, Reply>();
  #transport: LoopbackTransport | null = null;
  #seq = 1;
  /** Port of its status page; 0 where it has none. */
  httpPort = 0;
  closeHttp: () => Promise<void> = async () => {};

  static async start(flags: Record<string, unknown> = {}): Promise<TestDaemon> {
    const daemon = new TestDaemon();
    const { logger, close } = createLogger({ name: 'singled', level: 'silent' });
    const config = loadConfig({
      flags: { runtimeDir: daemon.directory, logLevel: 'silent', unsafeAcceptUserRequests: true, ...flags },
    });
    const running = await serve(config, logger, {
      openTransport: (options) => {
        daemon.#transport = loopbackTransport({ ...options, onReply: (bytes) => daemon.#replied(bytes) });
        return daemon.#transport;
      },
      openState: () => null,
      openStore: (device) => openStore(device, { allowRegularFile: true }),
      findName: async (uuid) => `mirror-${uuid}`,
    });
    const status = () => running.status();
    const methods = { status, ...operatorMethods(running.operable as Operable, status) };
    const control = new ControlServer({ path: config.controlSocket, logger, methods });
    await control.listen();
    if (config.http !== undefined) {
      const lines: { port?: number }[] = [];
      const told = pino({ level: 'info' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
      const metrics = daemonMetrics(status, running.operable);
      daemon.closeHttp = await serveHttp(running, () => metrics.text(), config.http, told);
      daemon.httpPort = lines.find(({ port }) => port !== undefined)?.port ?? 0;
    }
    onTestFinished(async () => {
      await daemon.closeHttp();
      await control.close();
      await running.stop('the test ends');
      await close(1000);
    });
    return daemon;
  }

  /** `dmlogctl <args>` for this daemon. */
  ctl(args: readonly string[], parts: Partial<Environment> = {}): Promise<Result> {
    return run(this.args(args), parts);
  }

  args(args: readonly string[]): string[] {
    return ['--runtime-dir', this.directory, ...args];
  }

  #replied(bytes: Uint8Array): void {
    const reply = decodeReply(bytes);
    this.#replies.set(reply.seq, reply);
  }

  async ask(uuid: string, type: number, data: Uint8Array | readonly number[] = []): Promise<Reply> {
    const seq = this.#seq++;
    const frame = new Uint8Array(1024);
    const bytes = data instanceof Uint8Array ? data : u64s(data);
    const request = { type, version: 3, seq, luid: { low: uuid.length, high: 1 }, uuid, data: bytes };
    const end = encodeRequestInto(frame, 0, request);
    (this.#transport as LoopbackTransport).deliver(frame.subarray(0, end));
    return vi.waitFor(() => {
      const reply = this.#replies.get(seq);
      if (reply === undefined) throw new Error('no reply yet');
      return reply;
    }, BOUND);
  }

  async resume(uuid: string, text: string): Promise<void> {
    await this.ask(uuid, RequestType.CTR, new TextEncoder().encode(text));
    await this.ask(uuid, RequestType.RESUME);
  }
}

function u64s(values: readonly number[]): Uint8Array {
  const data = new Uint8Array(values.length * 8);
  const view = new DataView(data.buffer);
  values.forEach((value, i) => {
    view.setBigUint64(8 * i, BigInt(value), true);
  });
  return data;
}

/** A dmsetup that answers from a table of its own and keeps what it was told. */
export function fakeDmsetup(answers: Readonly<Record<string, string>>): {
  dmsetup: Dmsetup;
  calls: string[];
} {
  const calls: string[] = [];
  return {
    calls,
    dmsetup: async (args, input) => {
      const line = args.join(' ');
      calls.push(input === undefined ? line : `${line} < ${input.trim()}`);
      const answer = answers[line] ?? answers[args[0] as string];
      if (answer === undefined) throw new Error(`dmsetup ${line}: no such device`);
      return answer;
    },
  };
}
