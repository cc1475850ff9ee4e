import { afterEach, describe, expect, it } from 'vitest';
import { NO_REPLY, REPLY_LATER, SLOT_BYTES, type TransportOptions } from '../src/index.js';
import { FRAME_BYTES, frame, isOwn, numberOf } from './frames.js';
import { type Rig, serveOwn, until } from './rig.js';

/** An acknowledgement: nlmsghdr and an empty cn_msg. */
const ACK_BYTES = 36;

export type Setup = (options: TransportOptions) => Rig;

/** What every transport must do. `setup` makes one, with a peer that sends requests from a user port. */
export function describeTransport(
  name: string,
  setup: Setup,
  describeIt: typeof describe | typeof describe.skip = describe,
): void {
  describeIt(`transport ${name}`, () => {
    let rig: Rig;
    afterEach(async () => {
      await rig.transport.close();
      rig.peer.close();
    });
    const open = (options: TransportOptions = {}): Rig => {
      rig = setup({ acceptUserRequests: true, ...options });
      return rig;
    };
    describe('replies', () => testReplies(open));
    describe('pause', () => testPause(open));
    describe('faults', () => testFaults(open));
    describe('life', () => testLife(open));
  });
}

type Open = (options?: TransportOptions) => Rig;

function testReplies(open: Open): void {
  it('sends back what the handler wrote over the request', async () => {
    const { transport, peer, replies } = open();
    const ports: number[] = [];
    serveOwn(transport, (bytes, port) => {
      ports.push(port);
      bytes.fill(0xab, 44);
      return bytes.length;
    });
    peer.request(frame(1));
    await until(() => replies.length === 1);
    const expected = frame(1).fill(0xab, 44);
    expect(replies).toEqual([expected]);
    expect(ports).toEqual([peer.port]);
  });

  it.each([1, ACK_BYTES, SLOT_BYTES])('sends a reply of %i bytes', async (length) => {
    const { transport, peer, replies } = open();
    serveOwn(transport, () => length);
    peer.request(frame(1));
    await until(() => replies.length === 1);
    expect(replies[0]?.length).toBe(length);
    expect(replies[0]?.subarray(0, Math.min(length, FRAME_BYTES))).toEqual(frame(1).subarray(0, length));
  });

  it('stays silent on NO_REPLY', async () => {
    const { transport, peer, replies } = open();
    serveOwn(transport, (bytes) => (numberOf(bytes) === 1 ? NO_REPLY : bytes.length));
    peer.request(frame(1));
    peer.request(frame(2));
    await until(() => replies.length > 0);
    expect(replies.map(numberOf)).toEqual([2]);
  });

  it('answers each of many requests in flight once and in order', async () => {
    const { transport, peer, replies } = open();
    serveOwn(transport, (bytes) => bytes.length);
    const numbers = Array.from({ length: 200 }, (_, index) => index);
    for (const number of numbers) peer.request(frame(number));
    await until(() => replies.length >= numbers.length);
    expect(replies.map(numberOf)).toEqual(numbers);
    expect(replies).toEqual(numbers.map((number) => frame(number)));
  });

  it('sends a deferred reply, and lets its bytes be reused at once', async () => {
    const { transport, peer, replies } = open();
    const { calls } = serveOwn(transport, () => REPLY_LATER);
    peer.request(frame(1));
    await until(() => calls() === 1);
    expect(replies).toEqual([]);
    const bytes = frame(1, ACK_BYTES + 8);
    transport.send(bytes, peer.port);
    bytes.fill(0);
    await until(() => replies.length === 1);
    expect(replies).toEqual([frame(1, ACK_BYTES + 8)]);
  });

  it('sends a deferred reply that is ready before the handler returns, and those of ticks and promises', async () => {
    const { transport, peer, replies } = open();
    serveOwn(transport, (bytes, port) => {
      const reply = bytes.slice();
      const respond = (): void => transport.send(reply, port);
      if (numberOf(bytes) === 0) respond();
      else if (numberOf(bytes) === 1) queueMicrotask(respond);
      else process.nextTick(respond);
      return REPLY_LATER;
    });
    for (const number of [0, 1, 2]) {
      peer.request(frame(number));
      await until(() => replies.length === number + 1);
    }
    expect(replies.map(numberOf)).toEqual([0, 1, 2]);
  });

  it('counts what it did', async () => {
    const { transport, peer, replies } = open();
    const { calls } = serveOwn(transport, (bytes) => bytes.length);
    for (const number of [0, 1, 2]) peer.request(frame(number));
    await until(() => replies.length === 3 && transport.stats().sent >= 3);
    const stats = transport.stats();
    expect(calls()).toBe(3);
    expect(stats.received).toBeGreaterThanOrEqual(3); // more where strangers use the group
    expect(stats.sent).toBe(3);
    expect(stats.batches).toBeGreaterThanOrEqual(1);
    expect(stats.batches).toBeLessThanOrEqual(stats.received);
    expect(stats).toMatchObject({ sendFailures: 0, foreign: 0, overruns: 0, handlerFaults: 0 });
  });
}

/** Only of transports whose socket can be handed over. */
function testPause(open: Open): void {
  it('keeps what arrives while it is paused, and goes on with it', async () => {
    const { transport, peer, replies } = open();
    const { handOver } = transport;
    if (handOver === null) return;
    serveOwn(transport, (bytes) => bytes.length);
    peer.request(frame(1));
    await until(() => replies.length === 1);
    handOver.pause();
    handOver.pause();
    for (let number = 2; number <= 40; number++) peer.request(frame(number));
    // Whatever was to be read has had its turn when timers have come round.
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(replies.length).toBe(1);
    handOver.resume();
    await until(() => replies.length === 40);
    expect(replies.map(numberOf)).toEqual(Array.from({ length: 40 }, (_, index) => index + 1));
  });

  it('reads nothing more once its handler has paused it', async () => {
    const { transport, peer, replies } = open();
    const { handOver } = transport;
    if (handOver === null) return;
    const { calls } = serveOwn(transport, (bytes) => {
      handOver.pause();
      return bytes.length;
    });
    peer.request(frame(1));
    await until(() => replies.length === 1);
    peer.request(frame(2));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(calls()).toBe(1);
    handOver.resume();
    await until(() => calls() === 2);
  });
}

function testFaults(open: Open): void {
  it('drops what does not come from the kernel, unless told otherwise', async () => {
    const { transport, peer, replies } = open({ acceptUserRequests: false });
    const { calls } = serveOwn(transport, (bytes) => bytes.length);
    peer.request(frame(1));
    await until(() => transport.stats().foreign >= 1);
    expect(calls()).toBe(0);
    expect(replies).toEqual([]);
    expect(transport.stats().received).toBe(0);
  });

  it('drops a datagram longer than a slot and serves the next', async () => {
    const { transport, peer, replies } = open();
    const { calls } = serveOwn(transport, (bytes) => bytes.length);
    peer.request(frame(1, SLOT_BYTES + 1));
    peer.request(frame(2, SLOT_BYTES));
    await until(() => replies.length === 1);
    expect(replies).toEqual([frame(2, SLOT_BYTES)]);
    expect(calls()).toBe(1);
    expect(transport.stats().oversized).toBeGreaterThanOrEqual(1);
  });

  it('survives a handler that throws, and says so', async () => {
    const { transport, peer, replies, faults } = open();
    const thrown = new Error('planted');
    serveOwn(transport, (bytes) => {
      if (numberOf(bytes) === 1) throw thrown;
      return bytes.length;
    });
    peer.request(frame(1));
    peer.request(frame(2));
    await until(() => replies.length === 1);
    expect(replies.map(numberOf)).toEqual([2]);
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatchObject({
      kind: 'handler',
      error: { code: 'ERR_CONNECTOR_HANDLER', cause: thrown },
    });
    expect(transport.stats().handlerFaults).toBe(1);
  });

  it.each([SLOT_BYTES + 1, -2, Number.NaN])(
    'takes the reply length %d for a fault of the handler',
    async (length) => {
      const { transport, peer, replies, faults } = open();
      serveOwn(transport, (bytes) => (numberOf(bytes) === 1 ? length : bytes.length));
      peer.request(frame(1));
      peer.request(frame(2));
      await until(() => replies.length === 1);
      expect(replies.map(numberOf)).toEqual([2]);
      expect(faults.map((fault) => fault.kind)).toEqual(['handler']);
    },
  );

  it('reports a reply that cannot be sent, and goes on', async () => {
    const { transport, peer, replies, faults } = open();
    serveOwn(transport, (bytes) => bytes.length);
    await transport.close();
    transport.send(frame(1), peer.port);
    expect(faults.map((fault) => fault.kind)).toEqual(['send']);
    expect(transport.stats().sent).toBe(0);
    expect(replies).toEqual([]);
  });

  it.each([
    { receiveBufferBytes: 0 },
    { receiveBufferBytes: 1.5 },
    { pollMicroseconds: -1 },
    { pollMicroseconds: 1e9 },
  ])('rejects %o', (options) => {
    open();
    expect(() => open(options)).toThrow(expect.objectContaining({ code: 'ERR_CONNECTOR_USAGE' }));
  });
}

function testLife(open: Open): void {
  it('starts once', () => {
    const { transport } = open();
    transport.start(() => NO_REPLY);
    expect(() => transport.start(() => NO_REPLY)).toThrow(
      expect.objectContaining({ code: 'ERR_CONNECTOR_USAGE' }),
    );
  });

  it('keeps what arrives before it is started', async () => {
    const { transport, peer, replies } = open();
    peer.request(frame(1));
    await new Promise((resolve) => setTimeout(resolve, 20));
    serveOwn(transport, (bytes) => bytes.length);
    peer.request(frame(2));
    await until(() => replies.length === 2);
    expect(replies.map(numberOf)).toEqual([1, 2]);
  });

  it('closes before it was started, twice, and refuses to start then', async () => {
    const { transport } = open();
    await Promise.all([transport.close(), transport.close()]);
    await transport.close();
    expect(() => transport.start(() => NO_REPLY)).toThrow(
      expect.objectContaining({ code: 'ERR_CONNECTOR_USAGE' }),
    );
  });

  it('closes from inside the handler: that reply leaves, nothing is delivered after it', async () => {
    const { transport, peer, replies } = open();
    let closed: Promise<void> | undefined;
    const { calls } = serveOwn(transport, (bytes) => {
      closed = transport.close();
      void transport.close();
      return bytes.length;
    });
    for (const number of [1, 2, 3]) peer.request(frame(number));
    await until(() => replies.length === 1);
    await closed;
    peer.request(frame(4));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(calls()).toBe(1);
    expect(replies.map(numberOf)).toEqual([1]);
    expect(replies.every(isOwn)).toBe(true);
  });

  it('keeps one arena, and stays readable when closed', async () => {
    const { transport } = open();
    const { arena } = transport;
    transport.start(() => NO_REPLY);
    await transport.close();
    expect(transport.arena).toBe(arena);
    expect(transport.stats().sent).toBe(0);
  });
}
