/**
 * singled with faults put in at its edges, for scenarios: the same parts, assembled with a transport that loses replies and devices that lie.
 * The daemon itself knows nothing of it. Faults come as JSON in `DMLOG_FAULTS`; the command line is singled's own.
 */
import { close as closeFile, constants, open, read, write } from 'node:fs';
import {
  NO_REPLY,
  openTransport,
  REPLY_LATER,
  type Transport,
  type TransportOptions,
} from '@dmlog/connector';
import {
  createLogger,
  endProcess,
  loadConfig,
  type OpenedStore,
  openStore,
  runDaemon,
  type ServeParts,
  serve,
} from '@dmlog/daemon';
import { Errno, FrameView, RequestType } from '@dmlog/protocol';
import { RequestFaultPlan, type RequestFaults } from './request-faults.js';

/**
 * What goes wrong. Of the request faults, `loseReply`: served, but the reply is lost, so the kernel repeats after 15 s under a new seq.
 * `loseRequest`: lost before it is served. `unknown`: answered -ESRCH although the log is known.
 */
export interface Faults extends RequestFaults {
  /** Hints the first region that is out of sync, instead of the region count less one. */
  readonly honestHint?: boolean;
  /** Says that the legs were flushed without doing it. */
  readonly noLegFlush?: boolean;
  /** Writes the log without waiting for stable media. */
  readonly noMediaFlush?: boolean;
  /** Says at once that a write of the log is on stable media, and makes it so much later. */
  readonly lateLogWritesMs?: number;
}

const faults: Faults = JSON.parse(process.env['DMLOG_FAULTS'] ?? '{}');

function faultyTransport(options: TransportOptions): Transport {
  const inner = openTransport(options);
  const view = new FrameView(inner.arena);
  const plan = new RequestFaultPlan(faults, inner.arena, (line) => {
    process.stderr.write(`${JSON.stringify(line)}\n`);
  });
  const lostSeqs = new Set<number>();
  let firstOutOfSync = 0;

  return {
    name: inner.name,
    arena: inner.arena,
    port: inner.port,
    receiveBufferBytes: inner.receiveBufferBytes,
    handOver: inner.handOver,
    stats: () => inner.stats(),
    close: () => inner.close(),
    send: (bytes, port) => {
      // Late replies are acks or CTR's full form; the seq stands at 20 in the one, at 184 in the other.
      const seq = new DataView(bytes.buffer, bytes.byteOffset).getUint32(
        bytes.byteLength === 36 ? 20 : 184,
        true,
      );
      if (!lostSeqs.delete(seq)) inner.send(bytes, port);
    },
    start: (handler) => {
      inner.start((offset, length, port) => {
        if (view.decode(offset, length) !== 0) return handler(offset, length, port);
        const { type, seq } = view;
        const struck = plan.strike(view);
        if (struck === 'loseRequest') return NO_REPLY;
        if (struck === 'unknown') return view.replyError(-Errno.ESRCH);
        if (faults.honestHint === true && type === RequestType.IS_REMOTE_RECOVERING)
          return view.replyPair(0, firstOutOfSync);
        const lose = struck === 'loseReply';
        if (type === RequestType.SET_REGION_SYNC && view.inSync() && view.region(0) === firstOutOfSync)
          firstOutOfSync++;
        const reply = handler(offset, length, port);
        if (lose && reply === REPLY_LATER) lostSeqs.add(seq);
        if (lose && reply !== REPLY_LATER) return NO_REPLY;
        return reply;
      });
    },
  };
}

async function faultyStore(path: string): Promise<OpenedStore> {
  const opened = await openStore(path, { allowRegularFile: false });
  const legs =
    faults.noLegFlush === true
      ? { ...opened.legs, flush: (done: Done) => setImmediate(done, null) }
      : opened.legs;
  let store = faults.noMediaFlush === true ? await unsafeStore(path, opened) : opened.store;
  if (faults.lateLogWritesMs !== undefined) store = lateStore(store, faults.lateLogWritesMs);
  return { ...opened, store, legs };
}

type Done = (error: Error | null) => void;

function lateStore(store: OpenedStore['store'], milliseconds: number): OpenedStore['store'] {
  return {
    deviceNumber: store.deviceNumber,
    readImage: (image, done) => store.readImage(image, done),
    writeRuns: (image, runs, count, done) => {
      const then = runs.slice(0, 2 * count);
      setTimeout(() => store.writeRuns(image, then, count, () => {}), milliseconds);
      setImmediate(done, null);
    },
    close: () => store.close(),
  };
}

/** Writes with O_DIRECT, but neither O_DSYNC nor a flush after it: what a volatile cache may lose, it loses. */
async function unsafeStore(path: string, opened: OpenedStore): Promise<OpenedStore['store']> {
  const fd = await new Promise<number>((resolve, reject) => {
    open(path, constants.O_RDWR | constants.O_DIRECT, (error, found) =>
      error === null ? resolve(found) : reject(error),
    );
  });
  opened.store.close();
  const writeRun = (
    image: Uint8Array,
    runs: readonly number[],
    index: number,
    count: number,
    done: Done,
  ): void => {
    if (index === count) return done(null);
    const offset = runs[2 * index] as number;
    write(fd, image, offset, runs[2 * index + 1] as number, offset, (error) => {
      if (error !== null) done(error);
      else writeRun(image, runs, index + 1, count, done);
    });
  };
  return {
    deviceNumber: opened.store.deviceNumber,
    readImage: (image, done) => read(fd, image, 0, image.byteLength, 0, (error) => done(error)),
    writeRuns: (image, runs, count, done) => writeRun(image, runs, 0, count, done),
    close: () => closeFile(fd, () => {}),
  };
}

const parts: ServeParts = { openTransport: faultyTransport, openStore: faultyStore };
const args = process.argv.slice(2);
const lazyAt = args.indexOf('--lazy-clear-ms');
const { logger } = createLogger({ name: 'faulty-singled', level: 'debug' });
const config = loadConfig({ flags: lazyAt < 0 ? {} : { lazyClearMs: Number(args[lazyAt + 1]) } });
runDaemon({
  config,
  logger,
  serve: (settings, log) => serve(settings, log, parts),
  endNow: (code) => endProcess(code),
}).then((code) => endProcess(code));
