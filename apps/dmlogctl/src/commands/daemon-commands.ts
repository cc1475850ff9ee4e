import { appendFileSync, writeFileSync } from 'node:fs';
import { arch, release } from 'node:os';
import type { LogEvent, Settings, SettingsChange } from '@dmlog/daemon';
import {
  decodeReply,
  decodeRequest,
  type Reply,
  type Request,
  RequestType,
  requestTypeName,
  TRACE_FORMAT,
} from '@dmlog/protocol';
import type { Connection } from '../connection.js';
import type { Environment } from '../environment.js';
import { ExitCode } from '../exit-codes.js';

/** More than the daemon waits. */
const ANSWER_MARGIN_MS = 5000;

/** `flush`: lazy clears are given up and written. */
export async function flush(
  connection: Connection,
  log: string | undefined,
  { timeout, json }: { timeout: number; json?: boolean },
  { out }: Environment,
): Promise<number> {
  const timeoutMs = timeout * 1000;
  const params = { ...(log === undefined ? {} : { log }), timeoutMs };
  const answer = await connection.request('flush', params, timeoutMs + ANSWER_MARGIN_MS);
  const { logs } = answer as { logs: { uuid: string; released: number }[] };
  if (json === true) out(`${JSON.stringify(answer, null, 2)}\n`);
  else if (logs.length === 0) out('no logs\n');
  else out(logs.map(({ uuid, released }) => `${uuid}: ${released} regions released\n`).join(''));
  return ExitCode.OK;
}

/** `settings`: shows them, or changes some. */
export async function settings(
  connection: Connection,
  change: SettingsChange & { json?: boolean },
  { out }: Environment,
): Promise<number> {
  const { json, ...wanted } = change;
  const answer = await connection.request('settings', Object.keys(wanted).length === 0 ? undefined : wanted);
  const { lazyClearMs, lazyClearRegionsMax, logLevel } = answer as Settings;
  out(
    json === true
      ? `${JSON.stringify(answer, null, 2)}\n`
      : `lazy-clear-ms           ${lazyClearMs}\nlazy-clear-regions-max  ${lazyClearRegionsMax}\nlog-level               ${logLevel}\n`,
  );
  return ExitCode.OK;
}

/** `watch`: one JSON line per event, until it is interrupted. */
export async function watch(
  connection: Connection,
  { events }: { events?: readonly string[] },
  { out, error, signal }: Environment,
): Promise<number> {
  await connection.stream('watch', null, {
    onEvent: (event) => {
      if (events === undefined || events.includes((event as LogEvent).event))
        out(`${JSON.stringify(event)}\n`);
    },
    onDropped: (count) => error(`dmlogctl: ${count} events were lost, because they were not read in time\n`),
    signal,
  });
  return ExitCode.OK;
}

export interface TraceFlags {
  readonly type?: readonly string[];
  /** A file in the trace format. */
  readonly write?: string;
  /** Ends after so many requests. */
  readonly count?: number;
}

interface TracedFrame {
  readonly us: number;
  readonly dir: 'from-kernel' | 'to-kernel';
  readonly hex: string;
}

/** `trace`: requests and replies as they pass, in words, or into a file that golden tests and `replay` read. */
export async function trace(
  connection: Connection,
  log: string | undefined,
  flags: TraceFlags,
  { out, error, signal }: Environment,
): Promise<number> {
  const params = {
    ...(log === undefined ? {} : { log }),
    ...(flags.type === undefined ? {} : { types: flags.type.map((type) => type.toUpperCase()) }),
  };
  const { write } = flags;
  if (write !== undefined) writeFileSync(write, `${JSON.stringify(traceHeader(log))}\n`);
  const printer = new TracePrinter();
  const enough = new AbortController();
  let requests = 0;
  await connection.stream('trace', params, {
    onEvent: (event) => {
      const frame = event as TracedFrame;
      if (frame.dir === 'from-kernel' && flags.count !== undefined && requests++ >= flags.count) return;
      if (write === undefined) out(printer.line(frame));
      else appendFileSync(write, `${JSON.stringify(frame)}\n`);
      // The last request's reply belongs to it.
      if (frame.dir === 'to-kernel' && flags.count !== undefined && requests >= flags.count) enough.abort();
    },
    onDropped: (count) =>
      error(`dmlogctl: ${count} datagrams are missing here: they were not read in time\n`),
    signal: AbortSignal.any([signal, enough.signal]),
  });
  return ExitCode.OK;
}

function traceHeader(log: string | undefined): object {
  return {
    format: TRACE_FORMAT,
    kernel: release(),
    arch: arch(),
    scenario: log ?? 'all logs',
    note: 'recorded by dmlogctl trace',
  };
}

/** Decodes frames; knows the requests that wait for their replies, so that a reply can be told by its request. */
export class TracePrinter {
  readonly #open = new Map<number, { request: Request; us: number }>();

  line({ us, dir, hex }: TracedFrame): string {
    const time = (us / 1e6).toFixed(6).padStart(12);
    try {
      const bytes = Buffer.from(hex, 'hex');
      return `${time} ${dir === 'from-kernel' ? `> ${this.#request(decodeRequest(bytes), us)}` : `< ${this.#reply(decodeReply(bytes), us)}`}\n`;
    } catch (cause) {
      return `${time} ${dir === 'from-kernel' ? '>' : '<'} not decodable (${cause instanceof Error ? cause.message : String(cause)}): ${hex}\n`;
    }
  }

  #request(request: Request, us: number): string {
    if (this.#open.size > 4096) this.#open.clear();
    this.#open.set(request.seq, { request, us });
    return `${head(request.seq, request.type)} ${request.uuid}${payload(request.type, request.data)}`;
  }

  #reply(reply: Reply, us: number): string {
    const asked = this.#open.get(reply.seq);
    this.#open.delete(reply.seq);
    const type = asked?.request.type ?? (reply.kind === 'full' ? reply.type : 0);
    const errno = reply.kind === 'ack' ? reply.errno : -reply.error;
    const took = asked === undefined ? '' : ` after ${us - asked.us} µs`;
    const result = errno === 0 ? 'ok' : `errno ${errno}`;
    return `${head(reply.seq, type)} ${result}${reply.kind === 'full' ? answer(type, reply.data) : ''}${took}`;
  }
}

function head(seq: number, type: number): string {
  return `${String(seq).padStart(8)} ${type === 0 ? '?' : requestTypeName(type)}`;
}

const words = (data: Uint8Array): number[] => {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return Array.from({ length: data.byteLength >> 3 }, (_, i) => Number(view.getBigUint64(8 * i, true)));
};

const text = (data: Uint8Array): string =>
  Buffer.from(data)
    .toString('latin1')
    .replace(/\0.*$/s, '')
    .replace(/[^\x20-\x7e]/g, '?');

function payload(type: number, data: Uint8Array): string {
  if (data.byteLength === 0) return '';
  if (type === RequestType.CTR) return ` "${text(data)}"`;
  const [region, value] = words(data);
  if (type === RequestType.SET_REGION_SYNC)
    return ` region ${region} ${value === 0 ? 'out of sync' : 'in sync'}`;
  return ` ${words(data).join(' ')}`;
}

function answer(type: number, data: Uint8Array): string {
  if (data.byteLength === 0) return '';
  const isText =
    type === RequestType.CTR || type === RequestType.STATUS_INFO || type === RequestType.STATUS_TABLE;
  return isText ? ` "${text(data)}"` : ` ${words(data).join(' ')}`;
}
