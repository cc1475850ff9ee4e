import { readFileSync } from 'node:fs';
import { type LoopbackTransport, loopbackTransport } from '@dmlog/connector';
import { createLogger, loadConfig, type OpenedStore, serve } from '@dmlog/daemon';
import { imageBytes, parseConstructor } from '@dmlog/log';
import { decodeRequest, parseTrace, RequestType, type TraceRecord } from '@dmlog/protocol';
import type { Environment } from '../environment.js';
import { ExitCode } from '../exit-codes.js';
import { TracePrinter } from './daemon-commands.js';

/** Turns of the event loop that an answer may take: everything is in memory. */
const TURNS_MAX = 1000;

/** `replay`: a fresh daemon, log device in memory, is asked what the recorded kernel asked; its answers are compared with the recorded ones. */
export async function replay(
  file: string,
  { verbose }: { verbose?: boolean },
  { out }: Environment,
): Promise<number> {
  const { header, records } = parseTrace(readFileSync(file, 'utf8'));
  const recorded = new Map(
    records.filter(({ dir }) => dir === 'to-kernel').map(({ frame }) => [seqOfReply(frame), frame]),
  );
  const answers = new Map<number, Uint8Array>();
  let transport: LoopbackTransport | undefined;
  const logging = createLogger({ name: 'replay', level: 'silent' });
  const daemon = await serve(loadConfig({ flags: { logLevel: 'silent', lazyClearMs: 0 } }), logging.logger, {
    openTransport: (options) => {
      transport = loopbackTransport({
        ...options,
        onReply: (bytes) => void answers.set(seqOfReply(bytes), bytes),
      });
      return transport;
    },
    openState: () => null,
    openStore: async (device) => memoryStore(device, recordedImageBytes(records)),
    findName: async () => null,
  });
  const printer = new TracePrinter();
  const totals = { requests: 0, same: 0, different: 0, unanswered: 0, notRecorded: 0 };
  const firstSeqs = new Set<number>();
  for (const record of records) {
    if (record.dir !== 'from-kernel') continue;
    const seq = sequenceOf(record.frame);
    firstSeqs.add(seq);
    totals.requests++;
    (transport as LoopbackTransport).deliver(record.frame);
    for (let turn = 0; turn < TURNS_MAX && !answers.has(seq); turn++)
      await new Promise((resolve) => setImmediate(resolve));
    const [answer, wanted] = [answers.get(seq), recorded.get(seq)];
    const verdict = compare(answer, wanted);
    totals[verdict]++;
    if (verbose === true || verdict === 'different' || verdict === 'unanswered') {
      out(printer.line(lineOf(record)));
      if (answer !== undefined)
        out(printer.line({ us: record.us, dir: 'to-kernel', hex: Buffer.from(answer).toString('hex') }));
      if (wanted !== undefined && verdict !== 'same')
        out(`     recorded: ${Buffer.from(wanted).toString('hex')}\n`);
    }
  }
  await daemon.stop('the trace has ended');
  await logging.close(1000);
  out(
    `${header.scenario}: ${totals.requests} requests, ${totals.same} answered as recorded, ${totals.different} otherwise, ${totals.unanswered} not, ${totals.notRecorded} without a recorded answer\n`,
  );
  return totals.different + totals.unanswered === 0 ? ExitCode.OK : ExitCode.FOUND;
}

const lineOf = ({ us, dir, frame }: TraceRecord) => ({ us, dir, hex: Buffer.from(frame).toString('hex') });

function compare(
  answer: Uint8Array | undefined,
  wanted: Uint8Array | undefined,
): 'same' | 'different' | 'unanswered' | 'notRecorded' {
  if (wanted === undefined) return 'notRecorded';
  if (answer === undefined) return 'unanswered';
  return meaningOf(answer) === meaningOf(wanted) ? 'same' : 'different';
}

const word = (bytes: Uint8Array, at: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(at, true);
const isAck = (bytes: Uint8Array): boolean => (word(bytes, 32) & 0xffff) === 0;
const sequenceOf = (bytes: Uint8Array): number => word(bytes, 184);
const seqOfReply = (bytes: Uint8Array): number => (isAck(bytes) ? word(bytes, 24) : sequenceOf(bytes));

/** Errno and data: an acknowledgement means the same as an empty reply. */
function meaningOf(bytes: Uint8Array): string {
  if (isAck(bytes)) return `${word(bytes, 28)} `;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const data = bytes.subarray(196, 196 + view.getUint32(192, true));
  return `${-view.getInt32(180, true)} ${Buffer.from(data).toString('hex')}`.replace('-0 ', '0 ');
}

/** What the largest log of the trace needs. */
function recordedImageBytes(records: readonly TraceRecord[]): number {
  const sizes = records.flatMap(({ dir, frame }) => {
    if (dir !== 'from-kernel') return [];
    const { type, data } = decodeRequest(frame);
    if (type !== RequestType.CTR) return [];
    try {
      return [
        imageBytes(
          parseConstructor(Buffer.from(data).toString('latin1').replace(/\0.*$/s, '')).regionCount,
          4096,
        ),
      ];
    } catch {
      // It is to be refused.
      return [];
    }
  });
  return Math.max(4096, ...sizes);
}

function memoryStore(device: string, bytes: number): OpenedStore {
  const media = new Uint8Array(bytes);
  const number = /^\d+:\d+$/.test(device) ? device : '1:4';
  const later = (done: (error: Error | null) => void) => setImmediate(() => done(null));
  return {
    store: {
      deviceNumber: number,
      readImage: (image, done) => {
        image.set(media.subarray(0, image.byteLength));
        later(done);
      },
      writeRuns: (image, runs, count, done) => {
        for (let i = 0; i < count; i++) {
          const offset = runs[2 * i] as number;
          media.set(image.subarray(offset, offset + (runs[2 * i + 1] as number)), offset);
        }
        later(done);
      },
      close: () => {},
    },
    legs: { flush: later, invalidate: () => {}, close: () => {} },
    kernelName: number,
    held: null,
    sizeBytes: bytes,
    logicalBlockBytes: 512,
    blockBytes: 512,
  };
}
