import fs from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import net from 'node:net';
import path from 'node:path';
import { RequestType as R } from '@dmlog/protocol';
import pino from 'pino';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { TIMED_EVERY } from '../src/control/request-observer.js';
import { parseHttpAddress } from '../src/http/address.js';
import { HttpServer } from '../src/http/server.js';
import { daemonMetrics, loadConfig, type Operable } from '../src/index.js';
import { rejection, scratchDirectory } from './helpers/scratch.js';
import { Kernel, log, MemoryDevice } from './kernel.js';

const A = log('LVM-aaaa', 0x1000);
const BOUND = { timeout: 30_000, interval: 20 };

async function page(address = '127.0.0.1:0') {
  const kernel = await Kernel.start({ '/dev/log': new MemoryDevice(16) });
  const { daemon } = kernel;
  const operable = daemon.operable as Operable;
  const metrics = daemonMetrics(() => daemon.status(), operable);
  const server = new HttpServer({
    address: parseHttpAddress(address)!,
    status: () => daemon.status(),
    metrics: () => metrics.text(),
    operable,
    logger: pino({ level: 'silent' }),
  });
  onTestFinished(async () => {
    await server.close();
    await daemon.stop('test ends');
  });
  return { kernel, server };
}

interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  body: string;
}

function get(options: http.RequestOptions): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request({ agent: false, ...options }, (response) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
      );
    });
    request.on('error', reject).end();
  });
}

describe('the address', () => {
  it.each(['127.0.0.1:9644', '127.9.9.9:1', '[::1]:9644', 'localhost:0', '/run/dmlog/http.sock'])(
    'may be %s',
    (text) => {
      expect(loadConfig({ flags: { http: text } }).http).toBe(text);
    },
  );

  it.each([
    '0.0.0.0:9644',
    '10.0.0.1:9644',
    '127.0.0.1',
    '127.0.0.1:99999',
    ':9644',
    'example.org:80',
    '[::]:1',
  ])('is nothing but loopback: not %s', async (text) => {
    expect(await rejection(async () => loadConfig({ flags: { http: text } }))).toMatchObject({
      code: 'ERR_CONFIG_FLAG',
    });
  });

  it('is none by default', () => {
    expect(loadConfig({}).http).toBeUndefined();
  });
});

describe('the page', () => {
  it('serves itself, status, requests, regions and metrics, and lets nothing else in', async () => {
    const { kernel, server } = await page();
    await server.open();
    const port = server.port as number;
    await kernel.resume(A, '16384 disk /dev/log 1024 nosync');
    await kernel.ask(A, R.MARK_REGION, 3);
    const index = await get({ port, path: '/' });
    expect(index).toMatchObject({ status: 200, headers: { 'content-type': 'text/html; charset=utf-8' } });
    expect(index.headers['content-security-policy']).toContain("default-src 'none'");
    expect((await get({ port, path: '/page.js' })).body).toContain('use strict');
    expect((await get({ port, path: '/page.css' })).status).toBe(200);
    expect(JSON.parse((await get({ port, path: '/api/status' })).body).logs).toMatchObject([
      { uuid: A.uuid },
    ]);
    const regions = await get({ port, path: `/api/regions?log=${A.uuid}&cells=4` });
    expect(JSON.parse(regions.body)).toMatchObject({ inSync: [4, 4, 4, 4], clean: [3, 4, 4, 4] });
    const part = await get({ port, path: `/api/regions?log=${A.uuid}&from=3&to=5&cells=99999999` });
    expect(JSON.parse(part.body)).toMatchObject({ clean: [0, 1] });
    const requests = JSON.parse((await get({ port, path: '/api/requests' })).body);
    expect(requests.types).toContainEqual(expect.objectContaining({ type: 'MARK_REGION', requests: 1 }));
    expect((await get({ port, path: '/', method: 'HEAD' })).body).toBe('');
  });

  it.each([
    [{ path: '/nothing' }, 404],
    [{ path: '/constructor' }, 404],
    [{ path: '/api/regions?log=nobody' }, 404],
    [{ path: '/api/regions' }, 404],
    [{ path: '/api/regions?log=LVM-aaaa&from=-1' }, 400],
    [{ path: '/api/regions?log=LVM-aaaa&from=17' }, 400],
    [{ path: '/', method: 'POST' }, 405],
    // A page from elsewhere whose name was made to point here.
    [{ path: '/', headers: { host: 'evil.example:80' } }, 403],
  ])('refuses %j with %i', async (options, status) => {
    const { kernel, server } = await page();
    await server.open();
    await kernel.resume(A, '16384 core 1024');
    expect((await get({ port: server.port, ...options })).status).toBe(status);
  });

  it('tells of events as they happen, and forgets pages that are gone', async () => {
    const { kernel, server } = await page();
    await server.open();
    let text = '';
    const request = http.get({ port: server.port, path: '/api/events', agent: false }, (response) => {
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('error', () => {});
    });
    request.on('error', () => {});
    await vi.waitFor(async () => {
      await kernel.resume(A, '16384 core 1024');
      expect(text).toContain('"event":"');
    }, BOUND);
    expect(text).toMatch(/^data: \{"time":/);
    request.destroy();
  });

  it('is its owner’s alone on a unix socket', async () => {
    const socketPath = path.join(scratchDirectory(), 'http.sock');
    const { server } = await page(socketPath);
    expect(await server.open()).toBe(true);
    expect(fs.statSync(socketPath).mode & 0o777).toBe(0o600);
    expect((await get({ socketPath, path: '/metrics' })).body).toContain('dmlog_logs 0');
  });

  it('waits for a port that is taken', async () => {
    const other = net.createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as AddressInfo;
    const { server } = await page(`127.0.0.1:${port}`);
    expect(await server.open()).toBe(false);
    await new Promise((resolve) => other.close(resolve));
    await vi.waitFor(() => expect(server.port).toBe(port), BOUND);
  });
});

describe('metrics', () => {
  it('count requests by type and result, and how long they took', async () => {
    const { kernel, server } = await page();
    await server.open();
    await kernel.resume(A, '16384 disk /dev/log 1024 nosync');
    for (let i = 0; i < TIMED_EVERY; i++) await kernel.ask(A, R.IN_SYNC, 1);
    await kernel.ask(A, R.MARK_REGION, 99);
    await kernel.ask(A, R.MARK_REGION, 3);
    await kernel.ask(A, R.FLUSH);
    const { body, headers } = await get({ port: server.port, path: '/metrics' });
    expect(headers['content-type']).toContain('version=0.0.4');
    expect(body).toContain(`dmlog_requests_total{type="IN_SYNC",result="ok"} ${TIMED_EVERY}\n`);
    expect(body).toContain('dmlog_requests_total{type="MARK_REGION",result="error"} 1\n');
    expect(body).toContain('# TYPE dmlog_request_seconds histogram\n');
    expect(body).toContain('dmlog_request_seconds_bucket{type="FLUSH",le="+Inf"} 1\n');
    expect(body).toContain('dmlog_request_seconds_count{type="FLUSH"} 1\n');
    const inSync = [...body.matchAll(/dmlog_request_seconds_bucket\{type="IN_SYNC",le="[^"]+"\} (\d+)/g)].map(
      ([, n]) => Number(n),
    );
    // Cumulative, as Prometheus wants them.
    expect(inSync).toEqual([...inSync].sort((a, b) => a - b));
    expect(inSync.at(-1)).toBeGreaterThan(0);
    for (const name of [
      'dmlog_heap_used_bytes',
      'dmlog_event_loop_seconds_total{state="idle"}',
      'dmlog_log_lazy_regions',
      'dmlog_unknown_logs_total',
      'dmlog_malformed_total',
    ])
      expect(body).toContain(name);
    // Every line is a comment or a sample.
    for (const line of body.trim().split('\n'))
      expect(line).toMatch(/^(#.*|[a-z_]+(\{.*\})? -?[0-9.e+-]+|)$/i);
  });
});
