import fs from 'node:fs';
import { describe, expect, it } from 'vitest';
import { LegFlusher, legsOf } from '../src/device/legs.js';
import {
  blockFacts,
  deviceNumberOf,
  holderNamesOf,
  holdersOf,
  mirrorName,
  nodePathsOf,
} from '../src/device/sysfs.js';
import { rejection } from './helpers/scratch.js';
import { QUEUE, SysfsTree } from './helpers/sysfs-tree.js';

describe('deviceNumberOf', () => {
  // Values of glibc's makedev; the last was read from a node made by mknod.
  it.each([
    [1792, '7:0'],
    [0xfe03, '254:3'],
    [286327664, '259:70000'],
    [0xfff0_0000 + 0xff, '0:1048575'],
  ])('splits %i into %s', (rdev, number) => {
    expect(deviceNumberOf(rdev)).toBe(number);
  });
});

describe('blockFacts', () => {
  it('reads a disk', async () => {
    const tree = new SysfsTree();
    tree.add('sda', '8:0', { size: '100', ro: '1', ...QUEUE });
    expect(await blockFacts('8:0', tree)).toEqual({
      sizeBytes: 51200,
      logicalBlockBytes: 512,
      physicalBlockBytes: 4096,
      readOnly: true,
    });
  });

  it("takes a partition's block size from its disk", async () => {
    const tree = new SysfsTree();
    tree.add('sda', '8:0', { ...QUEUE, 'queue/logical_block_size': '4096' });
    tree.add('sda/sda1', '8:1', { size: '8', partition: '1' });
    expect(await blockFacts('8:1', tree)).toMatchObject({
      sizeBytes: 4096,
      logicalBlockBytes: 4096,
      readOnly: false,
    });
  });

  it.each(['8:7', '../8:0', 'sda', ''])('says which device is missing: %j', async (number) => {
    const tree = new SysfsTree();
    tree.add('sda', '8:0', QUEUE);
    const error = await rejection(() => blockFacts(number, tree));
    expect(error).toMatchObject({ code: 'ERR_LOG_DEVICE_MISSING', errno: 2 });
    expect(error.message).toContain(number);
  });

  it('names the file that holds no number', async () => {
    const tree = new SysfsTree();
    tree.add('sda', '8:0', { ...QUEUE, size: 'many' });
    expect((await rejection(() => blockFacts('8:0', tree))).message).toMatch(/size holds "many"/);
  });
});

describe('mirrorName', () => {
  function tree(): SysfsTree {
    const made = new SysfsTree();
    made.add('sdc', '8:32', QUEUE);
    made.add('dm-0', '254:0', { 'dm/name': 'root', 'dm/uuid': 'LVM-root' });
    made.add('dm-1', '254:1', { 'dm/name': 'mirror', 'dm/uuid': 'LVM-mirror' });
    return made;
  }

  it('is that of the device which holds the log device', async () => {
    const made = tree();
    made.stack('dm-1', 'sdc');
    expect(await mirrorName('another', '8:32', made)).toBe('mirror');
  });

  it('is that of the device with the uuid of the log, where there is no log device', async () => {
    expect(await mirrorName('LVM-root', null, tree())).toBe('root');
    expect(await mirrorName('LVM-root', '8:32', tree())).toBe('root');
  });

  it('is null where neither is found', async () => {
    expect(await mirrorName('LVM-none', null, tree())).toBeNull();
  });
});

describe('legs of a mirror', () => {
  function mirror(): SysfsTree {
    const tree = new SysfsTree();
    tree.add('log', '254:0');
    tree.add('leg0', '254:1');
    tree.add('leg1', '254:2');
    tree.add('dm-3', '254:3', { 'dm/name': 'vg-mirror' });
    for (const slave of ['log', 'leg0', 'leg1']) tree.stack('dm-3', slave);
    return tree;
  }

  it('are what the holder of the log stands on, without the log', async () => {
    const tree = mirror();
    expect(await legsOf('254:0', tree)).toEqual(['254:1', '254:2']);
    expect(await holdersOf('254:0', tree)).toEqual(['dm-3']);
    expect(await holderNamesOf('254:0', tree)).toEqual(['vg-mirror']);
  });

  it('are a superset while a second mirror holds the log', async () => {
    const tree = mirror();
    tree.add('leg2', '254:5');
    tree.add('dm-4', '254:4');
    for (const slave of ['log', 'leg1', 'leg2']) tree.stack('dm-4', slave);
    expect(await legsOf('254:0', tree)).toEqual(['254:1', '254:2', '254:5']);
  });

  it.each([
    ['nothing holds the log', (tree: SysfsTree) => tree.add('x', '9:9')],
    [
      'no device-mapper device holds it',
      (tree: SysfsTree) => {
        tree.add('x', '9:9');
        tree.add('md0', '9:0');
        tree.add('y', '8:1');
        tree.stack('md0', 'x');
        tree.stack('md0', 'y');
      },
    ],
    [
      'its holder stands on it alone',
      (tree: SysfsTree) => {
        tree.add('x', '9:9');
        tree.add('dm-9', '254:9');
        tree.stack('dm-9', 'x');
      },
    ],
    ['it is gone', () => undefined],
  ])('are unknown where %s', async (_, build) => {
    const tree = mirror();
    build(tree);
    expect(await rejection(() => legsOf('9:9', tree))).toMatchObject({ code: 'ERR_LEGS_UNKNOWN', errno: 19 });
    expect(await rejection(() => new LegFlusher('9:9', tree).flush())).toMatchObject({
      code: 'ERR_LEGS_UNKNOWN',
    });
  });

  it('are refused as a file that only has the name of a leg', async () => {
    const tree = mirror();
    fs.writeFileSync(`${tree.devRoot}/leg0`, '');
    fs.writeFileSync(`${tree.devRoot}/leg1`, '');
    const error = await rejection(() => new LegFlusher('254:0', tree).flush());
    expect(error).toMatchObject({ code: 'ERR_LEG_FLUSH', errno: 5, device: '254:1' });
  });

  it('have their node by name, or by number where udev made one', async () => {
    const tree = mirror();
    expect(await nodePathsOf('254:1', tree)).toEqual([`${tree.devRoot}/leg0`, `${tree.devRoot}/block/254:1`]);
  });
});
