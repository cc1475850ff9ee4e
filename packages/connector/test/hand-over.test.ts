import { spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, it } from 'vitest';
import { batchTransport, connectorListeners, netlinkTransport, type Transport } from '../src/index.js';
import { frame, numberOf } from './frames.js';
import { netlinkPeer, serveOwn, until } from './rig.js';
import { describeSockets } from './rights.js';

const ADOPT = fileURLToPath(new URL('adopt.mjs', import.meta.url));
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function serving(descriptor?: number): Transport {
  const transport = batchTransport({
    acceptUserRequests: true,
    ...(descriptor === undefined ? {} : { descriptor }),
  });
  cleanups.push(() => transport.close());
  return transport;
}

describeSockets('a socket that changes hands', () => {
  it('brings the process that inherits it what waited in it, at the same port, and is served on when the first one closes', async () => {
    const replies: Uint8Array[] = [];
    const peer = netlinkPeer(replies);
    cleanups.push(() => peer.close());
    const transport = serving();
    serveOwn(transport, (bytes) => bytes.length);
    peer.request(frame(1));
    await until(() => replies.length === 1);
    transport.handOver?.pause();
    for (let number = 2; number <= 5; number++) peer.request(frame(number));
    const child = spawn(process.execPath, [ADOPT], {
      stdio: ['ignore', 'pipe', 'inherit', transport.handOver?.descriptor as number],
    });
    cleanups.push(() => child.kill('SIGKILL'));
    const port = await new Promise((resolve) =>
      child.stdout?.once('data', (bytes) => resolve(Number(bytes))),
    );
    expect(port).toBe(transport.port);
    // One socket, whoever has it open.
    expect(connectorListeners().filter((listener) => listener.port === port).length).toBe(1);
    expect(connectorListeners().some((listener) => listener.port === peer.port)).toBe(false);
    await until(() => replies.length === 5);
    await transport.close();
    peer.request(frame(6));
    await until(() => replies.length === 6);
    expect(replies.map(numberOf)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  it('is refused where it is no connector socket, and left to the caller', () => {
    const file = openSync('/dev/null', 'r');
    expect(() => serving(file)).toThrow(/adopt/);
    expect(() => serving(file)).toThrow(/adopt/);
    expect(() => serving(999_999)).toThrow(/adopt/);
  });

  it('cannot be served by the netlink package', () => {
    expect(() => netlinkTransport({ descriptor: 3 })).toThrow(/did not open/);
  });
});
