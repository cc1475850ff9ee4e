import { spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { batchTransport } from '@dmlog/connector';
import { encodeRequestInto, RequestType } from '@dmlog/protocol';
import pino from 'pino';
import { expect, it, onTestFinished, vi } from 'vitest';
import {
  acquireInstanceLock,
  controlRequest,
  type DaemonStatus,
  loadConfig,
  runDaemon,
  type SignalSource,
  serve,
} from '../src/index.js';
import { describeAsRoot } from './helpers/root.js';
import { scratchDirectory } from './helpers/scratch.js';
import { u64s } from './kernel.js';

/** A daemon on the real connector, alone with its attackers: on this host no kernel asks it anything. */
async function startDaemon() {
  const root = scratchDirectory();
  // Nobody may come as far as he can.
  fs.chmodSync(root, 0o755);
  const config = loadConfig({ flags: { runtimeDir: path.join(root, 'run'), transport: 'batch' } });
  const lock = { directory: path.join(root, 'locks') };
  const signals = new EventEmitter() as EventEmitter & SignalSource;
  const done = runDaemon({
    config,
    logger: pino({ level: 'silent' }),
    serve: (given, logger, start) => serve(given, logger, {}, start),
    signals,
    lock,
    preflight: () => [],
    endNow: () => {},
  });
  onTestFinished(async () => {
    signals.emit('SIGTERM');
    expect(await done).toBe(0);
  });
  await vi.waitFor(() => fs.statSync(config.controlSocket), { timeout: 20_000 });
  const status = () => controlRequest(config.controlSocket, 'status') as Promise<DaemonStatus>;
  return { config, lock, status };
}

/** A request as the kernel sends it. */
function request(type: RequestType): Buffer {
  const frame = new Uint8Array(1024);
  const log = { luid: { low: 1, high: 2 }, uuid: 'LVM-forged' };
  const end = encodeRequestInto(frame, 0, { type, version: 3, seq: 1, ...log, data: u64s([0]) });
  return Buffer.from(frame.subarray(0, end));
}

/** The netlink port of a socket of this process, by its descriptor. */
function portOf(listed: readonly string[]): number {
  const own = new Set(
    fs.readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        return [/^socket:\[([0-9]+)\]$/.exec(fs.readlinkSync(`/proc/self/fd/${fd}`))?.[1] ?? ''];
      } catch {
        return [];
      }
    }),
  );
  const row = listed
    .map((line) => line.trim().split(/\s+/))
    .find((row) => row[1] === '11' && own.has(row[9] ?? ''));
  return Number(row?.[2]);
}

describeAsRoot('a hostile local user', () => {
  it('cannot signal, read, fill, flood, forge, connect to or lock out a daemon', async () => {
    const { config, lock, status } = await startDaemon();
    const port = portOf(fs.readFileSync('/proc/self/net/netlink', 'latin1').split('\n'));
    const [lockFile] = fs.readdirSync(lock.directory);
    const target = {
      port,
      pid: process.pid,
      directory: config.runtimeDir,
      socket: config.controlSocket,
      lock: path.join(lock.directory, lockFile as string),
      frame: request(RequestType.IN_SYNC).toString('hex'),
    };
    const before = await status();
    const attacker = spawn(
      process.execPath,
      [path.join(import.meta.dirname, 'attacker.mjs'), JSON.stringify(target)],
      {
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    onTestFinished(() => void attacker.kill('SIGKILL'));
    const outcomes = await new Promise<Record<string, string>>((resolve, reject) => {
      let text = '';
      attacker.stdout?.on('data', (chunk: Buffer) => {
        text += chunk;
        if (text.endsWith('\n')) resolve(JSON.parse(text));
      });
      attacker.once('exit', (code) => reject(new Error(`the attacker ended with ${code}`)));
    });
    expect(Object.keys(outcomes).length).toBe(18);
    expect(Object.entries(outcomes).filter(([, outcome]) => !/^(EPERM|EACCES)$/.test(outcome))).toEqual([]);

    const { transport } = await status();
    expect(transport).toMatchObject({
      received: 0,
      malformed: 0,
      sent: before.transport['sent'],
      overruns: 0,
    });
    // He holds the name that older locks were: nobody is kept from starting, and one daemon from being two.
    await (await acquireInstanceLock({ directory: scratchDirectory() })).release();
    await expect(acquireInstanceLock(lock)).rejects.toMatchObject({ code: 'ERR_ALREADY_RUNNING' });
    expect(fs.readdirSync(config.runtimeDir).sort()).toEqual(['singled.sock', 'state']);
  });

  it('is not answered even as root: only the kernel is', async () => {
    const { status } = await startDaemon();
    const port = portOf(fs.readFileSync('/proc/self/net/netlink', 'latin1').split('\n'));
    const forger = batchTransport({ acceptUserRequests: true });
    onTestFinished(() => forger.close());
    let heard = 0;
    forger.start((offset, length, from) => {
      if (from === port) heard += length - offset;
      return 0;
    });
    for (const type of [RequestType.IN_SYNC, RequestType.CTR, RequestType.FLUSH, RequestType.DTR]) {
      for (let count = 0; count < 50; count++) forger.send(request(type), port);
    }
    await vi.waitFor(async () => expect((await status()).transport['foreign']).toBeGreaterThanOrEqual(200), {
      timeout: 20_000,
    });
    const { transport, logs } = await status();
    expect({ received: transport['received'], sent: transport['sent'], logs }).toEqual({
      received: 0,
      sent: 0,
      logs: [],
    });
    expect(heard).toBe(0);
  });
});
