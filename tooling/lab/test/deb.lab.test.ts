import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startDaemon } from '../src/daemon.js';
import { disk, mirrorTable, regionsThatDiffer } from '../src/index.js';
import type { DaemonStatus } from '../src/singled.js';
import { useLab } from './support.js';

const lab = useLab();
const BUILD = fileURLToPath(new URL('../../packed/dist/deb-cli.js', import.meta.url));
/** Where the package puts the program; /usr/bin/singled leads there. */
const SINGLED = '/usr/lib/dmlog/node_modules/@dmlog/singled/dist/cli.cjs';
const REGION_SECTORS = 128;
const REGION_COUNT = 64;

let directory: string;
let deb: string;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'dmlog-deb-lab-'));
  const { stdout } = await promisify(execFile)(process.execPath, [BUILD, directory], { timeout: 400_000 });
  deb = stdout.trim().split('\n').at(-1) ?? '';
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('the Debian package', () => {
  it('is installed in a machine, serves a mirror there, and is removed', async () => {
    const disks = { leg0: disk('4M'), leg1: disk('4M'), log: disk('64K') };
    disks.leg0.randomize(1);
    const machine = await lab().boot({ disks });
    // The guest's root is this machine's, with a layer of its own: nothing here changes.
    const installed = await machine.run(`dpkg --install ${deb} 2>&1 && readlink -f /usr/bin/singled`);
    expect(installed.stdout).toMatch(/Setting up dmlog/);
    expect(installed.stdout.trim().split('\n').at(-1)).toBe(SINGLED);
    const program = { cli: SINGLED, ready: 'serving dirty logs' };
    const singled = await startDaemon<DaemonStatus>(machine, program, {});
    await machine.dmCreate(
      'm',
      mirrorTable({
        lengthSectors: disks.leg0.sectors,
        log: {
          kind: 'userspace',
          uuid: 'LVM-deb',
          type: 'disk',
          args: [machine.device('log'), REGION_SECTORS],
        },
        legs: [machine.device('leg0'), machine.device('leg1')],
        features: ['handle_errors'],
      }),
    );
    await machine.waitInSync('m');
    const status = JSON.parse((await machine.run('singled status --json')).stdout) as DaemonStatus;
    expect(status.logs).toMatchObject([
      { uuid: 'LVM-deb', regionCount: REGION_COUNT, inSyncCount: REGION_COUNT },
    ]);
    await machine.dmRemove('m');
    await singled.stop();
    await machine.run('dpkg --remove dmlog && ! command -v singled');
    await machine.halt();
    expect(regionsThatDiffer(disks.leg0, disks.leg1, REGION_SECTORS * 512, REGION_COUNT)).toEqual([]);
  });
});
