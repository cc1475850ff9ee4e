import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  decodeEntries,
  EntryType,
  encodeEntries,
  entry,
  packEntries,
  regionEntries,
} from '../src/entries.js';
import { SimulatedNetwork } from '../src/group/simulated.js';
import {
  decodeChunk,
  decodeHello,
  decodeMessage,
  decodePositions,
  decodeTarget,
  encodeHello,
  encodeMessage,
  encodePositions,
  HEADER_BYTES,
  type Hello,
  MESSAGE_VERSION,
  MessageKind,
  Unreadable,
} from '../src/messages.js';
import { decodeSnapshot, encodeSnapshot } from '../src/snapshot.js';
import { ReplicatedState } from '../src/state.js';
import { MemberHost, REGIONS } from './member-host.js';

const header = {
  kind: MessageKind.ENTRIES,
  ring: { nodeId: 3, seq: 2 ** 40 + 1 },
  nonce: 7,
  number: 9,
  position: 2 ** 33,
};

const hello: Hello = {
  bootId: '0123456789abcdef0123456789abcdef',
  geometry: { kind: 'disk', regionCount: 2 ** 32 - 1, regionSizeSectors: 1024, targetSectors: 2 ** 42 },
  audience: 2 ** 32 - 5,
  state: { agreedRing: { nodeId: 1, seq: 24 }, position: 12, hashHigh: 5, hashLow: 6 },
  gone: new Map([
    [2, 3],
    [9, 1],
  ]),
  needs: [2, 300_000],
  suspects: [2],
  impatient: true,
  wasOut: true,
};

describe('messages', () => {
  it('say what they said', () => {
    const message = decodeMessage(encodeMessage(header, Uint8Array.of(1, 2, 3)));
    expect(message).toMatchObject(header);
    expect(typeof message === 'string' ? null : [...message.payload]).toEqual([1, 2, 3]);
    expect(decodeHello(encodeHello(hello))).toEqual(hello);
    expect(decodeHello(encodeHello({ ...hello, state: null }))).toEqual({ ...hello, state: null });
    const positions = { marks: 2 ** 40, clears: 3, failed: 1 };
    expect(decodePositions(encodePositions(positions))).toEqual(positions);
  });

  it('are not read when a bit is wrong, or a byte is missing', () => {
    const bytes = encodeMessage(header, Uint8Array.of(1, 2, 3));
    for (let bit = 0; bit < 8 * bytes.length; bit++) {
      const bad = bytes.slice();
      bad[bit >> 3] = (bad[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(typeof decodeMessage(bad), `bit ${bit}`).toBe('string');
    }
    for (let length = 0; length < bytes.length; length++) {
      expect(typeof decodeMessage(bytes.subarray(0, length)), `${length} bytes`).toBe('string');
    }
  });

  it('of a newer version are told from damaged ones', () => {
    const bytes = encodeMessage(header, new Uint8Array(0));
    bytes[4] = MESSAGE_VERSION + 1;
    expect(decodeMessage(bytes)).toBe(Unreadable.NEWER);
  });

  it('of any bytes whatever are decoded or refused', () => {
    const bytes = fc.uint8Array({ maxLength: 400 });
    fc.assert(
      fc.property(bytes, fc.integer({ min: 1, max: 6 }), (payload, kind) => {
        decodeMessage(payload);
        for (const decode of [decodeHello, decodePositions, decodeTarget, decodeChunk]) decode(payload);
        decodeEntries(payload, 100);
        const state = new ReplicatedState(REGIONS);
        expect(() => decodeSnapshot(payload, REGIONS)).toThrow();
        expect(state.position).toBe(0);
        return kind > 0;
      }),
      { numRuns: 500 },
    );
  });
});

describe('entries', () => {
  it.each([
    [entry(EntryType.MARK, [100])],
    [entry(EntryType.MARK, [])],
    [entry(EntryType.LEASE, [1])],
    [entry(EntryType.READY, [1, 2, 3])],
    [entry(EntryType.FOUND_DIRTY, [99, 2])],
    [entry(EntryType.FOUND_DIRTY, [5, 0])],
    [entry(EntryType.BROUGHT_MARKS, [1, 2, 3, 4, 5])],
    [{ type: 99 as EntryType, words: new Uint32Array(0) }],
  ])('that no log of 100 regions can have spoil the whole message: %o', (bad) => {
    expect(decodeEntries(encodeEntries([entry(EntryType.MARK, [1]), bad]), 100)).toBeNull();
  });

  it('are packed into messages below 64 KiB, in order', () => {
    const regions = Array.from({ length: 50_000 }, (_, i) => i);
    const packs = packEntries([...regionEntries(EntryType.UNMARK, regions), entry(EntryType.SUSPENDED, [0])]);
    const all = packs.flatMap((pack) => {
      expect(encodeEntries(pack).byteLength + HEADER_BYTES).toBeLessThan(65_536);
      return pack;
    });
    expect(all.at(-1)?.type).toBe(EntryType.SUSPENDED);
    expect(all.slice(0, -1).flatMap(({ words }) => [...words])).toEqual(regions);
  });
});

describe('snapshots', () => {
  it('give the same state again', () => {
    const state = new ReplicatedState(100);
    const one = state.meet(1, hello.bootId);
    state.ready(one);
    state.resumed(one);
    state.lease(one, 10, 50);
    state.synced(one, [50, 0]);
    state.mark(one, [50, 0]);
    const two = state.meet(2, '00000000000000000000000000000002', true);
    state.bringMark(two, 50);
    state.broughtAll();
    state.position = 77;
    state.hash.mix(5);
    const waiting = [{ nodeId: 3, nonce: 4, bootId: hello.bootId }];
    const bytes = encodeSnapshot({ state, agreedRing: { nodeId: 1, seq: 8 }, waiting });
    const again = decodeSnapshot(bytes, 100);
    again.state.checkInvariants();
    expect(encodeSnapshot(again)).toEqual(bytes);
    expect(again.waiting).toEqual(waiting);
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decodeSnapshot(bytes.subarray(0, length), 100), `${length} bytes`).toThrow();
    }
    expect(() => decodeSnapshot(bytes, 101)).toThrow(/100 regions/);
  });
});

it('a member counts what it cannot read, and goes on', () => {
  const network = new SimulatedNetwork({ nodes: [1], random: () => 0 });
  const host = new MemberHost(network, { foundings: 0 }, 1, 1, 1);
  host.join();
  network.run(1000);
  const { member } = host;
  const before = host.state.hash.high;
  member.deliver({ nodeId: 1, pid: 5 }, new Uint8Array(10));
  const bad = encodeEntries([entry(EntryType.MARK, [REGIONS])]);
  member.deliver({ nodeId: 1, pid: 5 }, encodeMessage({ ...header, ring: member.ring, position: 0 }, bad));
  member.deliver({ nodeId: 1, pid: 5 }, encodeMessage(header, new Uint8Array(0)));
  expect(member.counters).toMatchObject({ unreadable: 1, malformed: 1, otherRing: 1 });
  expect(host.state.hash.high).toBe(before);
});
