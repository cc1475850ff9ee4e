import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { LabError } from './errors.js';
import { findHostProgram, hostCommand } from './host-command.js';
import { cached, missingLibraryPackages, unpackPackages } from './packages.js';

/** Programs that scenarios use in a guest, and the Debian package of each. Guests see the host's programs. */
export const GUEST_PROGRAMS: Readonly<Record<string, string>> = {
  insmod: 'kmod',
  dmsetup: 'dmsetup',
  'mkfs.ext4': 'e2fsprogs',
  'fsck.ext4': 'e2fsprogs',
  blockdev: 'util-linux',
  setsid: 'util-linux',
  pivot_root: 'util-linux',
  mount: 'mount',
  losetup: 'mount',
  ip: 'iproute2',
  fio: 'fio',
};

/** What a cluster needs besides; fetched only when one is booted. The package depends on the libraries (libcpg4, libquorum5) that its clients load. */
export const CLUSTER_PROGRAMS: Readonly<Record<string, string>> = {
  corosync: 'corosync',
  'corosync-quorumtool': 'corosync',
  'corosync-cfgtool': 'corosync',
  'corosync-cmapctl': 'corosync',
};

const PROGRAM_DIRECTORIES = ['bin', 'sbin', 'usr/bin', 'usr/sbin'];

export interface GuestTools {
  /** Directories for the front of the guest's PATH; empty when the host has everything. */
  readonly path: readonly string[];
  /** Full path of `insmod`, which the boot needs before there is a PATH to speak of. */
  readonly insmod: string;
  /** Packages that were unpacked because the host lacks them. */
  readonly unpacked: readonly string[];
}

/**
 * Makes sure that every program of GUEST_PROGRAMS can run in a guest. Installed ones are preferred; a missing one is unpacked
 * into the cache together with the libraries that the host lacks, and wrapped so that only it sees those libraries.
 * `DMLOG_LAB_UNPACK=dmsetup,kmod` unpacks these packages even when they are installed.
 */
export async function ensureGuestTools(): Promise<GuestTools> {
  const { directories, unpacked } = await ensurePrograms(GUEST_PROGRAMS);
  const path = directories.map(wrappersOf);
  const wrapped = path.map((directory) => `${directory}/insmod`).find((candidate) => existsSync(candidate));
  return { path, insmod: wrapped ?? findHostProgram('insmod')!, unpacked };
}

/** Corosync and its tools, by the same rules. Nothing is installed: Debian's package would start a cluster on the host. */
export interface ClusterTools {
  /** Directories for the front of the guest's PATH; empty when corosync is installed. */
  readonly path: readonly string[];
  /** Directories for the LD_LIBRARY_PATH of clients, which load libcpg and libquorum by name; empty when corosync is installed. */
  readonly libraryPath: readonly string[];
}

export async function ensureClusterTools(): Promise<ClusterTools> {
  const { directories } = await ensurePrograms(CLUSTER_PROGRAMS);
  const libraryPath = directories.flatMap((directory) =>
    findLibraryDirectories(`${directory}/root`).map((below) => `${directory}/root/${below}`),
  );
  return { path: directories.map(wrappersOf), libraryPath };
}

async function ensurePrograms(
  wanted: Readonly<Record<string, string>>,
): Promise<{ directories: string[]; unpacked: string[] }> {
  const forced = new Set((process.env['DMLOG_LAB_UNPACK'] ?? '').split(',').filter((name) => name !== ''));
  const missing = Object.entries(wanted).filter(
    ([program, name]) => forced.has(name) || findHostProgram(program) === undefined,
  );
  const unpacked = [...new Set(missing.map(([, name]) => name))];
  const directories: string[] = [];
  for (const name of unpacked) {
    const programs = missing.filter(([, owner]) => owner === name).map(([program]) => program);
    directories.push(await cached(`tools/${name}`, (directory) => unpackTool(name, programs, directory)));
  }
  return { directories, unpacked };
}

function wrappersOf(directory: string): string {
  return `${directory}/wrappers`;
}

async function unpackTool(name: string, programs: readonly string[], directory: string): Promise<void> {
  const root = `${directory}/root`;
  await unpackPackages([name], root);
  // Listed before the libraries come: their packages may bring programs of their own.
  const provided = PROGRAM_DIRECTORIES.flatMap((below) =>
    existsSync(`${root}/${below}`) ? readdirSync(`${root}/${below}`).map((file) => `${below}/${file}`) : [],
  );
  const libraries = await missingLibraryPackages(name);
  if (libraries.length > 0) await unpackPackages(libraries, root);
  const libraryDirectories = findLibraryDirectories(root);
  mkdirSync(`${directory}/wrappers`);
  mkdirSync(`${directory}/links`);
  for (const program of provided) wrap(directory, program, libraryDirectories);
  for (const program of programs) await checkRuns(directory, name, program, libraryDirectories);
}

/** Directories below `root` that hold shared objects, relative to it (ceph keeps some in one of its own). */
function findLibraryDirectories(root: string): string[] {
  const found = new Set<string>();
  for (const entry of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    const match = /^(.*)\/[^/]+\.so(\.[0-9.]+)?$/.exec(entry);
    if (match !== null) found.add(match[1]!);
  }
  return [...found].sort();
}

/** A link keeps the program's own name, by which kmod knows what it is asked to be; the wrapper sets the library path for it alone. */
function wrap(directory: string, program: string, libraryDirectories: readonly string[]): void {
  const name = program.slice(program.lastIndexOf('/') + 1);
  const wrapper = `${directory}/wrappers/${name}`;
  if (existsSync(wrapper)) return;
  let target = `../root/${program}`;
  try {
    const link = readlinkSync(`${directory}/root/${program}`);
    // An absolute link of the package means its own tree, not the host's.
    if (link.startsWith('/')) target = `../root${link}`;
  } catch {
    // Not a link.
  }
  symlinkSync(target, `${directory}/links/${name}`);
  const libraryPath = libraryDirectories.map((below) => `$here/root/${below}`).join(':');
  const setting = libraryPath === '' ? '' : `LD_LIBRARY_PATH="${libraryPath}" `;
  writeFileSync(wrapper, `#!/bin/sh\nhere="\${0%/*}/.."\n${setting}exec "$here/links/${name}" "$@"\n`);
  chmodSync(wrapper, 0o755);
}

async function checkRuns(
  directory: string,
  name: string,
  program: string,
  libraryDirectories: readonly string[],
): Promise<void> {
  const link = `${directory}/links/${program}`;
  if (!existsSync(link))
    throw new LabError('ERR_LAB_DOWNLOAD', `the package ${name} does not hold the program ${program}`);
  const path = libraryDirectories.map((below) => `${directory}/root/${below}`).join(':');
  const result = await hostCommand('ldd', [link], {
    env: { ...process.env, LC_ALL: 'C', LD_LIBRARY_PATH: path },
  });
  const absent = [...result.output.matchAll(/^\s*(\S+) => not found/gm)].map((match) => match[1]!);
  if (absent.length === 0) return;
  throw new LabError(
    'ERR_LAB_DOWNLOAD',
    `${program} of the unpacked package ${name} lacks ${absent.join(', ')}; install ${name} instead`,
  );
}
