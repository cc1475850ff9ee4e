/// <reference types="node" />
import { DecodeError, decodeReply, decodeRequest, FrameView, NO_REPLY_BYTES } from '@dmlog/protocol';
import { expect, it } from 'vitest';
import { difference } from './compare.js';
import { hex } from './fixtures.js';
import { DATAGRAM_BYTES_MAX, seedFrames } from './frames.js';

/** Bounded by default; the full campaign is DMLOG_FUZZ_FRAMES=10000000. */
const { DMLOG_FUZZ_FRAMES, DMLOG_FUZZ_SEED } = process.env as Record<string, string | undefined>;
const FRAMES = Number(DMLOG_FUZZ_FRAMES ?? 300_000);
const SEED = Number(DMLOG_FUZZ_SEED ?? 0x5eed) >>> 0;
/** The slow checks (copying decoders, replies, canaries) run on one frame of so many. */
const SLOW_EVERY = 16;
const ARENA_BYTES = 4096;
const SLOT_BYTES = DATAGRAM_BYTES_MAX;
const INTERESTING = [
  0, 1, 3, 7, 8, 16, 36, 41, 159, 160, 168, 176, 196, 204, 328, 336, 0x7f, 0xff, 0xffff, 0x7fffffff,
  0x80000000, 0xffffffff,
];
const FIELDS = [0, 4, 16, 20, 32, 36, 40, 176, 180, 184, 188, 192, 196, 200, 204, 208];

/** xorshift32. */
function generator(seed: number): (limit: number) => number {
  let state = seed || 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

/** Writes a random or mutated datagram to the start of `scratch` and returns its length. */
function draw(random: (limit: number) => number, seeds: readonly Uint8Array[], scratch: Buffer): number {
  if (random(16) === 0) {
    const length = random(300);
    for (let i = 0; i < length; i++) scratch[i] = random(256);
    return length;
  }
  const seed = seeds[random(seeds.length)] as Uint8Array;
  scratch.set(seed);
  let length = seed.length;
  for (let mutations = random(4); mutations > 0; mutations--) {
    switch (random(7)) {
      case 0:
        scratch[random(length || 1)] = 1 << random(8);
        break;
      case 1:
        scratch[random(length || 1)] = random(256);
        break;
      case 2:
        scratch.writeUInt32LE(
          INTERESTING[random(INTERESTING.length)] as number,
          FIELDS[random(FIELDS.length)] as number,
        );
        break;
      case 3:
        length = random(length + 1);
        break;
      case 4: {
        // Lengths that agree with each other, whatever the type: they reach the payload checks.
        const dataSize = random(2) === 0 ? 8 * random(50) : random(400);
        scratch.writeUInt32LE(196 + dataSize, 0);
        scratch.writeUInt16LE(160 + dataSize, 32);
        scratch.writeUInt32LE(dataSize, 192);
        length = Math.ceil((196 + dataSize) / 4) * 4 + random(8);
        break;
      }
      case 5:
        scratch.fill(0x61, 44, 44 + random(140));
        break;
      default:
        scratch.writeUInt32LE(random(20) + 256 * random(2), 188);
    }
  }
  return length;
}

function copyingDecoders(frame: Buffer): string {
  for (const decode of [decodeRequest, decodeReply]) {
    try {
      decode(frame);
    } catch (error) {
      if (!(error instanceof DecodeError) || error.decodeCode === 0)
        return `${decode.name} threw ${String(error)}`;
    }
  }
  return '';
}

/** Each reply fits its slot, leaves the rest of the arena alone, and is a reply to this very request. */
function replies(view: FrameView, arena: Buffer, before: Buffer, offset: number, pick: number): string {
  const { answerable, seq, type } = view;
  const calls = [
    () => view.replyAck(22),
    () => view.replyEmpty(0),
    () => view.replyValue(2 ** 53),
    () => view.replyPair(1, 2 ** 32),
    () => view.replyBytes(Buffer.from('1 core\0')),
    () => view.replyError(-3),
  ];
  const length = (calls[pick] as () => number)();
  if ((length === NO_REPLY_BYTES) === answerable) return `reply ${pick} is ${length} bytes`;
  if (length > SLOT_BYTES) return `reply ${pick} leaves its slot`;
  if (!arena.subarray(0, offset).equals(before.subarray(0, offset)))
    return `reply ${pick} wrote before its slot`;
  const end = Math.max(offset + length, offset);
  if (!arena.subarray(end).equals(before.subarray(end))) return `reply ${pick} wrote past its end`;
  if (!answerable || view.uuidLength > 128 || view.version < 1 || view.version > 3) return '';
  if (type < 1 || type > 17 || arena.subarray(view.uuidOffset, view.uuidOffset + 129).indexOf(0) < 0)
    return '';
  const reply = decodeReply(arena.subarray(offset, offset + length));
  return reply.seq === seq ? '' : `reply ${pick} answers ${reply.seq}, not ${seq}`;
}

it(`decodes or refuses ${FRAMES} frames like the model, and nothing outside the frame matters (seed ${SEED})`, () => {
  const random = generator(SEED);
  const seeds = seedFrames();
  const arena = Buffer.alloc(ARENA_BYTES);
  const scratch = Buffer.alloc(DATAGRAM_BYTES_MAX);
  const view = new FrameView(arena, SLOT_BYTES);
  const codes: number[] = Array(11).fill(0);
  for (let n = 0; n < FRAMES; n++) {
    const length = draw(random, seeds, scratch);
    const frame = scratch.subarray(0, length);
    // The surroundings change with every frame: the model never sees them.
    const offset = random(ARENA_BYTES - SLOT_BYTES + 1);
    const slow = n % SLOW_EVERY === 0;
    if (slow) arena.fill(random(256));
    arena.fill(random(256), Math.max(offset - 16, 0), offset);
    arena.fill(random(256), offset + length, offset + length + 256);
    arena.set(frame, offset);
    const before = slow ? Buffer.from(arena) : arena;
    const code = view.decode(offset, length);
    codes[code] = (codes[code] as number) + 1;
    let problem = difference(view, code, frame);
    if (slow) {
      if (!before.equals(arena)) problem ||= 'decode wrote to the arena';
      problem ||= copyingDecoders(frame);
      problem ||= replies(view, arena, before, offset, random(6));
    }
    if (problem !== '') expect.fail(`seed ${SEED}, frame ${n} at ${offset}: ${problem}\n${hex(frame)}`);
  }
  console.log(`fuzz: ${FRAMES} frames, seed ${SEED}, by decode code: ${codes.join(' ')}`);
  // The generator must reach every verdict, or it proves nothing. BAD_RANGE is the caller's, not the frame's.
  expect(codes.filter((count, code) => code !== 2 && count < FRAMES / 2000)).toEqual([]);
}, 3_600_000);
