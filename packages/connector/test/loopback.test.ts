import { expect, it } from 'vitest';
import { loopbackTransport, NO_REPLY, REPLY_LATER, SLOT_BYTES, type TransportFault } from '../src/index.js';
import { frame, numberOf } from './frames.js';

it('delivers synchronously, from the kernel unless told otherwise', () => {
  const replies: number[] = [];
  const transport = loopbackTransport({ onReply: (bytes) => replies.push(numberOf(bytes)) });
  const ports: number[] = [];
  transport.start((_offset, length, port) => {
    ports.push(port);
    return length;
  });
  transport.deliver(frame(1));
  transport.deliver(frame(2), 77);
  expect(replies).toEqual([1]);
  expect(ports).toEqual([0]);
  expect(transport.stats()).toMatchObject({ received: 1, sent: 1, foreign: 1 });
});

it('serves what the handler delivers after the current datagram', () => {
  const order: string[] = [];
  const transport = loopbackTransport({ onReply: (bytes) => order.push(`reply ${numberOf(bytes)}`) });
  transport.start((offset, length) => {
    const number = numberOf(transport.arena.subarray(offset, offset + length));
    if (number === 1) transport.deliver(frame(2));
    order.push(`served ${number}`);
    return length;
  });
  transport.deliver(frame(1));
  expect(order).toEqual(['served 1', 'reply 1', 'served 2', 'reply 2']);
});

it('moves through the slots as a real batch does', () => {
  const transport = loopbackTransport();
  const offsets: number[] = [];
  transport.start((offset) => {
    offsets.push(offset);
    return NO_REPLY;
  });
  for (let count = 0; count < 33; count++) transport.deliver(frame(count));
  expect(offsets.slice(0, 3)).toEqual([0, SLOT_BYTES, 2 * SLOT_BYTES]);
  expect(offsets[32]).toBe(0);
});

it('simulates overruns and refused replies', () => {
  const faults: TransportFault['kind'][] = [];
  const replies: number[] = [];
  const transport = loopbackTransport({
    onFault: (fault) => faults.push(fault.kind),
    onReply: (bytes) => replies.push(numberOf(bytes)),
  });
  transport.start(() => REPLY_LATER);
  transport.simulateOverrun();
  transport.failSends(2);
  for (const number of [1, 2, 3]) transport.send(frame(number), 0);
  expect(faults).toEqual(['overrun', 'send', 'send']);
  expect(replies).toEqual([3]);
  expect(transport.stats()).toMatchObject({ overruns: 1, sendFailures: 2, sent: 1 });
});
