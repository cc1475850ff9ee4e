import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { deviceNumberOf } from '../src/device/sysfs.js';
import { alignedBuffer, LegFlusher, LogDevice } from '../src/index.js';
import { loopDevice, loopProblem, rejection } from './helpers/scratch.js';
import { SysfsTree } from './helpers/sysfs-tree.js';

const problem = loopProblem();
if (problem !== null)
  console.warn(
    `SKIPPED: the tests on real block devices, because loop devices cannot be used here: ${problem}`,
  );

const WRITABLE = { writable: true } as const;

describe.skipIf(problem !== null)('LogDevice on a loop device', () => {
  it('knows its number, size and blocks, and keeps what was written', async () => {
    const path = loopDevice(1 << 20, '--sector-size', '4096');
    const device = await LogDevice.open(path, WRITABLE);
    expect(device).toMatchObject({
      path,
      sizeBytes: 1 << 20,
      logicalBlockBytes: 4096,
      physicalBlockBytes: 4096,
    });
    expect(device.deviceNumber).toMatch(/^7:\d+$/);
    await device.write(alignedBuffer(8192).fill(5), 0, 8192, 4096);
    await device.close();
    const again = await LogDevice.open(device.deviceNumber, { writable: false });
    expect(again.path).toBe(path);
    const back = alignedBuffer(16384);
    await again.read(back, 0, 16384, 0);
    await again.close();
    expect([back[4095], back[4096], back[12287], back[12288]]).toEqual([0xee, 5, 5, 0xee]);
  });

  it('refuses a write-protected device, but reads it', async () => {
    const path = loopDevice(1 << 20, '--read-only');
    expect(await rejection(() => LogDevice.open(path, WRITABLE))).toMatchObject({
      code: 'ERR_LOG_DEVICE_READ_ONLY',
      errno: 30,
    });
    await (await LogDevice.open(path, { writable: false })).close();
  });

  it('refuses a device that somebody else claims, and takes it when it is free', async () => {
    const path = loopDevice(1 << 20);
    const claim = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_EXCL);
    const error = await rejection(() => LogDevice.open(path, WRITABLE));
    fs.closeSync(claim);
    expect(error).toMatchObject({ code: 'ERR_LOG_DEVICE_IN_USE', errno: 16 });
    await (await LogDevice.open(path, WRITABLE)).close();
  });

  it.each([
    ['dm-3', true],
    ['md0', false],
  ])('with a claim by %s is usable: %s', async (holder, usable) => {
    const path = loopDevice(1 << 20);
    const number = deviceNumberOf(fs.statSync(path).rdev);
    const tree = new SysfsTree();
    tree.add('disk', number, { 'queue/logical_block_size': '512' });
    tree.add(holder, '250:1');
    tree.stack(holder, 'disk');
    const claim = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_EXCL);
    const opened = await LogDevice.open(path, { writable: true, roots: tree }).catch((error: Error) => error);
    fs.closeSync(claim);
    if (opened instanceof LogDevice) await opened.close();
    expect(opened instanceof LogDevice).toBe(usable);
    if (!usable) expect((opened as Error).message).toContain('by md0');
  });

  it('does not keep the kernel from claiming the device', async () => {
    const path = loopDevice(1 << 20);
    const device = await LogDevice.open(path, WRITABLE);
    const claim = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_EXCL);
    fs.closeSync(claim);
    await device.close();
  });
});

describe.skipIf(problem !== null)('LegFlusher on loop devices', () => {
  /** A made-up mirror over a made-up log and real legs. */
  function mirror(paths: readonly string[]): SysfsTree {
    const tree = new SysfsTree();
    tree.add('log', '250:0');
    tree.add('dm-1', '250:1');
    tree.stack('dm-1', 'log');
    for (const path of paths) addLeg(tree, path);
    return tree;
  }

  function addLeg(tree: SysfsTree, path: string): void {
    const name = path.slice('/dev/'.length);
    const { rdev } = fs.statSync(path);
    tree.add(name, deviceNumberOf(rdev));
    tree.stack('dm-1', name);
    fs.symlinkSync(path, `${tree.devRoot}/${name}`);
  }

  function openCount(path: string): number {
    return fs.readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`) === path;
      } catch {
        return false;
      }
    }).length;
  }

  it('flushes all legs, keeps them open, and lets go when closed', async () => {
    const paths = [loopDevice(1 << 20), loopDevice(1 << 20)];
    const flusher = new LegFlusher('250:0', mirror(paths));
    await flusher.flush();
    await flusher.flush();
    expect(paths.map(openCount)).toEqual([1, 1]);
    await flusher.close();
    await flusher.close();
    expect(paths.map(openCount)).toEqual([0, 0]);
    await expect(flusher.flush()).rejects.toMatchObject({ code: 'ERR_LEGS_UNKNOWN' });
  });

  it('makes what was written to a leg durable: the file below holds it', async () => {
    const path = loopDevice(1 << 20);
    const below = execFileSync('losetup', ['--noheadings', '--output', 'BACK-FILE', path], {
      encoding: 'utf8',
    }).trim();
    const flusher = new LegFlusher('250:0', mirror([path]));
    const fd = fs.openSync(path, 'r+');
    fs.writeSync(fd, Buffer.alloc(4096, 0x42), 0, 4096, 0);
    // Written to the device's page cache only. The flush writes it back and flushes the device.
    expect(fs.readFileSync(below)[0]).toBe(0xee);
    await flusher.flush();
    expect(fs.readFileSync(below)[0]).toBe(0x42);
    fs.closeSync(fd);
    await flusher.close();
  });

  it('shares one further flush among all calls during a flush', async () => {
    const flusher = new LegFlusher('250:0', mirror([loopDevice(1 << 20)]));
    const first = flusher.flush();
    const second = flusher.flush();
    expect(flusher.flush()).toBe(second);
    expect(second).not.toBe(first);
    await Promise.all([first, second]);
    await flusher.close();
  });

  it('finds new legs, and lets old ones go, after invalidate', async () => {
    const paths = [loopDevice(1 << 20), loopDevice(1 << 20)];
    const [old, fresh] = paths as [string, string];
    const tree = mirror([old]);
    const flusher = new LegFlusher('250:0', tree);
    await flusher.flush();
    fs.rmSync(`${tree.directory('dm-1')}/slaves/${old.slice(5)}`);
    addLeg(tree, fresh);
    await flusher.flush();
    expect(paths.map(openCount)).toEqual([1, 0]);
    flusher.invalidate();
    await flusher.flush();
    expect(paths.map(openCount)).toEqual([0, 1]);
    await flusher.close();
  });
});
