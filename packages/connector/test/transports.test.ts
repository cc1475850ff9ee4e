import {
  batchTransport,
  loopbackTransport,
  netlinkTransport,
  type Transport,
  type TransportFault,
  type TransportOptions,
} from '../src/index.js';
import { describeTransport, type Setup } from './compliance.js';
import { netlinkPeer, type Rig } from './rig.js';
import { describeSockets } from './rights.js';

const onSockets =
  (make: (options: TransportOptions) => Transport): Setup =>
  (options) => {
    const faults: TransportFault[] = [];
    const replies: Uint8Array[] = [];
    const transport = make({ ...options, onFault: (fault) => faults.push(fault) });
    return { transport, faults, replies, peer: netlinkPeer(replies) };
  };

function inMemory(options: TransportOptions): Rig {
  const faults: TransportFault[] = [];
  const replies: Uint8Array[] = [];
  const transport = loopbackTransport({
    ...options,
    onFault: (fault) => faults.push(fault),
    onReply: (bytes) => replies.push(bytes),
  });
  const port = 4711;
  return {
    transport,
    faults,
    replies,
    peer: { port, request: (bytes) => transport.deliver(bytes, port), close: () => {} },
  };
}

describeTransport('loopback', inMemory);
describeTransport('netlink', onSockets(netlinkTransport), describeSockets);
describeTransport('batch', onSockets(batchTransport), describeSockets);
describeTransport(
  'batch, searching',
  onSockets((options) => batchTransport({ pollMicroseconds: 50, ...options })),
  describeSockets,
);
describeTransport(
  'batch, not searching',
  onSockets((options) => batchTransport({ pollMicroseconds: 0, ...options })),
  describeSockets,
);
