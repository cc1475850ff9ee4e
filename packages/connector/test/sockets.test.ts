import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFile, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, expect, it, vi } from 'vitest';
import {
  batchTransport,
  type ConnectorBinding,
  ConnectorError,
  loadBinding,
  NO_REPLY,
  netlinkTransport,
  openTransport,
  RECEIVE_BUFFER_BYTES,
  REPLY_LATER,
  type Transport,
  type TransportFault,
} from '../src/index.js';
import { frame, numberOf, TAG } from './frames.js';
import { netlinkPeer, type Peer, serveOwn, until } from './rig.js';
import { describeSockets } from './rights.js';

const FLOOD = fileURLToPath(new URL('flood.mjs', import.meta.url));
const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));
const cleanups: (() => unknown)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function managed<T extends Transport>(transport: T): T {
  cleanups.push(() => transport.close());
  return transport;
}

function peerOf(replies: Uint8Array[]): Peer {
  const peer = netlinkPeer(replies);
  cleanups.push(() => peer.close());
  return peer;
}

/** Requests of this test run from another process; resolves to the number of replies it got. */
async function flood(inFlight: number, milliseconds: number): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    FLOOD,
    `${TAG}`,
    `${inFlight}`,
    `${milliseconds}`,
  ]);
  return Number(stdout);
}

/** Milliseconds of CPU in one second. Other processes' traffic on the group can only add to it: then measured again. */
async function cpuOfOneSecond(acceptable: number): Promise<number> {
  let milliseconds = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 3 && milliseconds > acceptable; attempt++) {
    const before = process.cpuUsage();
    await pause(1000);
    const used = process.cpuUsage(before);
    milliseconds = (used.user + used.system) / 1000;
  }
  return milliseconds;
}

const rmemMax = (): number => Number(readFileSync('/proc/sys/net/core/rmem_max', 'utf8'));

/** Repeats the request, as the kernel would: what strangers send to the group may overflow so small a buffer again. */
async function untilAnswered(peer: Peer, number: number, replies: Uint8Array[]): Promise<void> {
  const answered = (): boolean => replies.some((reply) => numberOf(reply) === number);
  for (let attempt = 0; attempt < 100 && !answered(); attempt++) {
    peer.request(frame(number));
    await pause(100);
  }
  expect(replies.map(numberOf)).toContain(number);
}

describeSockets.each([
  ['batch', batchTransport],
  ['netlink', netlinkTransport],
] as const)('receive buffer of the %s transport', (_name, make) => {
  it('is forced past net.core.rmem_max', () => {
    const transport = managed(make({ receiveBufferBytes: rmemMax() * 4 }));
    expect(transport.receiveBufferBytes).toBe(rmemMax() * 8); // the kernel doubles it
    expect(managed(make()).receiveBufferBytes).toBe(RECEIVE_BUFFER_BYTES * 2);
  });

  it('overflows, again and again: that is reported without being asked for, counted and survived', async () => {
    const faults: TransportFault[] = [];
    const replies: Uint8Array[] = [];
    const options = { acceptUserRequests: true, receiveBufferBytes: 8192 };
    const transport = managed(make({ ...options, onFault: (fault) => faults.push(fault) }));
    serveOwn(transport, (bytes) => bytes.length);
    const peer = peerOf(replies);
    for (const round of [1, 2]) {
      const before = transport.stats().overruns;
      faults.length = 0;
      execFileSync(process.execPath, [FLOOD, `${TAG}`, '200', '0']); // this thread is blocked meanwhile
      await until(() => faults.some(({ kind }) => kind === 'overrun'));
      // The flooder is gone: its replies are refused, which is its own loss.
      const own = faults.filter(({ kind }) => kind !== 'send');
      expect(new Set(own.map(({ error }) => (error as ConnectorError).code))).toEqual(
        new Set(['ERR_CONNECTOR_OVERRUN']),
      );
      expect(transport.stats().overruns).toBeGreaterThan(before);
      await untilAnswered(peer, round, replies);
    }
  });
});

/** A directory for PATH with nothing in it but the interpreters named. */
function pathWith(...interpreters: { name: string; file: string }[]): string {
  const directory = mkdtempSync(join(tmpdir(), 'dmlog-path-'));
  cleanups.push(() => rmSync(directory, { recursive: true }));
  for (const { name, file } of interpreters) symlinkSync(file, join(directory, name));
  return directory;
}

describeSockets('netlink transport', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it('misses none of the requests that were lost', async () => {
    const transport = managed(netlinkTransport({ acceptUserRequests: true, receiveBufferBytes: 8192 }));
    const { calls } = serveOwn(transport, () => NO_REPLY);
    execFileSync(process.execPath, [FLOOD, `${TAG}`, '200', '0']);
    await until(() => calls() > 0 && calls() + transport.stats().overruns >= 200);
    expect(calls()).toBeLessThan(200);
  });

  it('counts what was lost before it closes, and nothing after', async () => {
    const faults: TransportFault[] = [];
    const onFault = (fault: TransportFault): unknown => faults.push(fault);
    const transport = managed(netlinkTransport({ receiveBufferBytes: 8192, onFault }));
    execFileSync(process.execPath, [FLOOD, `${TAG}`, '200', '0']);
    await transport.close();
    expect(faults.map(({ kind }) => kind)).toEqual(['overrun']);
    const { overruns } = transport.stats();
    expect(overruns).toBeGreaterThan(0);
    expect(transport.stats().overruns).toBe(overruns);
  });

  it('takes python3 where there is no perl', async () => {
    const file = execFileSync('python3', ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' });
    const faults: TransportFault[] = [];
    vi.stubEnv('PATH', pathWith({ name: 'python3', file: file.trim() }));
    const options = {
      receiveBufferBytes: rmemMax() * 4,
      onFault: (fault: TransportFault) => faults.push(fault),
    };
    const transport = managed(netlinkTransport(options));
    await pause(0);
    expect(transport.receiveBufferBytes).toBe(rmemMax() * 8);
    execFileSync(process.execPath, [FLOOD, `${TAG}`, '1', '0']);
    await until(() => transport.stats().foreign > 0);
    expect(faults).toEqual([]);
  });

  it('serves without either, but says once that an overflow would be the end', async () => {
    const faults: TransportFault[] = [];
    const replies: Uint8Array[] = [];
    vi.stubEnv('PATH', pathWith({ name: 'python3', file: '/bin/false' }));
    const options = { acceptUserRequests: true, receiveBufferBytes: rmemMax() * 4 };
    const transport = managed(netlinkTransport({ ...options, onFault: (fault) => faults.push(fault) }));
    serveOwn(transport, (bytes) => bytes.length);
    peerOf(replies).request(frame(1));
    await until(() => replies.length === 1);
    expect(faults).toMatchObject([{ kind: 'unguarded', error: { code: 'ERR_CONNECTOR_UNGUARDED' } }]);
    expect(faults[0]?.error.message).toMatch(
      /perl: .*ENOENT; python3: ended with 1.*install perl or python3/,
    );
    expect(transport.receiveBufferBytes).toBe(rmemMax() * 2);
  });

  it('lets what the handler left to a tick or a promise become an uncaughtException, not an abort', async () => {
    const replies: Uint8Array[] = [];
    const uncaught: string[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException').on('uncaughtException', ({ message }) => {
      uncaught.push(message);
    });
    cleanups.push(() => {
      process.removeAllListeners('uncaughtException');
      for (const listener of listeners) process.on('uncaughtException', listener);
    });
    const transport = managed(netlinkTransport({ acceptUserRequests: true }));
    serveOwn(transport, (bytes) => {
      const fail = (): void => {
        throw new Error(`planted ${numberOf(bytes)}`);
      };
      if (numberOf(bytes) === 1) process.nextTick(fail);
      if (numberOf(bytes) === 2) queueMicrotask(fail);
      return bytes.length;
    });
    const peer = peerOf(replies);
    for (const number of [1, 2, 3]) {
      peer.request(frame(number));
      await until(() => replies.length === number);
    }
    expect(uncaught.length).toBe(2);
  });
});

describeSockets('event loop', () => {
  it.each([
    ['batch', 0, batchTransport],
    ['batch', 50, batchTransport],
    ['batch', 10_000, batchTransport],
    ['netlink', 0, netlinkTransport],
  ] as const)(
    '%s burns no CPU when idle, searching %i us after a request',
    async (_name, pollMicroseconds, make) => {
      const replies: Uint8Array[] = [];
      const transport = managed(make({ acceptUserRequests: true, pollMicroseconds }));
      serveOwn(transport, (bytes) => bytes.length);
      peerOf(replies).request(frame(1));
      await until(() => replies.length === 1);
      await pause(50);
      const milliseconds = await cpuOfOneSecond(25);
      expect(milliseconds).toBeLessThan(50);
    },
  );

  it('searches after a request, and never while a deferred reply is outstanding', async () => {
    const replies: Uint8Array[] = [];
    const transport = managed(batchTransport({ acceptUserRequests: true, pollMicroseconds: 10_000 }));
    const { calls } = serveOwn(transport, (bytes) => (numberOf(bytes) === 1 ? bytes.length : REPLY_LATER));
    const peer = peerOf(replies);
    peer.request(frame(1));
    await until(() => replies.length === 1);
    await pause(50);
    expect(transport.stats().pollIdleNs).toBeGreaterThan(5e6);
    const before = transport.stats().pollIdleNs;
    peer.request(frame(2));
    await until(() => calls() === 2);
    await pause(50);
    expect(transport.stats().pollIdleNs).toBe(before);
    transport.send(frame(2), peer.port);
    await until(() => replies.length === 2);
    await pause(50);
    expect(transport.stats().pollIdleNs).toBeGreaterThan(before + 5e6);
  });

  it('gives up searching, but for a try now and then, where requests do not come in chains', {
    retry: 2,
  }, async () => {
    const replies: Uint8Array[] = [];
    const transport = managed(batchTransport({ acceptUserRequests: true, pollMicroseconds: 1000 }));
    serveOwn(transport, (bytes) => bytes.length);
    const peer = peerOf(replies);
    const milliseconds: number[] = [];
    for (let number = 1; number <= 64; number++) {
      peer.request(frame(number));
      await until(() => replies.length === number);
      await pause(3);
      if (number % 32 === 0) milliseconds.push(transport.stats().pollIdleNs / 1e6);
    }
    expect(milliseconds[0]).toBeGreaterThan(10); // 16 searches in vain
    expect((milliseconds[1] as number) - (milliseconds[0] as number)).toBeLessThan(10); // of 32
  });

  it.each([0, 50, 10_000])(
    'serves timers and the thread pool during a flood, searching %i us',
    async (pollMicroseconds) => {
      const transport = managed(batchTransport({ acceptUserRequests: true, pollMicroseconds }));
      serveOwn(transport, (bytes) => bytes.length);
      const flooding = flood(32, 3000);
      let flooded = false;
      void flooding.then(() => {
        flooded = true;
      });
      await until(() => transport.stats().received > 100);
      let timers = 0;
      let reads = 0;
      let running = true;
      const interval = setInterval(() => timers++, 5);
      const readAgain = (): void => {
        readFile(FLOOD, () => {
          reads++;
          if (running) readAgain();
        });
      };
      readAgain();
      // Starved, they would all come after the flood.
      await until(() => (timers > 20 && reads > 20) || flooded);
      running = false;
      clearInterval(interval);
      expect(flooded).toBe(false);
      expect(await flooding).toBeGreaterThan(100);
    },
  );

  it('takes queued requests in batches', async () => {
    const transport = managed(batchTransport({ acceptUserRequests: true }));
    serveOwn(transport, () => NO_REPLY);
    execFileSync(process.execPath, [FLOOD, `${TAG}`, '320', '0']);
    await until(() => transport.stats().received >= 320);
    const { received, batches } = transport.stats();
    expect(received / batches).toBeGreaterThan(8);
  });
});

describeSockets('openTransport', () => {
  it('prefers the batch transport, takes netlink when asked, several at a time', () => {
    const transports = [
      openTransport(),
      openTransport({ prefer: 'netlink' }),
      openTransport({ prefer: 'batch' }),
    ];
    for (const transport of transports) managed(transport);
    expect(transports.map((transport) => transport.name)).toEqual(['batch', 'netlink', 'batch']);
    expect(new Set(transports.map((transport) => transport.port)).size).toBe(3);
  });

  it('falls back to netlink when the addon does not load, and says why', () => {
    const reasons: ConnectorError[] = [];
    const options = { loadBinding: () => loadBinding('/nonexistent') };
    const transport = managed(openTransport({ ...options, onFallback: (reason) => reasons.push(reason) }));
    expect(transport.name).toBe('netlink');
    expect(reasons.map((reason) => reason.code)).toEqual(['ERR_CONNECTOR_BINDING']);
    expect(reasons[0]?.message).toContain('/nonexistent/prebuilds/linux-');
    expect(reasons[0]?.message).toContain('/nonexistent/build/Release/');
  });

  it('does not hide a failing socket behind a fallback', () => {
    const fails: ConnectorBinding = {
      ...loadBinding(),
      open: () => {
        throw Object.assign(new Error('bind: operation not permitted'), { code: 'EPERM' });
      },
    };
    const code = 'ERR_CONNECTOR_PERMISSION';
    expect(() => openTransport({ loadBinding: () => fails })).toThrow(expect.objectContaining({ code }));
    expect(() => batchTransport({ binding: fails })).toThrow(ConnectorError);
  });
});
