import { constants } from 'node:os';
import pino from 'pino';
import { describe, expect, it, vi } from 'vitest';
import { ServiceManager } from '../src/index.js';

const silent = pino({ level: 'silent' });

/** A manager that has said `environment` to process 42, and what it is told. */
function manager(environment: NodeJS.ProcessEnv, errnos: number[] = []) {
  const told: [address: string, text: string, descriptor: number][] = [];
  const notify = (address: string, text: string, descriptor: number): number => {
    told.push([address, text, descriptor]);
    return errnos.shift() ?? 0;
  };
  return { told, environment, service: new ServiceManager(notify, silent, environment, 42) };
}

describe('ServiceManager', () => {
  it('says nothing where nobody has asked', async () => {
    const { service, told } = manager({});
    await service.ready(7);
    await service.handedTo(43);
    await service.stopping('now');
    expect(told).toEqual([]);
    expect(service.storedDescriptor).toBeNull();
  });

  it('gives the socket to keep, then says that it is ready', async () => {
    const { service, told } = manager({ NOTIFY_SOCKET: '/run/notify' });
    await service.ready(7);
    expect(told).toEqual([
      ['/run/notify', 'FDSTORE=1\nFDNAME=connector\nFDPOLL=0', 7],
      ['/run/notify', `READY=1\nMAINPID=${process.pid}\nSTATUS=answering the kernel`, -1],
    ]);
  });

  it('feeds the watchdog until it stops or hands over', async () => {
    const { service, told } = manager({ NOTIFY_SOCKET: '/n', WATCHDOG_USEC: '10000', WATCHDOG_PID: '42' });
    await service.ready(null);
    const fed = () => told.filter(([, text]) => text === 'WATCHDOG=1').length;
    await vi.waitFor(() => expect(fed()).toBeGreaterThan(2), { timeout: 20_000 });
    await service.handedTo(43);
    const before = fed();
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(fed()).toBe(before);
    expect(told.at(-1)).toEqual(['/n', 'MAINPID=43', -1]);
  });

  it("leaves another process's watchdog alone", async () => {
    const { service, told } = manager({ NOTIFY_SOCKET: '/n', WATCHDOG_USEC: '2000', WATCHDOG_PID: '41' });
    await service.ready(null);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(told.some(([, text]) => text === 'WATCHDOG=1')).toBe(false);
  });

  it('repeats what finds the queue full, and nothing else', async () => {
    const { EAGAIN, ECONNREFUSED } = constants.errno;
    const full = manager({ NOTIFY_SOCKET: '/n' }, [EAGAIN, EAGAIN]);
    await full.service.stopping('x');
    expect(full.told.length).toBe(3);
    const gone = manager({ NOTIFY_SOCKET: '/n' }, [ECONNREFUSED]);
    await gone.service.stopping('x');
    expect(gone.told.length).toBe(1);
  });

  it.each([
    ['the second of three', { LISTEN_PID: '42', LISTEN_FDS: '3', LISTEN_FDNAMES: 'a:connector:b' }, 4],
    ['none of that name', { LISTEN_PID: '42', LISTEN_FDS: '1', LISTEN_FDNAMES: 'stored' }, null],
    ["another process's", { LISTEN_PID: '41', LISTEN_FDS: '1', LISTEN_FDNAMES: 'connector' }, null],
    ['more names than descriptors', { LISTEN_PID: '42', LISTEN_FDS: '0', LISTEN_FDNAMES: 'connector' }, null],
  ])('finds the socket that was kept: %s', (_, environment, descriptor) => {
    const given: NodeJS.ProcessEnv = environment;
    expect(manager(given).service.storedDescriptor).toBe(descriptor);
    // Not for children.
    expect(given).toEqual({});
  });
});
