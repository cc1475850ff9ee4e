import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { batchTransport } from '@dmlog/connector';
import { expect, it, onTestFinished } from 'vitest';
import { otherListeners, preflight, referenceDaemon } from '../src/index.js';
import { describeAsRoot } from './helpers/root.js';
import { rejection, scratchDirectory } from './helpers/scratch.js';

/** Opens the connector group as the reference daemon does, under its name, and says so. */
async function pretendToBe(program: string, uid: number): Promise<number> {
  const file = path.join(scratchDirectory(), program);
  // A process is called by the last part of the path that it was executed by.
  fs.symlinkSync(process.execPath, file);
  const addon = path.resolve(
    import.meta.dirname,
    `../../connector/prebuilds/linux-${process.arch}/dmlog_connector.node`,
  );
  const script = `const addon = require(${JSON.stringify(addon)});
    addon.open(new ArrayBuffer(32768), new ArrayBuffer(480), 7, 65536, false, 0, () => {}, () => {});
    if (${uid} !== 0) { process.setgid(${uid}); process.setuid(${uid}); }
    console.log('open'); setInterval(() => {}, 1e6);`;
  const child = spawn(file, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  await new Promise((resolve, reject) => {
    child.stdout.once('data', resolve);
    child.once('error', reject);
    child.once('exit', () => reject(new Error('ended')));
  });
  return child.pid as number;
}

describeAsRoot('other daemons', () => {
  it('finds the reference daemon by its socket, and refuses to start beside it', async () => {
    const pid = await pretendToBe('cmirrord', 0);
    expect(referenceDaemon(otherListeners())).toMatchObject({ pid, program: 'cmirrord', uid: 0 });
    const error = await rejection(async () => preflight());
    expect(error).toMatchObject({ code: 'ERR_ALREADY_RUNNING' });
    expect(error.message).toContain(`cmirrord (process ${pid}) serves dirty logs on this host already`);
  });

  it("is not kept from starting by a process of a user's that bears the name, but warns of it", async () => {
    const pid = await pretendToBe('clogd', 65534);
    const listeners = otherListeners();
    expect(listeners).toContainEqual(expect.objectContaining({ pid, uid: 65534 }));
    expect(referenceDaemon(listeners.filter((listener) => listener.pid === pid))).toBeNull();
  });

  it('does not take its own socket for another daemon', async () => {
    const transport = batchTransport();
    onTestFinished(() => transport.close());
    expect(otherListeners().map(({ pid }) => pid)).not.toContain(process.pid);
  });
});
