import { corosyncGroup } from '@dmlog/cluster';
import { type LoopbackTransport, loopbackTransport } from '@dmlog/connector';
import { createLogger, type DaemonConfig, type RunningDaemon, serve } from '@dmlog/daemon';
import { decodeReply, encodeRequestInto, type Reply, RequestType } from '@dmlog/protocol';

/** Past it a request counts as lost, and the run ends. The kernel would repeat it after 15 s. */
const REPLY_MS_MAX = 15_000;
const FRAME_BYTES = 1024;
const MS_NS = 1e6;

/** All logs have regions of this many sectors: the least, so that the largest count fits a 64-bit device length. */
const REGION_SECTORS = 2;

/** clusterd's own, but for the kernel's side and what lies on a disk. */
const CONFIG: Omit<DaemonConfig, 'runtimeDir'> = {
  controlSocket: '/nonexistent/socket',
  logLevel: 'silent',
  receiveBufferBytes: 1 << 20,
  lazyClear: { milliseconds: 3000, regionsMax: 65_536 },
  cluster: { reload: 'off' },
  transport: 'auto',
  // For logs on files instead of devices.
  unsafeAcceptUserRequests: true,
};

export interface PlayedLog {
  readonly uuid: string;
  readonly luid: { readonly low: number; readonly high: number };
}

export interface Answer {
  readonly ns: number;
  readonly values: number[];
}

/**
 * A kernel and the daemon that answers it, in one process: requests are frames, handed to the daemon's dispatcher in memory instead of through netlink, which the
 * floor does not have either. Everything behind it is clusterd's own: dispatcher, replica, and the group on this node's corosync.
 */
export class BenchKernel {
  readonly #daemon: RunningDaemon;
  readonly #transport: LoopbackTransport;
  readonly #frame = new Uint8Array(FRAME_BYTES);
  #seq = 1;
  /** Called with a reply and when it came. */
  #onReply: (bytes: Uint8Array, atMs: number) => void;
  #replies = 0;

  private constructor(daemon: RunningDaemon, transport: LoopbackTransport) {
    this.#daemon = daemon;
    this.#transport = transport;
    this.#onReply = () => {};
  }

  /** `runtimeDir`: on a tmpfs, for what outlives the daemon. */
  static async start(runtimeDir: string): Promise<BenchKernel> {
    let transport: LoopbackTransport | undefined;
    let kernel: BenchKernel | undefined;
    const { logger } = createLogger({ level: 'error', name: 'clusterd' });
    const daemon = await serve({ ...CONFIG, runtimeDir }, logger, {
      openTransport: (options) => {
        transport = loopbackTransport({ ...options, onReply: (bytes) => kernel?.reply(bytes) });
        return transport;
      },
      cluster: { joinGroup: corosyncGroup(), check: async () => {} },
    });
    kernel = new BenchKernel(daemon, transport as LoopbackTransport);
    return kernel;
  }

  /** @internal */
  reply(bytes: Uint8Array): void {
    this.#replies++;
    this.#onReply(bytes, performance.now());
  }

  /** Sends one request and waits for its reply; throws for one that the kernel would not like. */
  async ask(log: PlayedLog, type: RequestType, values: readonly number[] = []): Promise<Answer> {
    return this.#request(log, type, u64s(values));
  }

  /** CTR and RESUME; returns how long the latter took, in ns. `args` as in a table line from the log type on, but for the region size: `clustered-core nosync`, `clustered-disk /path nosync`. */
  async open(log: PlayedLog, args: string, regions: number): Promise<number> {
    const words = args.split(' ');
    const isPath = (word: string | undefined) => word?.startsWith('/') === true;
    words.splice(isPath(words[1]) ? 2 : 1, 0, String(REGION_SECTORS));
    const text = `${regions * REGION_SECTORS} ${words.join(' ')}`;
    await this.#request(log, RequestType.CTR, new TextEncoder().encode(text));
    return (await this.ask(log, RequestType.RESUME)).ns;
  }

  /** PRESUSPEND, POSTSUSPEND, DTR. */
  async close(log: PlayedLog): Promise<void> {
    await this.ask(log, RequestType.PRESUSPEND);
    await this.ask(log, RequestType.POSTSUSPEND);
    await this.ask(log, RequestType.DTR);
  }

  /** Frames for {@link playLocal}. */
  frames(log: PlayedLog, requests: readonly (readonly [RequestType, readonly number[]])[]): Uint8Array[] {
    return requests.map(([type, values]) => this.#encode(log, type, u64s(values), this.#seq++).slice());
  }

  /** Ns that it took to answer all of them, which each had to be before the next. */
  playLocal(frames: readonly Uint8Array[]): number {
    this.#onReply = () => {};
    const before = this.#replies;
    const began = performance.now();
    for (const frame of frames) this.#transport.deliver(frame);
    const ended = performance.now();
    if (this.#replies !== before + frames.length)
      throw new Error(`${this.#replies - before} of ${frames.length} requests were answered at once`);
    return (ended - began) * MS_NS;
  }

  /** Messages that this node gave to the log's group so far. */
  sent(log: PlayedLog): number {
    const found = this.#daemon.status().logs.find(({ uuid }) => uuid === log.uuid)?.cluster;
    if (found === undefined) throw new Error(`no clustered log ${log.uuid}`);
    return found.counters['sent']!;
  }

  #encode(log: PlayedLog, type: RequestType, data: Uint8Array, seq: number): Uint8Array {
    const { uuid, luid } = log;
    const end = encodeRequestInto(this.#frame, 0, { type, version: 3, seq, luid, uuid, data });
    return this.#frame.subarray(0, end);
  }

  #request(log: PlayedLog, type: RequestType, data: Uint8Array): Promise<Answer> {
    const seq = this.#seq++;
    const frame = this.#encode(log, type, data, seq);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        const status = JSON.stringify(this.#daemon.status().logs);
        reject(new Error(`no reply to request ${type} in ${REPLY_MS_MAX} ms: ${status}`));
      }, REPLY_MS_MAX);
      let began = 0;
      this.#onReply = (bytes, atMs) => {
        const reply = decodeReply(bytes);
        if (reply.seq !== seq) return;
        clearTimeout(timer);
        const errno = reply.kind === 'ack' ? reply.errno : Math.abs(reply.error);
        if (errno !== 0) reject(new Error(`request ${type}: errno ${errno}`));
        else resolve({ ns: (atMs - began) * MS_NS, values: valuesOf(reply) });
      };
      began = performance.now();
      this.#transport.deliver(frame);
    });
  }
}

function u64s(values: readonly number[]): Uint8Array {
  const data = new Uint8Array(values.length * 8);
  const words = new DataView(data.buffer);
  for (const [i, value] of values.entries()) words.setBigUint64(8 * i, BigInt(value), true);
  return data;
}

function valuesOf(reply: Reply): number[] {
  if (reply.kind === 'ack') return [];
  const { data } = reply;
  const words = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return Array.from({ length: data.byteLength >> 3 }, (_, i) => Number(words.getBigUint64(8 * i, true)));
}
