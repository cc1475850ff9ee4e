import {
  DecodeCode,
  decodeReply,
  decodeRequest,
  encodeReplyInto,
  encodeRequestInto,
  FrameView,
  type FullReply,
  RequestType,
} from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import { hex, traces } from './fixtures.js';

const SLOT_BYTES = 1024;

/** Answers the request under `view` in place with what the recorded reply says. */
function answerInPlace(view: FrameView, reply: FullReply): number {
  if (reply.error < 0) return view.replyError(reply.error);
  const words = new DataView(reply.data.buffer, reply.data.byteOffset, reply.data.byteLength);
  const number = (at: number) => Number(words.getBigUint64(at, true));
  switch (view.expectedReplyBytes()) {
    case 8:
      return view.replyValue(number(0));
    case 16:
      return view.replyPair(number(0), number(8));
    default:
      return reply.data.length === 0 ? view.replyEmpty(0) : view.replyBytes(reply.data);
  }
}

it('has all the recordings', () => {
  expect(traces.length).toBe(8);
  expect(traces.reduce((sum, [, trace]) => sum + trace.records.length, 0)).toBe(1961);
});

describe.each(traces)('%s', (_name, { records }) => {
  it('decodes every frame from the kernel, and encodes it back byte for byte', () => {
    for (const { frame } of records.filter(({ dir }) => dir === 'from-kernel')) {
      const request = decodeRequest(frame);
      const target = new Uint8Array(SLOT_BYTES).fill(0xa5);
      const end = encodeRequestInto(target, 3, request);
      expect(hex(target.subarray(3, end))).toBe(hex(frame));
      expect(new FrameView(frame).decode(0, frame.length)).toBe(DecodeCode.OK);
    }
  });

  it('decodes every frame to the kernel, and encodes it back byte for byte', () => {
    for (const { frame } of records.filter(({ dir }) => dir === 'to-kernel')) {
      const target = new Uint8Array(SLOT_BYTES).fill(0xa5);
      const end = encodeReplyInto(target, 5, decodeReply(frame));
      expect(hex(target.subarray(5, end))).toBe(hex(frame));
    }
  });

  it.each([0, 1, 2, 3])(
    'answers every request in place with the recorded bytes, at offset 4n + %d',
    (shift) => {
      const arena = new Uint8Array(3 * SLOT_BYTES);
      const view = new FrameView(arena, SLOT_BYTES);
      const offset = SLOT_BYTES + shift;
      const requests = new Map<number, Uint8Array>();
      let answered = 0;
      for (const { dir, frame } of records) {
        if (dir === 'from-kernel') {
          requests.set(decodeRequest(frame).seq, frame);
          continue;
        }
        const reply = decodeReply(frame) as FullReply;
        const request = requests.get(reply.seq) as Uint8Array;
        arena.fill(0xa5);
        arena.set(request, offset);
        expect(view.decode(offset, request.length)).toBe(DecodeCode.OK);
        const length = answerInPlace(view, reply);
        expect(hex(arena.subarray(offset, offset + length))).toBe(hex(frame));
        expect(arena.subarray(0, offset).every((byte) => byte === 0xa5)).toBe(true);
        answered++;
      }
      expect(answered).toBeGreaterThan(0);
    },
  );
});

describe('the recorded content', () => {
  const all = traces.flatMap(([name, { records }]) =>
    records.filter(({ dir }) => dir === 'from-kernel').map(({ frame }) => ({ name, frame })),
  );
  const view = (frame: Uint8Array) => {
    const it = new FrameView(frame);
    expect(it.decode(0, frame.length)).toBe(DecodeCode.OK);
    return it;
  };

  it('tells the first CTR from a reconnecting one by its NUL', () => {
    const constructors = all
      .filter(({ name }) => name === 'unknown-log-reconnect.jsonl')
      .map(({ frame }) => view(frame))
      .filter(({ type }) => type === RequestType.CTR);
    expect(constructors.map((it) => [it.nulTerminated, it.text()])).toEqual([
      [false, '16384 core 1024'],
      [true, '16384 core 1024'],
    ]);
    for (const it of constructors) expect(it.uuidText()).toBe('LVM-kq3sT0fVt4jdVrD0PzZTw1xJmQkVq8uC');
  });

  it('finds regions to mark in FLUSH', () => {
    const flushes = all
      .filter(({ name }) => name === 'core-nosync-integrated-flush.jsonl')
      .map(({ frame }) => view(frame))
      .filter(({ type, regionCount }) => type === RequestType.FLUSH && regionCount > 0);
    expect(flushes.length).toBe(8);
    for (const flush of flushes) expect(flush.region(0)).toBeLessThan(16);
  });

  it('reads in sync from SET_REGION_SYNC', () => {
    const sets = all
      .map(({ frame }) => view(frame))
      .filter(({ type }) => type === RequestType.SET_REGION_SYNC);
    expect(sets.length).toBe(115);
    expect(sets.every((it) => it.inSync() && it.region(0) < 64)).toBe(true);
  });
});
