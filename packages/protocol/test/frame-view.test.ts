/// <reference types="node" />
import {
  DecodeCode,
  decodeReply,
  Errno,
  encodeReplyInto,
  encodeRequestInto,
  FrameView,
  KERNEL_FRAME_BYTES_MAX,
  REGIONS_PER_REQUEST_MAX,
  RequestType,
  requestTypeName,
  uuidKey,
} from '@dmlog/protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { difference } from './compare.js';
import { hex } from './fixtures.js';
import { dataSizeOf, frameOf, request } from './frames.js';

function viewOf(frame: Uint8Array, slotBytes = 1024): FrameView {
  const arena = new Uint8Array(slotBytes);
  arena.set(frame);
  const view = new FrameView(arena);
  expect(view.decode(0, frame.length)).toBe(DecodeCode.OK);
  return view;
}

const u64s = (...values: bigint[]) => new Uint8Array(BigUint64Array.from(values).buffer);

describe('a request', () => {
  it.each([1, 2, 3])('of every type decodes in version %d', (version) => {
    for (const type of Object.values(RequestType)) {
      const view = viewOf(frameOf({ type, version, data: new Uint8Array(dataSizeOf(type)).fill(1) }));
      expect([view.type, view.version]).toEqual([type, version]);
    }
  });

  it('has its type in the low 8 bits; the others are reserved', () => {
    expect(viewOf(frameOf({ type: 0xabcd0000 + RequestType.IN_SYNC })).type).toBe(RequestType.IN_SYNC);
  });

  it.each([RequestType.MARK_REGION, RequestType.CLEAR_REGION, RequestType.FLUSH])(
    'of type %d carries as many regions as the kernel buffer holds',
    (type) => {
      const frame = frameOf({
        type,
        data: u64s(...Array.from({ length: REGIONS_PER_REQUEST_MAX }, (_, i) => BigInt(i))),
      });
      expect(frame.length).toBeLessThanOrEqual(KERNEL_FRAME_BYTES_MAX);
      const view = viewOf(frame);
      expect(view.regionCount).toBe(41);
      for (let i = 0; i < view.regionCount; i++) expect(view.region(i)).toBe(i);
    },
  );

  it.each([1, 2])(
    'FLUSH of version %d has no payload: what stands there is ignored, whatever its size',
    (version) => {
      expect(
        viewOf(frameOf({ type: RequestType.FLUSH, version, data: new Uint8Array(13) })).regionCount,
      ).toBe(0);
    },
  );

  it('reads regions up to 2^53 - 1, and Infinity from 2^53 on', () => {
    const data = u64s(2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 64n - 1n);
    const view = viewOf(frameOf({ type: RequestType.MARK_REGION, data }));
    const none = Number.POSITIVE_INFINITY;
    expect([0, 1, 2, 3].map((i) => view.region(i))).toEqual([2 ** 32, 2 ** 53 - 1, none, none]);
    expect([-1, 4, 0.5, Number.NaN].map((i) => view.region(i))).toEqual([none, none, none, none]);
  });

  it('may have padding inside nlmsg_len, as kernels before 3.14 sent it', () => {
    const frame = frameOf({ type: RequestType.CTR, data: new Uint8Array(21).fill(0x41) });
    new DataView(frame.buffer).setUint32(0, frame.length, true);
    expect(viewOf(frame).text()).toBe('A'.repeat(21));
  });

  it('is found by its whole uuid only', () => {
    const view = viewOf(frameOf({ uuid: 'LVM-ab' }));
    const equals = (text: string) => view.uuidEquals(uuidKey(new TextEncoder().encode(text)));
    expect(['LVM-ab', 'LVM-a', 'LVM-abc', 'LVM-ac', 'KVM-ab', ''].map(equals)).toEqual([
      true,
      false,
      false,
      false,
      false,
      false,
    ]);
  });

  it('names its type', () => {
    expect([1, 10, 17].map(requestTypeName)).toEqual(['CTR', 'MARK_REGION', 'IS_REMOTE_RECOVERING']);
    expect([0, 18, -1, 1.5].map(requestTypeName)).toEqual([
      'UNKNOWN(0)',
      'UNKNOWN(18)',
      'UNKNOWN(-1)',
      'UNKNOWN(1.5)',
    ]);
  });
});

describe('a reply in place', () => {
  it('as ack is 36 bytes: cn seq names the request, ack is a positive errno', () => {
    const arena = frameOf({ seq: 0xfffffffe });
    const view = new FrameView(arena);
    view.decode(0, arena.length);
    expect(view.replyAck(Errno.EAGAIN)).toBe(36);
    expect(hex(arena.subarray(0, 36))).toBe(
      '240000000300000000000000000000000700000001000000feffffff0b00000000000000',
    );
    expect(decodeReply(arena.subarray(0, 36))).toEqual({ kind: 'ack', seq: 0xfffffffe, errno: 11 });
  });

  it.each(Object.entries(RequestType))(
    'with an error states the size of the answer expected: %s',
    (_name, type) => {
      const sizes: Record<number, number> = { 6: 8, 7: 8, 8: 8, 12: 16, 14: 8, 17: 16 };
      const arena = new Uint8Array(1024).fill(0xa5);
      arena.set(frameOf({ type, data: new Uint8Array(dataSizeOf(type)).fill(1) }));
      const view = new FrameView(arena);
      expect(view.decode(0, 512)).toBe(DecodeCode.OK);
      expect(view.expectedReplyBytes()).toBe(sizes[type] ?? 0);
      const reply = decodeReply(arena.slice(0, view.replyError(-Errno.ESRCH)));
      expect(reply).toEqual({
        kind: 'full',
        ...request(),
        type,
        error: -3,
        // A status text has no fixed size: the repeated answer (32 bytes at most) needs room all the same.
        data: new Uint8Array(type === 15 || type === 16 ? 64 : (sizes[type] ?? 0)),
      });
    },
  );

  it('may be written twice: the last one counts', () => {
    const view = viewOf(frameOf());
    const once = viewOf(frameOf());
    view.replyAck(5);
    view.replyPair(7, 8);
    expect([view.replyValue(1), once.replyValue(1)]).toEqual([204, 204]);
    expect(view.uuidText()).toBe(once.uuidText());
  });

  it('allocates nothing', () => {
    const arena = frameOf({ seq: 0xf0000000, luid: { low: 0xffff8881, high: 0xffffffff } });
    const template = arena.slice();
    const uuid = uuidKey(new TextEncoder().encode(request().uuid));
    const view = new FrameView(arena);
    const serve = (count: number) => {
      for (let i = 0; i < count; i++) {
        arena.set(template);
        if (view.decode(0, 204) !== DecodeCode.OK || !view.uuidEquals(uuid)) throw new Error('not served');
        if (i % 2 === 0) view.replyAck(0);
        else view.replyValue(view.region(0) + 1); // V8 may box a number from 2^31 on where a call is not inlined
      }
    };
    serve(200_000);
    const count = 100_000;
    const deltas = Array.from({ length: 5 }, () => {
      const before = process.memoryUsage().heapUsed;
      serve(count);
      return Math.abs(process.memoryUsage().heapUsed - before);
    });
    // One object or boxed number per request would be at least 12 bytes. The runner's own timers make the noise.
    expect(Math.min(...deltas) / count).toBeLessThan(4);
  });
});

describe('properties', () => {
  const messages = fc.record({
    type: fc.integer({ min: 1, max: 17 }),
    version: fc.integer({ min: 1, max: 3 }),
    seq: fc.nat(0xffffffff),
    luid: fc.record({ low: fc.nat(0xffffffff), high: fc.nat(0xffffffff) }),
    uuid: fc
      .uint8Array({ max: 255, min: 1, maxLength: 128 })
      .map((bytes) => Buffer.from(bytes).toString('latin1')),
    data: fc.uint8Array({ maxLength: 340 }),
  });

  it('a request means the same wherever it stands and whatever surrounds it', () => {
    fc.assert(
      fc.property(messages, fc.nat(64), fc.nat(255), (message, offset, canary) => {
        const arena = Buffer.alloc(1024, canary);
        const length = encodeRequestInto(arena, offset, message) - offset;
        const frame = Buffer.from(arena.subarray(offset, offset + length));
        const wide = new FrameView(arena);
        expect(difference(wide, wide.decode(offset, length), frame)).toBe('');
        const exact = new FrameView(frame);
        expect(difference(exact, exact.decode(0, length), frame)).toBe('');
        expect(arena.subarray(offset + length).every((byte) => byte === canary)).toBe(true);
      }),
    );
  });

  it('a reply decodes to what was encoded', () => {
    const full = fc
      .tuple(messages, fc.integer({ min: -4095, max: 0 }))
      .map(([message, error]) => ({ kind: 'full' as const, ...message, error }));
    const ack = fc.record({
      kind: fc.constant('ack' as const),
      seq: fc.nat(0xffffffff),
      errno: fc.nat(4095),
    });
    fc.assert(
      fc.property(fc.oneof(full, ack), fc.nat(9), (reply, offset) => {
        const target = new Uint8Array(600).fill(0xa5);
        const end = encodeReplyInto(target, offset, reply);
        expect(decodeReply(target.subarray(offset, end))).toEqual(reply);
      }),
    );
  });
});
