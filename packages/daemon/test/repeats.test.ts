import { encodeRequestInto, RequestType } from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import { Repeats, repeatKey } from '../src/control/repeats.js';

function keyOf(type: number, region: number, seq: number, luid = 7): number {
  const frame = new Uint8Array(512);
  const data = new Uint8Array(8);
  new DataView(data.buffer).setUint32(0, region, true);
  const request = { type, version: 3, seq, luid: { low: luid, high: 1 }, uuid: 'u', data };
  encodeRequestInto(frame, 16, request);
  return repeatKey(frame, 16);
}

describe('requests that the kernel repeats', () => {
  it('are known by log, type and region, whatever their number', () => {
    const key = keyOf(RequestType.MARK_REGION, 5, 100);
    expect(keyOf(RequestType.MARK_REGION, 5, 101)).toBe(key);
    const others = [
      keyOf(RequestType.CLEAR_REGION, 5, 100),
      keyOf(RequestType.MARK_REGION, 6, 100),
      keyOf(RequestType.MARK_REGION, 5, 100, 8),
    ];
    expect(new Set([key, ...others]).size).toBe(4);
  });

  it('count when the first was left unanswered 15 s before, and only then', () => {
    const repeats = new Repeats();
    const key = keyOf(RequestType.FLUSH, 0, 1);
    repeats.unanswered(key, 0);
    // Another thread's, at the same time.
    repeats.unanswered(key, 20);
    expect(repeats.count).toBe(0);
    repeats.unanswered(key, 15_020);
    repeats.unanswered(key, 30_020);
    expect(repeats.count).toBe(2);
    repeats.answered(key);
    repeats.unanswered(key, 45_020);
    repeats.unanswered(key, 99_000);
    expect(repeats.count).toBe(2);
  });
});
