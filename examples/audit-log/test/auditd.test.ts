import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loopbackTransport } from '@dmlog/connector';
import { createLogger, loadConfig, serve } from '@dmlog/daemon';
import { decodeReply, encodeRequestInto, RequestType } from '@dmlog/protocol';
import { expect, it } from 'vitest';
import { auditTypes } from '../src/index.js';

/** The daemon as it is, with one type more, asked as the kernel asks. */
it('the daemon serves the type by its name, and still refuses names that nobody knows', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'auditd-'));
  const file = join(directory, 'log');
  const logging = createLogger({ name: 'auditd', fd: openSync(file, 'w') });
  const replies: Uint8Array[] = [];
  const transport = loopbackTransport({ onReply: (bytes) => replies.push(bytes) });
  const daemon = await serve(loadConfig({ flags: {} }), logging.logger, {
    logTypes: auditTypes(logging.logger),
    openTransport: () => transport,
    openState: () => null,
  });
  let seq = 0;
  const ask = async (type: RequestType, data: Uint8Array): Promise<number> => {
    const frame = new Uint8Array(1024);
    const luid = { low: 7, high: 0 };
    const end = encodeRequestInto(frame, 0, { type, version: 3, seq: ++seq, luid, uuid: 'LVM-a', data });
    const before = replies.length;
    transport.deliver(frame.subarray(0, end));
    await expect.poll(() => replies.length, { timeout: 20_000 }).toBe(before + 1);
    const reply = decodeReply(replies[before] as Uint8Array);
    return Math.abs(reply.kind === 'full' ? reply.error : reply.errno);
  };
  const text = (line: string) => new TextEncoder().encode(line);
  const region = (index: number) => new Uint8Array(BigUint64Array.of(BigInt(index)).buffer);
  expect(await ask(RequestType.CTR, text('16384 audyt 1024'))).toBe(22);
  expect(await ask(RequestType.CTR, text('16384 audit 1024 nosync'))).toBe(0);
  expect(await ask(RequestType.RESUME, new Uint8Array(0))).toBe(0);
  expect(await ask(RequestType.MARK_REGION, region(5))).toBe(0);
  expect(daemon.status().logs).toMatchObject([{ type: 'audit', dirtyCount: 1 }]);
  await daemon.stop('end of the test');
  await logging.close(20_000);
  const lines = readFileSync(file, 'utf8').trim().split('\n');
  rmSync(directory, { recursive: true });
  expect(lines.map((line) => JSON.parse(line))).toContainEqual(
    expect.objectContaining({ event: 'dirtied', region: 5, msg: 'region 5 dirtied' }),
  );
});
