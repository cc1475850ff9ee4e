import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import fc from 'fast-check';
import pino from 'pino';
import { describe, expect, it, onTestFinished } from 'vitest';
import { LineCutter, TOO_LONG } from '../src/control/lines.js';
import { ControlServer, type ControlServerOptions, controlRequest, LINE_BYTES_MAX } from '../src/index.js';
import { rejection, scratchDirectory } from './helpers/scratch.js';

const logger = pino({ level: 'silent' });

const methods = {
  add: (params: unknown) => (params as number[]).reduce((sum, n) => sum + n, 0),
  later: async () => 'done',
  nothing: () => undefined,
  fails: () => {
    throw Object.assign(new Error('the device is gone'), { code: 'ERR_LOG_DEVICE_MISSING' });
  },
  breaks: () => (undefined as unknown as { x: number }).x,
  unspeakable: () => 1n,
  hangs: () => new Promise(() => {}),
};

async function server(options: Partial<ControlServerOptions> = {}): Promise<string> {
  const socket = options.path ?? path.join(scratchDirectory(), 'c.sock');
  const control = new ControlServer({ methods, logger, ...options, path: socket });
  await control.listen();
  onTestFinished(() => control.close());
  return socket;
}

/** Sends raw bytes and gives all that comes back until the daemon closes or `lines` lines have come. */
function talk(socket: string, bytes: string | Buffer, lines: number): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const client = net.connect(socket, () => client.write(bytes));
    let text = '';
    client.on('data', (chunk) => {
      text += chunk.toString();
      if (text.split('\n').length > lines) client.destroy();
    });
    client.on('error', reject);
    client.on('close', () => resolve(text.split('\n').filter((line) => line !== '')));
  });
}

describe('control socket', () => {
  it('answers methods, at once or later', async () => {
    const socket = await server();
    expect(await controlRequest(socket, 'add', [1, 2, 3])).toBe(6);
    expect(await controlRequest(socket, 'later')).toBe('done');
    expect(await controlRequest(socket, 'nothing')).toBeNull();
  });

  it("is its owner's alone, whatever the umask", async () => {
    const before = process.umask(0);
    onTestFinished(() => {
      process.umask(before);
    });
    const socket = await server();
    expect(fs.statSync(socket).mode & 0o777).toBe(0o600);
    expect(process.umask(0)).toBe(0);
  });

  it('answers several lines of one packet in order, and a line of several packets', async () => {
    const socket = await server();
    const requests = [1, 2, 3].map((id) => `{"id":${id},"method":"add","params":[${id}]}\n`).join('');
    const answers = await talk(socket, requests, 3);
    expect(answers.map((line) => JSON.parse(line))).toEqual([1, 2, 3].map((n) => ({ id: n, result: n })));
    const client = net.connect(socket);
    client.write('{"id":"a","met');
    await new Promise((resolve) => setTimeout(resolve, 20));
    client.write('hod":"later"}\n');
    const answer = await new Promise<string>((resolve) =>
      client.once('data', (chunk) => resolve(chunk.toString())),
    );
    client.destroy();
    expect(JSON.parse(answer)).toEqual({ id: 'a', result: 'done' });
  });

  it('is removed when it is closed', async () => {
    const socket = path.join(scratchDirectory(), 'c.sock');
    const control = new ControlServer({ methods, logger, path: socket });
    await control.listen();
    const client = net.connect(socket);
    await new Promise((resolve) => client.once('connect', resolve));
    await control.close();
    await control.close();
    expect(fs.existsSync(socket)).toBe(false);
    client.destroy();
  });
});

describe('invalid control input', () => {
  it.each([
    ['no JSON', 'hello', 'ERR_CONTROL_BAD_REQUEST', null],
    ['an empty line', '', 'ERR_CONTROL_BAD_REQUEST', null],
    ['null', 'null', 'ERR_CONTROL_BAD_REQUEST', null],
    ['no id', '{"method":"later"}', 'ERR_CONTROL_BAD_REQUEST', null],
    ['an object as id', '{"id":{},"method":"later"}', 'ERR_CONTROL_BAD_REQUEST', null],
    ['an unknown key', '{"id":7,"method":"later","parms":1}', 'ERR_CONTROL_BAD_REQUEST', 7],
    ['an unknown method', '{"id":7,"method":"later2"}', 'ERR_CONTROL_UNKNOWN_METHOD', 7],
    ['a name every object has', '{"id":7,"method":"constructor"}', 'ERR_CONTROL_UNKNOWN_METHOD', 7],
    ['__proto__', '{"id":7,"method":"__proto__"}', 'ERR_CONTROL_UNKNOWN_METHOD', 7],
    ["a method's own error", '{"id":7,"method":"fails"}', 'ERR_LOG_DEVICE_MISSING', 7],
    ['a bug of a method', '{"id":7,"method":"breaks"}', 'ERR_CONTROL_INTERNAL', 7],
    ['a result that is no JSON', '{"id":7,"method":"unspeakable"}', 'ERR_CONTROL_INTERNAL', 7],
  ])('answers %s with an error, and the connection lives on', async (_, line, code, id) => {
    const socket = await server();
    const [bad, good] = await talk(socket, `${line}\n{"id":8,"method":"later"}\n`, 2);
    expect(JSON.parse(bad ?? '')).toMatchObject({ id, error: { code } });
    expect(JSON.parse(good ?? '')).toEqual({ id: 8, result: 'done' });
  });

  it('ends a connection whose line is too long, with or without an end, and no other', async () => {
    const socket = await server();
    for (const end of ['', '\n']) {
      const [answer, ...rest] = await talk(socket, `${'x'.repeat(LINE_BYTES_MAX + 1)}${end}`, 99);
      expect(JSON.parse(answer ?? '')).toMatchObject({
        id: null,
        error: { code: 'ERR_CONTROL_LINE_TOO_LONG' },
      });
      expect(rest).toEqual([]);
    }
    expect(await controlRequest(socket, 'later')).toBe('done');
  });

  it('survives whatever bytes come', async () => {
    const socket = await server();
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        await talk(socket, Buffer.concat([bytes, Buffer.from('\n')]), 1);
      }),
      { numRuns: 50 },
    );
    expect(await controlRequest(socket, 'later')).toBe('done');
  });

  it('bounds the clients, and says so to the one too many', async () => {
    const socket = await server({ clientsMax: 1 });
    const first = net.connect(socket);
    await new Promise((resolve) => first.once('connect', resolve));
    expect(await rejection(() => controlRequest(socket, 'later'))).toMatchObject({
      code: 'ERR_CONTROL_TOO_MANY_CLIENTS',
    });
    first.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await controlRequest(socket, 'later')).toBe('done');
  });

  it('closes a connection that asks nothing', async () => {
    const socket = await server({ idleMs: 30 });
    expect(await talk(socket, '', 99)).toEqual([]);
  });
});

describe('the path of the control socket', () => {
  it('may hold the socket of a dead daemon, which is replaced', async () => {
    const socket = path.join(scratchDirectory(), 'c.sock');
    // A socket that is bound but whose process ended leaves its file: made here by renaming it away from libuv's unlink.
    const dead = net.createServer().listen(`${socket}.x`);
    await new Promise((resolve) => dead.once('listening', resolve));
    fs.renameSync(`${socket}.x`, socket);
    await new Promise((resolve) => dead.close(resolve));
    expect(await rejection(() => controlRequest(socket, 'later'))).toMatchObject({
      code: 'ERR_CONTROL_NOT_RUNNING',
    });
    await server({ path: socket });
    expect(await controlRequest(socket, 'later')).toBe('done');
  });

  it('is refused while a daemon lives there, which goes on', async () => {
    const socket = await server();
    const error = await rejection(() => new ControlServer({ path: socket, methods, logger }).listen());
    expect(error).toMatchObject({ code: 'ERR_CONTROL_IN_USE' });
    expect(await controlRequest(socket, 'later')).toBe('done');
  });

  it('is refused where a file stands, which is left alone', async () => {
    const file = path.join(scratchDirectory(), 'precious');
    fs.writeFileSync(file, 'data');
    const error = await rejection(() => new ControlServer({ path: file, methods, logger }).listen());
    expect(error).toMatchObject({ code: 'ERR_CONTROL_SOCKET' });
    expect(fs.readFileSync(file, 'utf8')).toBe('data');
  });

  it('is refused where it is longer than the kernel takes, instead of being cut', () => {
    const long = `/tmp/${'x'.repeat(103)}`;
    expect(() => new ControlServer({ path: long, methods, logger })).toThrow(
      expect.objectContaining({ code: 'ERR_CONTROL_SOCKET' }),
    );
    expect(() => new ControlServer({ path: long.slice(1), methods, logger })).not.toThrow();
  });

  it('is refused in a directory that is not there, by check too', async () => {
    const socket = path.join(scratchDirectory(), 'no/c.sock');
    const control = new ControlServer({ path: socket, methods, logger });
    expect(await rejection(() => control.check())).toMatchObject({ code: 'ERR_CONTROL_SOCKET' });
    expect(await rejection(() => control.listen())).toMatchObject({ code: 'ERR_CONTROL_SOCKET' });
  });
});

describe('controlRequest', () => {
  it('says what to do where nothing listens', async () => {
    const error = await rejection(() => controlRequest('/nonexistent/c.sock', 'status'));
    expect(error).toMatchObject({ code: 'ERR_CONTROL_NOT_RUNNING' });
    expect(error.message).toContain('no log daemon is running at /nonexistent/c.sock');
    expect(error.message).toContain('start it or pass --control-socket');
  });

  it('does not wait for ever', async () => {
    const socket = await server();
    expect(await rejection(() => controlRequest(socket, 'hangs', undefined, 50))).toMatchObject({
      code: 'ERR_CONTROL_TIMEOUT',
    });
  });

  it.each([
    ['nothing', ''],
    ['no JSON', 'HTTP/1.1 400\n'],
    ['no response', '{"jsonrpc":"2.0"}\n'],
  ])('refuses a peer that answers %s', async (_, answer) => {
    const socket = path.join(scratchDirectory(), 'c.sock');
    const peer = net.createServer((client) => client.end(answer)).listen(socket);
    onTestFinished(() => {
      peer.close();
    });
    expect(await rejection(() => controlRequest(socket, 'status'))).toMatchObject({
      code: 'ERR_CONTROL_PROTOCOL',
    });
  });

  it('takes an answer larger than one packet', async () => {
    const socket = await server({ methods: { large: () => 'x'.repeat(3_000_000) } });
    expect(await controlRequest(socket, 'large')).toHaveLength(3_000_000);
  });
});

describe('LineCutter', () => {
  it('gives the same lines however the bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.string({ maxLength: 20 }).map((s) => s.replaceAll('\n', ' '))),
        fc.integer({ min: 1, max: 9 }),
        (lines, step) => {
          const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
          const cutter = new LineCutter(1000);
          const found: (string | typeof TOO_LONG)[] = [];
          for (let at = 0; at < bytes.length; at += step) {
            cutter.push(bytes.subarray(at, at + step));
            for (let line = cutter.next(); line !== null; line = cutter.next()) found.push(line);
          }
          expect(found).toEqual(lines.map((line) => Buffer.from(line).toString()));
        },
      ),
    );
  });

  it('takes a line of exactly the bound and none longer', () => {
    const cutter = new LineCutter(3);
    cutter.push(Buffer.from('abc\nabcd\n'));
    expect(cutter.next()).toBe('abc');
    expect(cutter.next()).toBe(TOO_LONG);
  });
});
