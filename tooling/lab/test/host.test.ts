import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, it } from 'vitest';
import { shellQuote } from '../src/channel.js';
import { HOST_DIRECTORY } from '../src/constants.js';
import { disk, mirrorTable, parseMirrorStatus, regionsThatDiffer } from '../src/index.js';
import { moduleLoadOrder } from '../src/kernel.js';
import { processesOfSession } from '../src/run-directory.js';

it('composes a userspace log table, with the count that the kernel expects', () => {
  const log = {
    kind: 'userspace',
    uuid: 'u-1',
    type: 'disk',
    args: ['/dev/ubdc', 1024, 'nosync'],
    integratedFlush: true,
  } as const;
  expect(
    mirrorTable({ lengthSectors: 32768, log, legs: ['/dev/ubda', '/dev/ubdb'], features: ['handle_errors'] }),
  ).toBe(
    '0 32768 mirror userspace 6 u-1 integrated_flush disk /dev/ubdc 1024 nosync 2 /dev/ubda 0 /dev/ubdb 0 1 handle_errors',
  );
});

it("composes tables of the kernel's own logs", () => {
  const legs = ['/dev/a', { device: '/dev/b', offsetSectors: 2048 }];
  expect(mirrorTable({ lengthSectors: 64, log: { kind: 'core', args: [8] }, legs })).toBe(
    '0 64 mirror core 1 8 2 /dev/a 0 /dev/b 2048',
  );
});

it('reads a mirror status', () => {
  expect(parseMirrorStatus('0 32768 mirror 2 98:0 98:16 31/32 1 AD 3 disk 98:32 A\n')).toEqual({
    devices: ['98:0', '98:16'],
    inSyncCount: 31,
    regionCount: 32,
    legHealth: 'AD',
    log: 'disk 98:32 A',
  });
  expect(() => parseMirrorStatus('0 8 linear 8:0 0')).toThrow(/not the status of a mirror/);
});

it('names the regions that differ, the cut last one too', () => {
  const legs = [disk(5 * 512), disk(5 * 512)] as const;
  for (const leg of legs) leg.randomize(42);
  expect(regionsThatDiffer(...legs, 1024, 3)).toEqual([]);
  legs[1].write(1023, Uint8Array.of(legs[0].read(1023, 1)[0]! ^ 1));
  legs[1].write(5 * 512 - 1, Uint8Array.of(legs[0].read(5 * 512 - 1, 1)[0]! ^ 1));
  expect(regionsThatDiffer(...legs, 1024, 3)).toEqual([0, 2]);
});

it('randomizes by the seed alone', () => {
  const [a, b, c] = [disk('4K'), disk('4K'), disk('4K')] as const;
  a.randomize(7);
  b.randomize(7);
  c.randomize(8);
  expect(a.read().equals(b.read())).toBe(true);
  expect(a.read().equals(c.read())).toBe(false);
});

it.each(['', '0', '16X', '1.5M', '-1', '100', 513])('refuses the disk size %j', (size) => {
  expect(() => disk(size)).toThrow(expect.objectContaining({ code: 'ERR_LAB_USAGE' }));
});

it('inserts a module after what it depends on, each once, with its parameters', () => {
  const dep =
    'kernel/a/dm-mod.ko:\nkernel/a/dm-log.ko: kernel/a/dm-mod.ko\nkernel/b/dm-mirror.ko: kernel/a/dm-log.ko kernel/a/dm-mod.ko\nkernel/b/brd.ko:\n';
  expect(moduleLoadOrder(dep, '/m', ['dm_mirror', 'brd rd_nr=2 rd_size=64', 'dm-log'])).toEqual([
    { path: '/m/kernel/a/dm-mod.ko', parameters: '' },
    { path: '/m/kernel/a/dm-log.ko', parameters: '' },
    { path: '/m/kernel/b/dm-mirror.ko', parameters: '' },
    { path: '/m/kernel/b/brd.ko', parameters: 'rd_nr=2 rd_size=64' },
  ]);
});

it('quotes for the shell', () => {
  expect(shellQuote("it's $HOME")).toBe("'it'\\''s $HOME'");
});

it('ends guarded sessions and removes the directory when the test process is gone', async () => {
  const directory = mkdtempSync(`${tmpdir()}/dmlog lab-`);
  const victim = spawn('sh', ['-c', 'sleep 300 & sleep 300'], { detached: true, stdio: 'ignore' });
  const spared = spawn('sleep', ['300'], { detached: true, stdio: 'ignore' });
  const session = victim.pid!;
  const gone = (code: string) => expect.poll(() => processesOfSession(session).length, { message: code });
  await gone('starts').toBe(2 + 1);
  const watchdog = spawn('sh', [`${HOST_DIRECTORY}/watchdog.sh`, directory], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watchdog.stdin!.end(`add ${spared.pid}\nadd ${session}\ndrop ${spared.pid}\n`);
  await new Promise((resolve) => watchdog.once('exit', resolve));
  await gone('ends').toBe(0);
  expect(existsSync(directory)).toBe(false);
  expect(processesOfSession(spared.pid!)).toEqual([spared.pid]);
  spared.kill('SIGKILL');
});
