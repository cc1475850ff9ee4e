/**
 * What sysfs says of block devices. Sources: Documentation/ABI/stable/sysfs-block, block/holder.c (`holders` and `slaves`),
 * drivers/base/core.c (`uevent`).
 */
import { readdir, readFile, realpath } from 'node:fs/promises';
import { DeviceError, systemCode } from './errors.js';

/** Where the kernel's trees are mounted. Tests give a tree of their own. */
export interface SystemRoots {
  readonly sysfsRoot: string;
  readonly devRoot: string;
}

export const SYSTEM_ROOTS: SystemRoots = { sysfsRoot: '/sys', devRoot: '/dev' };

/** sysfs counts sizes in 512 bytes, whatever the device's own block. */
export const SECTOR_BYTES = 512;

/** `major:minor`, both decimal, as the kernel writes it in tables and in sysfs. */
const DEVICE_NUMBER = /^[0-9]{1,4}:[0-9]{1,7}$/;

export function isDeviceNumber(text: string): boolean {
  return DEVICE_NUMBER.test(text);
}

/**
 * `major:minor` of a `st_rdev`. Layout: glibc `makedev`, sysdeps/unix/sysv/linux/makedev.h: major bits 0-11 in bits 8-19, minor
 * bits 0-7 in bits 0-7, minor bits 8-19 in bits 20-31; Linux has no larger ones (MINORBITS 20, include/linux/kdev_t.h).
 */
export function deviceNumberOf(rdev: number): string {
  const major = (rdev >>> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  return `${major}:${minor}`;
}

export interface BlockFacts {
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly physicalBlockBytes: number;
  readonly readOnly: boolean;
}

/** Size, block sizes and write protection of a whole disk, a partition (its disk's queue) or a device-mapper device. */
export async function blockFacts(
  deviceNumber: string,
  roots: SystemRoots = SYSTEM_ROOTS,
): Promise<BlockFacts> {
  const directory = await blockDirectory(deviceNumber, roots);
  // A partition has a file `partition`, and its queue is its disk's, which is the directory above.
  const isPartition = (await readTrimmed(`${directory}/partition`)) !== null;
  const queue = isPartition ? `${directory}/../queue` : `${directory}/queue`;
  const logicalBlockBytes = await readNumber(`${queue}/logical_block_size`, deviceNumber);
  const physical = await readTrimmed(`${queue}/physical_block_size`);
  return {
    sizeBytes: (await readNumber(`${directory}/size`, deviceNumber)) * SECTOR_BYTES,
    logicalBlockBytes,
    physicalBlockBytes: physical === null ? logicalBlockBytes : Number(physical),
    readOnly: (await readTrimmed(`${directory}/ro`)) === '1',
  };
}

/** Names of what holds the device, for example `dm-3` or `md0`. Empty for a mounted device: a file system is no holder here. */
export async function holdersOf(deviceNumber: string, roots: SystemRoots = SYSTEM_ROOTS): Promise<string[]> {
  const directory = await blockDirectory(deviceNumber, roots);
  return (await readNames(`${directory}/holders`)).sort();
}

/** Device-mapper names of the mirrors (or others) that hold the device, where they have one: `dm/name` of the holders. */
export async function holderNamesOf(
  deviceNumber: string,
  roots: SystemRoots = SYSTEM_ROOTS,
): Promise<string[]> {
  const directory = await blockDirectory(deviceNumber, roots);
  const names: string[] = [];
  for (const holder of await holdersOf(deviceNumber, roots)) {
    const name = await readTrimmed(`${directory}/holders/${holder}/dm/name`);
    if (name !== null) names.push(name);
  }
  return names;
}

/**
 * Device-mapper name of the mirror whose log has this uuid: a holder of the log device, or, without one, the device whose own uuid it is (LVM
 * names the log after the volume). Null where neither is found.
 */
export async function mirrorName(
  uuid: string,
  logDeviceNumber: string | null,
  roots: SystemRoots = SYSTEM_ROOTS,
): Promise<string | null> {
  const holders = logDeviceNumber === null ? [] : await holderNamesOf(logDeviceNumber, roots).catch(() => []);
  if (holders.length > 0) return holders[0] as string;
  for (const device of await readNames(`${roots.sysfsRoot}/block`)) {
    const directory = `${roots.sysfsRoot}/block/${device}/dm`;
    if (device.startsWith('dm-') && (await readTrimmed(`${directory}/uuid`)) === uuid)
      return readTrimmed(`${directory}/name`);
  }
  return null;
}

/** Device numbers of all that the device's holders stand on, without the device itself. */
export async function siblingsOf(deviceNumber: string, roots: SystemRoots = SYSTEM_ROOTS): Promise<string[]> {
  const directory = await blockDirectory(deviceNumber, roots);
  const found = new Set<string>();
  for (const holder of await holdersOf(deviceNumber, roots)) {
    if (!holder.startsWith('dm-')) continue;
    const slaves = `${directory}/holders/${holder}/slaves`;
    for (const slave of await readNames(slaves)) {
      const number = await readTrimmed(`${slaves}/${slave}/dev`);
      if (number !== null && isDeviceNumber(number)) found.add(number);
    }
  }
  found.delete(deviceNumber);
  return [...found].sort();
}

/**
 * Paths at which the device's node may be, the likeliest first: devtmpfs names it as the kernel does (`DEVNAME` of `uevent`), udev
 * adds `block/<major>:<minor>`. A caller opens one and compares the number: a name may have moved on.
 */
export async function nodePathsOf(
  deviceNumber: string,
  roots: SystemRoots = SYSTEM_ROOTS,
): Promise<string[]> {
  const directory = await blockDirectory(deviceNumber, roots);
  const uevent = (await readTrimmed(`${directory}/uevent`)) ?? '';
  const name = /^DEVNAME=(.+)$/m.exec(uevent)?.[1];
  const byNumber = `${roots.devRoot}/block/${deviceNumber}`;
  return name === undefined ? [byNumber] : [`${roots.devRoot}/${name}`, byNumber];
}

/** The device's real directory: `..` of a partition must be its disk, not the directory of the symbolic link. */
async function blockDirectory(deviceNumber: string, roots: SystemRoots): Promise<string> {
  const link = `${roots.sysfsRoot}/dev/block/${deviceNumber}`;
  try {
    if (!isDeviceNumber(deviceNumber)) throw new RangeError(`${deviceNumber} is not major:minor`);
    return await realpath(link);
  } catch (error) {
    throw new DeviceError(
      'ERR_LOG_DEVICE_MISSING',
      deviceNumber,
      `there is no block device ${deviceNumber} (no ${link}): check the device in the mirror's table, and that sysfs is mounted`,
      { cause: error },
    );
  }
}

async function readNames(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    // A device or its holder may go at any moment, and a partition's disk may have none.
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return [];
    throw error;
  }
}

async function readTrimmed(path: string): Promise<string | null> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch {
    return null;
  }
}

async function readNumber(path: string, deviceNumber: string): Promise<number> {
  const text = await readTrimmed(path);
  const value = text === null || text === '' ? Number.NaN : Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new DeviceError(
    'ERR_LOG_DEVICE_OPEN',
    deviceNumber,
    `sysfs does not tell about block device ${deviceNumber}: ${path} holds ${text === null ? 'nothing' : `"${text}"`}; is sysfs mounted?`,
  );
}
