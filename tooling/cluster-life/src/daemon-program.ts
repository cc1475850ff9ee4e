/**
 * The daemon of one node, in a process of its own: dispatcher, replicas and corosync are the real ones. The kernel below it is modelled by whoever drives it, over
 * lines: requests go in and replies come out as they would over netlink.
 */
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import {
  ClusteredLog,
  corosyncGroup,
  type JoinGroup,
  type Replica,
  type ReplicatedState,
} from '@dmlog/cluster';
import { type LoopbackTransport, loopbackTransport } from '@dmlog/connector';
import { serveLines } from '@dmlog/corosync-lab';
import {
  ControlServer,
  type DaemonConfig,
  loadMappingBinding,
  type Operable,
  openStore,
  operatorMethods,
  type RunningDaemon,
  RuntimeState,
  serve,
  serveHttp,
} from '@dmlog/daemon';
import { decodeReply, encodeRequestInto, type Reply } from '@dmlog/protocol';
import { loadBinding } from 'corosync-cpg-napi';
import pino from 'pino';
import type { DaemonEvent, LogAnswer, LogRequest, StartOptions, Stated, View } from './daemon-types.js';
import { digestOf } from './state-digest.js';

/** States of so many regions are compared as a whole; of larger ones, the digest of what was applied. */
const WHOLE_REGIONS_MAX = 4096;
/** A message as large as this one is a piece of a snapshot. */
const PIECE_BYTES_MIN = 32 * 1024;

/** The replicas of this process by the uuid of their log, found as they answer: daemons tell their states to nobody. */
const replicas = new Map<string, Replica>();
const { request } = ClusteredLog.prototype;
ClusteredLog.prototype.request = function (view, port, effects) {
  replicas.set(view.uuidText(), this.replica);
  request.call(this, view, port, effects);
};

let stated: Stated[] = [];
const last = new Map<string, { state: ReplicatedState; text: string }>();
let transport: LoopbackTransport | null = null;
let daemon: RunningDaemon | null = null;
let piecesLeft = Number.POSITIVE_INFINITY;
let seq = 1;
const waiting = new Map<number, (answer: LogAnswer) => void>();
let endTableCommand: (error: Error | null) => void = () => {};

/** Notes what the state is after each event of a group. */
function note(): void {
  for (const [uuid, { member, state }] of replicas) {
    if (member === null || state === null) continue;
    const { agreedRing: ring } = member;
    const whole = state.regionCount <= WHOLE_REGIONS_MAX ? digestOf(state) : '';
    const one: Stated = {
      uuid,
      // Histories that were begun by others are others: one may end and another begin in one ring, when all daemons die by turns.
      ring: `${ring.nodeId}.${ring.seq} epoch ${state.epoch}`,
      position: state.position,
      digest: `${state.hash.high}.${state.hash.low} ${whole}`,
      isContinued: last.get(uuid)?.state === state,
    };
    const text = `${one.ring} ${one.position} ${one.digest}`;
    if (one.isContinued && last.get(uuid)?.text === text) continue;
    last.set(uuid, { state, text });
    stated.push(one);
  }
}

function watched(join: JoinGroup): JoinGroup {
  return async (name, handlers) => {
    const group = await join(name, {
      ...handlers,
      confchg: (...change) => {
        handlers.confchg(...change);
        note();
      },
      ring: (...ring) => {
        handlers.ring(...ring);
        note();
      },
      deliver: (...message) => {
        handlers.deliver(...message);
        note();
      },
      drain: () => handlers.drain(),
      died: (error) => handlers.died(error),
    });
    return {
      get self() {
        return group.self;
      },
      get maxMessageBytes() {
        return group.maxMessageBytes;
      },
      send: (bytes) => {
        const taken = group.send(bytes);
        if (taken && bytes.byteLength >= PIECE_BYTES_MIN && --piecesLeft <= 0)
          process.kill(process.pid, 'SIGKILL');
        return taken;
      },
      leave: () => group.leave(),
      close: () => group.close(),
    };
  };
}

function answerOf(reply: Reply): LogAnswer {
  if (reply.kind === 'ack') return { errno: reply.errno, values: [] };
  const words = new DataView(reply.data.buffer, reply.data.byteOffset, reply.data.byteLength);
  const values = Array.from({ length: reply.data.byteLength >> 3 }, (_, i) =>
    Number(words.getBigUint64(8 * i, true)),
  );
  return { errno: Math.abs(reply.error), values };
}

function dataOf({ words, text }: LogRequest): Uint8Array {
  if (text !== undefined) return new TextEncoder().encode(text);
  const data = new Uint8Array(8 * (words?.length ?? 0));
  const view = new DataView(data.buffer);
  for (const [i, word] of (words ?? []).entries()) view.setBigUint64(8 * i, BigInt(word), true);
  return data;
}

/** dmsetup for the mirrors of this node's kernel, which the driver models. */
async function dmsetup(tables: readonly string[], args: readonly string[]): Promise<string> {
  switch (args[0]) {
    case 'table':
      return tables.map((table) => `${table.split(' ')[5]}: ${table}\n`).join('');
    case 'info':
      return 'L--w\n';
    case 'resume':
      await new Promise<void>((resolve, reject) => {
        endTableCommand = (error) => (error === null ? resolve() : reject(error));
        tell({ kind: 'reload', uuid: args[1] as string });
      });
      return '';
    default:
      return '';
  }
}

/** Where a package has its addon: this program is bundled. */
const rootOf = (name: string): string =>
  dirname(createRequire(import.meta.url).resolve(`${name}/package.json`));

const methods = {
  /** Resolves when requests are answered. */
  async start({ bootId, runtimeDir, lazyClearMs, reload, tables, page }: StartOptions): Promise<void> {
    mkdirSync(runtimeDir, { recursive: true });
    const write = (line: string) => {
      const { level, msg } = JSON.parse(line) as { level: number; msg: string };
      tell({ kind: 'line', level, text: msg });
    };
    const logger = pino({ level: 'info', base: null }, { write });
    const config: DaemonConfig = {
      runtimeDir,
      controlSocket: `${runtimeDir}/clusterd.sock`,
      logLevel: 'info',
      receiveBufferBytes: 1 << 20,
      lazyClear: { milliseconds: lazyClearMs, regionsMax: 8 },
      cluster: { reload },
      transport: 'auto',
      unsafeAcceptUserRequests: true,
    };
    const binding = loadMappingBinding(rootOf('@dmlog/daemon'));
    const joinGroup = corosyncGroup({ binding: loadBinding(rootOf('corosync-cpg-napi')) });
    daemon = await serve(config, logger, {
      openTransport: (options) => {
        const onReply = (bytes: Uint8Array) => {
          const reply = decodeReply(bytes);
          waiting.get(reply.seq)?.(answerOf(reply));
          waiting.delete(reply.seq);
        };
        transport = loopbackTransport({ ...options, onReply });
        return transport;
      },
      openStore: (path) => openStore(path, { allowRegularFile: true }),
      openState: () => new RuntimeState({ runtimeDir, logger, binding, bootId }),
      cluster: {
        joinGroup: watched(joinGroup),
        check: async () => {},
        bootId,
        dmsetup: (args) => dmsetup(tables, args),
      },
    });
    const running = daemon;
    const status = () => running.status();
    const control = { status, ...operatorMethods(running.operable as Operable, status) };
    await new ControlServer({ path: config.controlSocket, logger, methods: control }).listen();
    // Without metrics: what makes their text cannot be bundled.
    if (page !== null) await serveHttp(running, async () => '', page, logger);
  },

  /** One request of the kernel; answered when the daemon answers it. */
  ask(one: LogRequest): Promise<LogAnswer> {
    const number = seq++;
    const frame = new Uint8Array(1024);
    const { type, luid, uuid } = one;
    const end = encodeRequestInto(frame, 0, {
      type,
      version: 3,
      seq: number,
      luid: { low: luid, high: 0xffff8880 },
      uuid,
      data: dataOf(one),
    });
    return new Promise((resolve) => {
      waiting.set(number, resolve);
      transport?.deliver(frame.subarray(0, end));
    });
  },

  /** The table that was wanted is exchanged, or why not. */
  reloaded(problem: string | null): void {
    endTableCommand(problem === null ? null : new Error(problem));
  },

  /** What is known of a log. */
  view({ uuid, dirty }: { uuid: string; dirty: boolean }): View | null {
    const replica = replicas.get(uuid);
    if (replica === undefined) return null;
    const { member, mirror } = replica;
    const state = member?.state ?? null;
    const dirtyRegions: number[] = [];
    for (let region = 0; dirty && state !== null && region < state.regionCount; region++) {
      if (!state.clean.get(region)) dirtyRegions.push(region);
    }
    return {
      phase: member?.phase ?? 'none',
      mirror,
      operational: replica.operational,
      quorate: member?.quorate ?? false,
      agreedRing: member === null ? null : { ...member.agreedRing },
      position: state?.position ?? 0,
      hash: state === null ? '' : `${state.hash.high}.${state.hash.low}`,
      inSync: state?.inSyncCount ?? 0,
      members: state?.nodes.size ?? 0,
      writer: member?.writer ?? 0,
      needReload: [...(state?.needReload ?? [])],
      unclear: (state?.stale.count ?? 0) + (state?.givenUp.count ?? 0),
      dirty: dirtyRegions,
      counters: { ...(member?.counters ?? {}) },
    };
  },

  /** What was stated since the last call. */
  stated(): Stated[] {
    const all = stated;
    stated = [];
    return all;
  },

  /** Of the whole state, whatever its size; empty while there is none. */
  digest(uuid: string): string {
    const state = replicas.get(uuid)?.state;
    return state == null ? '' : digestOf(state);
  },

  /** The process ends by SIGKILL with the so many-th piece of a snapshot that it sends. */
  dieWithPiece(count: number): void {
    piecesLeft = count;
  },

  async stop(): Promise<void> {
    await daemon?.stop('asked to');
  },
};
export type DaemonMethods = typeof methods;

const tell = serveLines<DaemonEvent>(methods);
