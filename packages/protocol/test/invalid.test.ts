import {
  DecodeCode,
  DecodeError,
  decodeCodeMessage,
  decodeCodeName,
  decodeReply,
  decodeRequest,
  encodeAckInto,
  encodeReplyInto,
  encodeRequestInto,
  FrameView,
  NO_REPLY_BYTES,
  parseTrace,
  TraceError,
} from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import { frameOf, request } from './frames.js';

const u16 = (at: number, value: number) => (frame: DataView) => frame.setUint16(at, value, true);
const u32 = (at: number, value: number) => (frame: DataView) => frame.setUint32(at, value, true);
const bytes = (count: number) => new Uint8Array(count).fill(1);

interface InvalidCase {
  id: string;
  frame: Uint8Array;
  edit?: (frame: DataView) => void;
  code: DecodeCode;
  answerable: boolean;
}

const C = DecodeCode;
const invalid: InvalidCase[] = [
  { id: 'an empty datagram', frame: bytes(0), code: C.TRUNCATED, answerable: false },
  { id: 'an ack', frame: frameOf().slice(0, 36), code: C.TRUNCATED, answerable: false },
  {
    id: 'one byte less than the headers',
    frame: frameOf().slice(0, 195),
    code: C.TRUNCATED,
    answerable: false,
  },
  { id: 'nlmsg_len 195', frame: frameOf(), edit: u32(0, 195), code: C.BAD_NETLINK_LENGTH, answerable: false },
  {
    id: 'nlmsg_len past the datagram',
    frame: frameOf(),
    edit: u32(0, 205),
    code: C.BAD_NETLINK_LENGTH,
    answerable: false,
  },
  {
    id: 'nlmsg_len 2^32 - 1',
    frame: frameOf(),
    edit: u32(0, 0xffffffff),
    code: C.BAD_NETLINK_LENGTH,
    answerable: false,
  },
  { id: 'NLMSG_ERROR', frame: frameOf(), edit: u16(4, 2), code: C.BAD_NETLINK_TYPE, answerable: false },
  { id: 'a process event', frame: frameOf(), edit: u32(16, 1), code: C.BAD_CONNECTOR_ID, answerable: false },
  {
    id: 'connector value 2',
    frame: frameOf(),
    edit: u32(20, 2),
    code: C.BAD_CONNECTOR_ID,
    answerable: false,
  },
  {
    id: 'cn len short of data_size',
    frame: frameOf(),
    edit: u16(32, 167),
    code: C.BAD_CONNECTOR_LENGTH,
    answerable: true,
  },
  {
    id: 'data_size past cn len',
    frame: frameOf(),
    edit: u32(192, 9),
    code: C.BAD_CONNECTOR_LENGTH,
    answerable: true,
  },
  {
    id: 'data_size that wraps to cn len',
    frame: frameOf(),
    edit: u32(192, 0x10008),
    code: C.BAD_CONNECTOR_LENGTH,
    answerable: true,
  },
  {
    id: 'nlmsg_len short of cn len',
    frame: frameOf(),
    edit: u32(0, 203),
    code: C.BAD_CONNECTOR_LENGTH,
    answerable: true,
  },
  {
    id: '129 characters of uuid',
    frame: frameOf(),
    edit: (frame) => new Uint8Array(frame.buffer).fill(0x61, 44, 44 + 129),
    code: C.BAD_UUID,
    answerable: true,
  },
  { id: 'version 0', frame: frameOf({ version: 0 }), code: C.BAD_VERSION, answerable: true },
  { id: 'version 4', frame: frameOf({ version: 4 }), code: C.BAD_VERSION, answerable: true },
  { id: 'type 0', frame: frameOf({ type: 0 }), code: C.BAD_TYPE, answerable: true },
  { id: 'type 18', frame: frameOf({ type: 18 }), code: C.BAD_TYPE, answerable: true },
  { id: 'type 255', frame: frameOf({ type: 255 }), code: C.BAD_TYPE, answerable: true },
  {
    id: 'CTR without a string',
    frame: frameOf({ type: 1, data: bytes(0) }),
    code: C.BAD_PAYLOAD,
    answerable: true,
  },
  ...[7, 8, 17].flatMap((type) =>
    [0, 4, 7, 9, 16].map((size) => ({
      id: `type ${type} with ${size} bytes`,
      frame: frameOf({ type, data: bytes(size) }),
      code: C.BAD_PAYLOAD,
      answerable: true,
    })),
  ),
  ...[0, 8, 15, 17, 24].map((size) => ({
    id: `SET_REGION_SYNC with ${size} bytes`,
    frame: frameOf({ type: 13, data: bytes(size) }),
    code: C.BAD_PAYLOAD,
    answerable: true,
  })),
  ...[10, 11].flatMap((type) =>
    [0, 7, 12, 42 * 8].map((size) => ({
      id: `type ${type} with ${size} bytes`,
      frame: frameOf({ type, data: bytes(size) }),
      code: C.BAD_PAYLOAD,
      answerable: true,
    })),
  ),
  ...[7, 12, 42 * 8].map((size) => ({
    id: `FLUSH with ${size} bytes`,
    frame: frameOf({ type: 9, data: bytes(size) }),
    code: C.BAD_PAYLOAD,
    answerable: true,
  })),
];

describe('a frame is refused', () => {
  it.each(invalid)('$id', ({ frame, edit, code, answerable }) => {
    edit?.(new DataView(frame.buffer));
    const arena = new Uint8Array(2048).fill(0xa5);
    arena.set(frame, 512);
    const view = new FrameView(arena);
    expect(decodeCodeName(view.decode(512, frame.length))).toBe(decodeCodeName(code));
    expect(view.answerable).toBe(answerable);
    expect([view.dataSize, view.regionCount, view.region(0), view.inSync(), view.text()]).toEqual([
      0,
      0,
      Number.POSITIVE_INFINITY,
      false,
      '',
    ]);
    expect(view.seq).toBe(answerable ? 1 : 0);
    expect(view.replyError(-22) > 0).toBe(answerable);
    const error = thrownBy(() => decodeRequest(frame)) as DecodeError;
    expect(error).toBeInstanceOf(DecodeError);
    expect(error).toMatchObject({ code: 'ERR_DECODE', decodeCode: code, frameBytes: frame.length });
    expect(error.message).toContain(decodeCodeMessage(code));
  });

  it.each([
    [-1, 204],
    [0, -1],
    [0.5, 204],
    [0, 204.5],
    [Number.NaN, 204],
    [0, Number.NaN],
    [0, Number.POSITIVE_INFINITY],
    [2 ** 32, 204],
    [2 ** 53, 204],
    [1, 204],
    [204, 1],
  ])('when [%d, + %d) is no range of an arena of 204 bytes', (offset, length) => {
    const view = new FrameView(frameOf());
    expect(view.decode(0, 204)).toBe(DecodeCode.OK);
    expect(view.decode(offset, length)).toBe(DecodeCode.BAD_RANGE);
    expect([view.answerable, view.type, view.seq, view.replyAck(0)]).toEqual([false, 0, 0, NO_REPLY_BYTES]);
  });
});

describe('a reply is refused', () => {
  const full = () => {
    const target = new Uint8Array(204);
    encodeReplyInto(target, 0, { kind: 'full', error: 0, ...request() });
    return target;
  };
  it.each([
    ['35 bytes', new Uint8Array(35), undefined, C.TRUNCATED],
    ['nlmsg_len 35', full(), u32(0, 35), C.BAD_NETLINK_LENGTH],
    ['nlmsg_len past the end', full(), u32(0, 205), C.BAD_NETLINK_LENGTH],
    ['nlmsg_type 2', full(), u16(4, 2), C.BAD_NETLINK_TYPE],
    ['a foreign connector id', full(), u32(16, 8), C.BAD_CONNECTOR_ID],
    ['between the two forms', full(), u32(0, 100), C.BAD_CONNECTOR_LENGTH],
    ['cn len 1', full(), u16(32, 1), C.BAD_CONNECTOR_LENGTH],
    ['data past nlmsg_len', full(), u32(0, 200), C.BAD_CONNECTOR_LENGTH],
    ['version 4', full(), u32(176, 4), C.BAD_VERSION],
    ['type 18', full(), u32(188, 18), C.BAD_TYPE],
  ] as const)('%s', (_id, frame, edit, code) => {
    edit?.(new DataView(frame.buffer));
    expect(thrownBy(() => decodeReply(frame))).toMatchObject({ code: 'ERR_DECODE', decodeCode: code });
  });
});

describe('a reply is not written', () => {
  it.each([
    ['data past the room of a slot', (view: FrameView) => view.replyBytes(bytes(829))],
    ['a negative number', (view: FrameView) => view.replyValue(-1)],
    ['a fraction', (view: FrameView) => view.replyValue(0.5)],
    ['NaN', (view: FrameView) => view.replyPair(0, Number.NaN)],
    [
      'Infinity, the region that does not exist',
      (view: FrameView) => view.replyPair(1, Number.POSITIVE_INFINITY),
    ],
    ['a positive error', (view: FrameView) => view.replyEmpty(5)],
    ['an error 0', (view: FrameView) => view.replyError(0)],
    ['a negative errno', (view: FrameView) => view.replyAck(-5)],
    ['an errno that is no integer', (view: FrameView) => view.replyAck(0.5)],
    ['an infinite error', (view: FrameView) => view.replyError(Number.NEGATIVE_INFINITY)],
  ])('with %s', (_id, reply) => {
    const arena = new Uint8Array(4096);
    arena.set(frameOf());
    const before = arena.slice();
    const view = new FrameView(arena, 1024);
    view.decode(0, 204);
    expect(() => reply(view)).toThrow(RangeError);
    expect(arena).toEqual(before);
  });

  it('past the end of the arena', () => {
    const arena = frameOf({ type: 14, data: bytes(0) });
    const view = new FrameView(arena);
    expect(view.decode(0, 196)).toBe(DecodeCode.OK);
    expect(() => view.replyValue(1)).toThrow(RangeError);
    expect(view.replyEmpty(0)).toBe(196);
  });

  it('by the encoders, when it does not fit, or the uuid is none', () => {
    const target = new Uint8Array(204);
    expect(() => encodeAckInto(target, 169, 1, 0)).toThrow(RangeError);
    expect(() => encodeAckInto(target, -1, 1, 0)).toThrow(RangeError);
    expect(() => encodeAckInto(target, 0, 1, -1)).toThrow(RangeError);
    expect(() => encodeRequestInto(target, 1, request())).toThrow(RangeError);
    expect(() => encodeRequestInto(target, 0, request({ uuid: 'u'.repeat(129) }))).toThrow(RangeError);
    expect(() => encodeRequestInto(target, 0, request({ uuid: 'a\0b' }))).toThrow(RangeError);
    expect(() => encodeRequestInto(target, 0, request({ uuid: '\u0100' }))).toThrow(RangeError);
    expect(() => encodeReplyInto(target, 0, { kind: 'full', error: 1, ...request() })).toThrow(RangeError);
    expect(target).toEqual(new Uint8Array(204));
  });
});

describe('a trace is refused', () => {
  const header = '{"format":"dm-ulog-trace/1"}';
  it.each([
    ['', 1],
    ['{"format":"dm-ulog-trace/2"}', 1],
    ['nonsense', 1],
    [`${header}\n[`, 2],
    [`${header}\n{"us":"1","dir":"to-kernel","hex":""}`, 2],
    [`${header}\n\n{"us":1,"dir":"to-moon","hex":""}`, 3],
    [`${header}\n{"us":1,"dir":"to-kernel","hex":"abc"}`, 2],
  ])('%j', (text, line) => {
    const error = thrownBy(() => parseTrace(text));
    expect(error).toBeInstanceOf(TraceError);
    expect(error).toMatchObject({ code: 'ERR_TRACE', line });
  });
});

function thrownBy(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  return undefined;
}
