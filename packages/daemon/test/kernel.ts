import { type LoopbackTransport, loopbackTransport } from '@dmlog/connector';
import { imageBytes } from '@dmlog/log';
import { decodeReply, encodeRequestInto, type FullReply, type Reply, RequestType } from '@dmlog/protocol';
import pino from 'pino';
import type { DaemonConfig } from '../src/config/schema.js';
import type { OpenedStore } from '../src/opened-store.js';
import { type ServeParts, serve } from '../src/serve.js';
import type { RunningDaemon, ServeStart } from '../src/serve-types.js';

const CONFIG: DaemonConfig = {
  runtimeDir: '/nonexistent',
  controlSocket: '/nonexistent/socket',
  logLevel: 'silent',
  receiveBufferBytes: 1 << 20,
  lazyClear: { milliseconds: 0, regionsMax: 1000 },
  cluster: { reload: 'off' },
  transport: 'auto',
  unsafeAcceptUserRequests: false,
};

/** A log device in memory. I/O ends on a later turn of the event loop, as real I/O does. */
export class MemoryDevice {
  readonly media: Uint8Array;
  readonly deviceNumber: string;
  writes = 0;
  bytesWritten = 0;
  legFlushes = 0;
  closed = 0;
  opened = 0;
  failReads = false;
  failWrites = false;
  failLegs = false;
  /** Whether a mirror holds it in the kernel. */
  held: boolean | null = true;
  /** Awaited before it is opened. */
  beforeOpen: () => Promise<void> = async () => {};
  /** Told before each write is on the medium; may hold it back until it resolves. */
  beforeWrite: () => Promise<void> = async () => {};
  /** Awaited before a flush of the legs ends. */
  beforeLegsFlushed: () => Promise<void> = async () => {};

  readonly kernelName: string;

  constructor(regions: number, deviceNumber = '254:3', kernelName = deviceNumber) {
    this.kernelName = kernelName;
    this.media = new Uint8Array(imageBytes(regions, 512));
    this.deviceNumber = deviceNumber;
  }

  open(): OpenedStore {
    this.opened++;
    const later = (fail: boolean, done: (error: Error | null) => void) =>
      setImmediate(() => done(fail ? new Error('simulated I/O error') : null));
    return {
      store: {
        deviceNumber: this.deviceNumber,
        readImage: (image, done) => {
          if (!this.failReads) image.set(this.media.subarray(0, image.byteLength));
          later(this.failReads, done);
        },
        writeRuns: (image, runs, count, done) => {
          this.writes++;
          const copies = Array.from({ length: count }, (_, i) => {
            const offset = runs[2 * i] as number;
            return { offset, bytes: image.slice(offset, offset + (runs[2 * i + 1] as number)) };
          });
          this.beforeWrite().then(() => {
            if (!this.failWrites) {
              for (const { offset, bytes } of copies) {
                this.media.set(bytes, offset);
                this.bytesWritten += bytes.byteLength;
              }
            }
            later(this.failWrites, done);
          });
        },
        close: () => void this.closed++,
      },
      legs: {
        flush: (done) => {
          this.legFlushes++;
          this.beforeLegsFlushed().then(() => later(this.failLegs, done));
        },
        invalidate: () => {},
        close: () => {},
      },
      kernelName: this.kernelName,
      held: this.held,
      sizeBytes: this.media.byteLength,
      logicalBlockBytes: 512,
      blockBytes: 512,
    };
  }

  isClean(region: number): boolean {
    return (((this.media[1024 + (region >>> 3)] as number) >> (region & 7)) & 1) === 1;
  }
}

/** The kernel's side of a daemon over the loopback transport. */
export class Kernel {
  readonly daemon: RunningDaemon;
  readonly transport: LoopbackTransport;
  readonly lines: Record<string, unknown>[];
  readonly #replies: Map<number, Reply>;
  #seq = 1;

  private constructor(
    daemon: RunningDaemon,
    transport: LoopbackTransport,
    replies: Map<number, Reply>,
    lines: Record<string, unknown>[],
  ) {
    this.daemon = daemon;
    this.transport = transport;
    this.#replies = replies;
    this.lines = lines;
  }

  static async start(
    devices: Record<string, MemoryDevice> = {},
    config: Partial<DaemonConfig> = {},
    options: Pick<ServeParts, 'openState' | 'cluster'> & { firstSeq?: number; start?: ServeStart } = {},
  ): Promise<Kernel> {
    const replies = new Map<number, Reply>();
    const lines: Record<string, unknown>[] = [];
    const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
    let transport: LoopbackTransport | undefined;
    const parts: ServeParts = {
      openTransport: (options) => {
        transport = loopbackTransport({
          ...options,
          onReply: (bytes) => {
            const reply = decodeReply(bytes);
            replies.set(reply.seq, reply);
          },
        });
        return transport;
      },
      openState: options.openState ?? (() => null),
      ...(options.cluster === undefined ? {} : { cluster: options.cluster }),
      openStore: async (path) => {
        const device = devices[path];
        if (device === undefined) throw Object.assign(new Error(`no log device ${path}`), { errno: 2 });
        await device.beforeOpen();
        return device.open();
      },
    };
    const daemon = await serve({ ...CONFIG, ...config }, logger, parts, options.start);
    const kernel = new Kernel(daemon, transport as LoopbackTransport, replies, lines);
    kernel.#seq = options.firstSeq ?? 1;
    return kernel;
  }

  /** Sends a frame as it is. */
  deliver(frame: Uint8Array): void {
    this.transport.deliver(frame);
  }

  replyTo(seq: number): Reply | null {
    return this.#replies.get(seq) ?? null;
  }

  takeReply(seq: number): Reply | null {
    const reply = this.#replies.get(seq) ?? null;
    this.#replies.delete(seq);
    return reply;
  }

  /** Waits for the reply to `seq`; null when none came within some turns of the event loop. */
  async settled(seq: number, turns = 50): Promise<Reply | null> {
    for (let i = 0; i < turns && !this.#replies.has(seq); i++)
      await new Promise((resolve) => setImmediate(resolve));
    return this.takeReply(seq);
  }

  async ask(log: TestLog, type: RequestType, ...values: number[]): Promise<Reply | null> {
    return this.settled(this.send(log, type, u64s(values)));
  }

  send(log: TestLog, type: RequestType, data: Uint8Array, version = 3): number {
    const seq = this.#seq++;
    const frame = new Uint8Array(1024);
    const end = encodeRequestInto(frame, 0, { type, version, seq, luid: log.luid, uuid: log.uuid, data });
    this.deliver(frame.subarray(0, end));
    return seq;
  }

  /** CTR; `reconnect` ends the text with a NUL, as the kernel does then. */
  construct(log: TestLog, text: string, reconnect = false, version = 3): Promise<Reply | null> {
    const data = new TextEncoder().encode(reconnect ? `${text}\0` : text);
    return this.settled(this.send(log, RequestType.CTR, data, version));
  }

  async resume(log: TestLog, text: string): Promise<void> {
    const created = await this.construct(log, text);
    if (errnoOf(created) !== 0) throw new Error(`CTR failed: ${JSON.stringify(created)}`);
    const resumed = await this.ask(log, RequestType.RESUME);
    if (errnoOf(resumed) !== 0) throw new Error(`RESUME failed: ${JSON.stringify(resumed)}`);
  }
}

export interface TestLog {
  readonly uuid: string;
  readonly luid: { readonly low: number; readonly high: number };
}

export const log = (uuid: string, low: number): TestLog => ({ uuid, luid: { low, high: 0xffff8880 } });

export function u64s(values: readonly number[]): Uint8Array {
  const data = new Uint8Array(values.length * 8);
  const words = new DataView(data.buffer);
  values.forEach((value, i) => {
    words.setUint32(8 * i, value >>> 0, true);
    words.setUint32(8 * i + 4, Math.floor(value / 2 ** 32), true);
  });
  return data;
}

/** 0, or the positive errno of either reply form; null for no reply. */
export function errnoOf(reply: Reply | null): number | null {
  if (reply === null) return null;
  return reply.kind === 'ack' ? reply.errno : Math.abs(reply.error);
}

/** The u64s of a full reply. */
export function values(reply: Reply | null): number[] {
  const { data } = reply as FullReply;
  const words = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return Array.from({ length: data.byteLength >> 3 }, (_, i) => Number(words.getBigUint64(8 * i, true)));
}

export function text(reply: Reply | null): string {
  return new TextDecoder().decode((reply as FullReply).data);
}
