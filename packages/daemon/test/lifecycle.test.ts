import { execFileSync, spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import pino from 'pino';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  acquireInstanceLock,
  type BugSource,
  controlRequest,
  type DaemonStatus,
  EXIT_CODE_TEXTS,
  ExitCode,
  ensureRuntimeDir,
  exitCodeOf,
  type InstanceLockOptions,
  loadConfig,
  onStopSignals,
  type RunningDaemon,
  type RunOptions,
  runDaemon,
  type SignalSource,
} from '../src/index.js';
import { rejection, scratchDirectory } from './helpers/scratch.js';

const silent = pino({ level: 'silent' });
let locks = 0;
/** By the addon, and as where it does not load. */
const ownLock = (lockFile?: null): InstanceLockOptions => ({
  name: `dmlog-test/${process.pid}/${locks++}`,
  ...(lockFile === null ? { lockFile } : { directory: path.join(scratchDirectory(), 'locks') }),
});

describe('ensureRuntimeDir', () => {
  it('creates the directory and its parents with mode 0700, and accepts it again', async () => {
    const directory = path.join(scratchDirectory(), 'a/b');
    expect(await ensureRuntimeDir(directory)).toMatchObject({ path: directory });
    expect(fs.statSync(directory).mode & 0o777).toBe(0o700);
    await ensureRuntimeDir(directory);
  });

  it('knows a tmpfs', async () => {
    const memory = execFileSync('stat', ['--file-system', '--format=%T', '/dev/shm'], {
      encoding: 'utf8',
    }).trim();
    const directory = fs.mkdtempSync('/dev/shm/dmlog-');
    onTestFinished(() => fs.rmSync(directory, { recursive: true }));
    expect((await ensureRuntimeDir(directory)).inMemory).toBe(memory === 'tmpfs');
  });

  it('refuses a directory that others may write, and does not change it', async () => {
    const directory = scratchDirectory();
    fs.chmodSync(directory, 0o1777);
    expect(await rejection(() => ensureRuntimeDir(directory))).toMatchObject({ code: 'ERR_RUNTIME_DIR' });
    expect(fs.statSync(directory).mode & 0o7777).toBe(0o1777);
  });

  it('refuses a file and a symbolic link', async () => {
    const directory = scratchDirectory();
    fs.writeFileSync(`${directory}/file`, '');
    fs.symlinkSync(directory, `${directory}/link`);
    for (const name of ['file', 'link']) {
      expect(await rejection(() => ensureRuntimeDir(`${directory}/${name}`))).toMatchObject({
        code: 'ERR_RUNTIME_DIR',
      });
    }
  });
});

describe('acquireInstanceLock', () => {
  it.each([[undefined], [null]])(
    'is held by one, and free again when released (addon: %s)',
    async (addon) => {
      const own = ownLock(addon as undefined);
      const lock = await acquireInstanceLock(own);
      expect(await rejection(() => acquireInstanceLock(own))).toMatchObject({ code: 'ERR_ALREADY_RUNNING' });
      await lock.release();
      await lock.release();
      await (await acquireInstanceLock(own)).release();
    },
  );

  /** Holds the lock in another process, kills that, and takes it. */
  async function outlive(own: InstanceLockOptions, script: string): Promise<void> {
    const holder = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    expect(await rejection(() => acquireInstanceLock(own))).toMatchObject({ code: 'ERR_ALREADY_RUNNING' });
    const ended = new Promise((resolve) => holder.once('exit', resolve));
    holder.kill('SIGKILL');
    await ended;
    await (await acquireInstanceLock(own)).release();
  }

  it('excludes other processes, and is freed when its holder is killed', async () => {
    const own = ownLock();
    // Leaves the file behind, as a daemon does.
    await (await acquireInstanceLock(own)).release();
    const [name] = fs.readdirSync(own.directory as string);
    const file = path.join(own.directory as string, name as string);
    expect(fs.statSync(file).mode & 0o777).toBe(0o600);
    const addon = path.resolve(
      import.meta.dirname,
      `../../connector/prebuilds/linux-${process.arch}/dmlog_connector.node`,
    );
    await outlive(
      own,
      `const fd = fs.openSync(${JSON.stringify(file)}, 'r+'); console.log(require(${JSON.stringify(addon)}).lockFile(fd)); setInterval(() => fd, 1e6)`,
    );
  });

  it('does so without the addon', async () => {
    const own = ownLock(null);
    // The address as acquireInstanceLock documents it: NUL and the name padded to 107 bytes.
    await outlive(
      own,
      `require('net').createServer().listen('\\0' + ${JSON.stringify(own.name)}.padEnd(107, '.'), () => console.log('held'))`,
    );
  });

  it('does not follow a link, nor use a directory that others may write', async () => {
    const own = ownLock();
    await (await acquireInstanceLock(own)).release();
    const [name] = fs.readdirSync(own.directory as string);
    const file = path.join(own.directory as string, name as string);
    fs.renameSync(file, `${file}.away`);
    fs.symlinkSync(`${file}.away`, file);
    expect(await rejection(() => acquireInstanceLock(own))).toMatchObject({ code: 'ERR_RUNTIME_DIR' });
    fs.chmodSync(own.directory as string, 0o777);
    expect(await rejection(() => acquireInstanceLock(own))).toMatchObject({ code: 'ERR_RUNTIME_DIR' });
  });
});

describe('onStopSignals', () => {
  it('stops at the first signal and ends at the second, whichever they are', () => {
    const source = new EventEmitter();
    const events: unknown[] = [];
    const dispose = onStopSignals(
      (signal) => events.push(signal),
      (code) => events.push(code),
      source as SignalSource,
    );
    source.emit('SIGTERM');
    source.emit('SIGINT');
    source.emit('SIGTERM');
    expect(events).toEqual(['SIGTERM', 130, 143]);
    dispose();
    expect(source.listenerCount('SIGTERM') + source.listenerCount('SIGINT')).toBe(0);
  });
});

describe('exit codes', () => {
  it('each have a paragraph in docs/operations.md', () => {
    const operations = fs.readFileSync(new URL('../../../docs/operations.md', import.meta.url), 'utf8');
    const happens = operations.slice(operations.indexOf('## What happens when'));
    for (const code of Object.values(ExitCode))
      expect(happens).toMatch(new RegExp(`\\((.*[^0-9])?${code}\\b`));
  });

  it('are all explained', () => {
    const explained = EXIT_CODE_TEXTS.map(([code]) => code);
    for (const code of Object.values(ExitCode)) expect(explained).toContain(String(code));
  });

  it.each([
    ['ERR_CONFIG_FLAG', 64],
    ['ERR_CONFIG_KEY', 65],
    ['ERR_CONNECTOR_SOCKET', 69],
    ['ERR_CONTROL_SOCKET', 73],
    ['ERR_ALREADY_RUNNING', 75],
    ['ERR_CONNECTOR_PERMISSION', 77],
    ['ERR_ANYTHING_ELSE', 70],
    ['toString', 70],
  ])('%s is %i', (code, exitCode) => {
    expect(exitCodeOf(Object.assign(new Error('x'), { code }))).toBe(exitCode);
  });
});

describe('runDaemon', () => {
  class FakeDaemon implements RunningDaemon {
    readonly closed: Promise<number>;
    end: (code: number) => void = () => undefined;
    readonly stops: string[] = [];
    constructor() {
      this.closed = new Promise((resolve) => {
        this.end = resolve;
      });
    }
    status(): DaemonStatus {
      return {
        version: '1.2.3',
        pid: process.pid,
        uptimeSeconds: 1,
        transport: { name: 'loopback', received: 5 },
        logs: [],
      };
    }
    readonly handOver = null;
    async stop(reason: string): Promise<void> {
      this.stops.push(reason);
      this.end(0);
    }
  }

  function options(
    extra: Partial<RunOptions> = {},
  ): RunOptions & { signals: EventEmitter & SignalSource; ends: number[] } {
    const ends: number[] = [];
    return {
      config: loadConfig({ flags: { runtimeDir: path.join(scratchDirectory(), 'run') } }),
      logger: silent,
      serve: async () => new FakeDaemon(),
      endNow: (code) => ends.push(code),
      lock: ownLock(),
      preflight: () => [],
      signals: new EventEmitter() as EventEmitter & SignalSource,
      ends,
      ...extra,
    } as ReturnType<typeof options>;
  }

  async function whenReady(socket: string): Promise<void> {
    for (let i = 0; !fs.existsSync(socket); i++) {
      if (i > 500) throw new Error(`no control socket at ${socket}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  it('serves status and metrics until a signal stops it, and leaves nothing behind', async () => {
    const run = options();
    const done = runDaemon(run);
    const socket = run.config.controlSocket;
    await whenReady(socket);
    expect(await controlRequest(socket, 'status')).toMatchObject({
      version: '1.2.3',
      transport: { name: 'loopback' },
    });
    expect(await controlRequest(socket, 'metrics')).toContain('dmlog_transport_received_total 5');
    run.signals.emit('SIGTERM');
    expect(await done).toBe(0);
    expect(fs.existsSync(socket)).toBe(false);
    expect(run.signals.listenerCount('SIGTERM')).toBe(0);
    await (await acquireInstanceLock(run.lock)).release();
  });

  it('opens the control socket only when the daemon can answer', async () => {
    let open = true;
    const run = options({
      serve: async (config) => {
        await new Promise((resolve) => setTimeout(resolve, 30));
        open = fs.existsSync(config.controlSocket);
        return new FakeDaemon();
      },
    });
    const done = runDaemon(run);
    await whenReady(run.config.controlSocket);
    expect(open).toBe(false);
    run.signals.emit('SIGINT');
    expect(await done).toBe(0);
  });

  it('heeds a signal that comes while the daemon starts', async () => {
    const daemon = new FakeDaemon();
    const run: ReturnType<typeof options> = options({
      serve: async () => {
        run.signals.emit('SIGTERM');
        return daemon;
      },
    });
    expect(await runDaemon(run)).toBe(0);
    expect(daemon.stops).toEqual(['SIGTERM']);
  });

  it('ends at once at the second signal', async () => {
    const daemon = new FakeDaemon();
    daemon.stop = () => new Promise(() => {});
    const run = options({ serve: async () => daemon });
    const done = runDaemon(run);
    await whenReady(run.config.controlSocket);
    run.signals.emit('SIGTERM');
    run.signals.emit('SIGTERM');
    expect(run.ends).toEqual([143]);
    daemon.end(0);
    await done;
  });

  it('ends with the exit code of a bug, in order, when an exception is caught by nobody', async () => {
    const daemon = new FakeDaemon();
    const bugs = new EventEmitter();
    const run = options({ serve: async () => daemon, bugs: bugs as BugSource });
    const done = runDaemon(run);
    await whenReady(run.config.controlSocket);
    bugs.emit('uncaughtException', new Error('planted'));
    bugs.emit('uncaughtException', new Error('planted again'));
    expect(await done).toBe(ExitCode.INTERNAL);
    expect(daemon.stops).toEqual(['a bug']);
    expect(bugs.listenerCount('uncaughtException')).toBe(0);
  });

  it('ends at once where a bug comes before it serves, and where it cannot stop any more', async () => {
    const bugs = new EventEmitter();
    const daemon = new FakeDaemon();
    daemon.stop = () => Promise.reject(new Error('cannot'));
    const run: ReturnType<typeof options> = options({
      bugs: bugs as BugSource,
      serve: async () => {
        bugs.emit('uncaughtException', new Error('planted'));
        expect(run.ends).toEqual([70]);
        return daemon;
      },
    });
    const done = runDaemon(run);
    await whenReady(run.config.controlSocket);
    daemon.end(0);
    expect(await done).toBe(70);
  });

  it("gives the daemon's own exit code when it ends by itself", async () => {
    const daemon = new FakeDaemon();
    const done = runDaemon(options({ serve: async () => daemon }));
    daemon.end(70);
    expect(await done).toBe(70);
  });

  it.each([
    ['ERR_CONNECTOR_PERMISSION', 77],
    ['ERR_CONNECTOR_SOCKET', 69],
    ['anything', 70],
  ])('turns a start that fails with %s into exit code %i', async (code, exitCode) => {
    const serve = async (): Promise<never> => {
      throw Object.assign(new Error('no'), { code });
    };
    expect(await runDaemon(options({ serve }))).toBe(exitCode);
  });

  it('does not start beside another, nor without its directory', async () => {
    const first = options();
    const done = runDaemon(first);
    await whenReady(first.config.controlSocket);
    expect(await runDaemon(options({ lock: first.lock as InstanceLockOptions }))).toBe(
      ExitCode.ALREADY_RUNNING,
    );
    // The lock of another network namespace is not seen, but the socket is.
    expect(await runDaemon(options({ config: first.config }))).toBe(ExitCode.ALREADY_RUNNING);
    first.signals.emit('SIGTERM');
    await done;
    const config = loadConfig({ flags: { runtimeDir: '/dev/null/x' } });
    expect(await runDaemon(options({ config }))).toBe(ExitCode.CANNOT_CREATE);
  });

  it('stops a daemon whose control socket cannot be made', async () => {
    const daemon = new FakeDaemon();
    const run = options({
      serve: async (config) => {
        fs.writeFileSync(config.controlSocket, 'in the way');
        return daemon;
      },
    });
    expect(await runDaemon(run)).toBe(ExitCode.CANNOT_CREATE);
    expect(daemon.stops).toEqual(['no control socket']);
  });
});
