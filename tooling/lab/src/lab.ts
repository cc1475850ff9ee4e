import { copyFileSync, mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { shellQuote } from './channel.js';
import {
  BOOT_TIMEOUT_MS,
  COMMAND_LINE_BYTES_MAX,
  DISKS_MAX,
  GUEST_DIRECTORY,
  MEMORY_MIB_DEFAULT,
} from './constants.js';
import type { Disk } from './disk.js';
import { LabError } from './errors.js';
import { findHostProgram, hostCommand, SYSTEM_PATH } from './host-command.js';
import { ensureKernel, MIRROR_MODULES, moduleLoadOrder, readModulesDep, type UmlKernel } from './kernel.js';
import { Machine } from './machine.js';
import { Network, type NetworkPlace } from './network.js';
import { cacheDirectory } from './packages.js';
import { keepsFiles, leaveRunDirectory, runDirectory } from './run-directory.js';
import { ensureGuestTools, type GuestTools } from './tools.js';
import { UmlProcess } from './uml-process.js';

export interface BootOptions {
  /** The guest's host name, and part of its log's name. Letters, digits, `-`. Default `m<number>`. */
  readonly name?: string;
  /** Default 256. The host pays for what the guest touches: 110 to 150 MiB when idle. */
  readonly memoryMiB?: number;
  /** At most 8; `machine.device(key)` is the node. The same disks may be booted again after the machine has ended. */
  readonly disks?: Readonly<Record<string, Disk>>;
  /** Modules beyond those of the mirror, as for modprobe: `'brd rd_nr=2 rd_size=8192'`, `'dm-flakey'`. Dependencies follow by themselves. */
  readonly modules?: readonly string[];
  /** Environment of every command. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where the machine is plugged in: then its interface `vec0` is up, with the place's address. */
  readonly network?: NetworkPlace;
  /** Directories for the front of the PATH of every command. */
  readonly path?: readonly string[];
  /** More words for the kernel's command line. */
  readonly kernelArguments?: readonly string[];
  readonly bootTimeoutMs?: number;
}

/** Everything that does not change from machine to machine. */
interface LabParts {
  readonly kernel: UmlKernel;
  readonly tools: GuestTools;
  readonly modulesDep: string;
  /** A prefix that switches address randomisation off, where the host allows it: else the guest adds up to 1 GiB of "memory" to bridge the gap. */
  readonly launcher: readonly string[];
}

const openLabs = new Set<Lab>();
let machineCount = 0;

/** Makes sure that kernel and tools are there (downloads on first use) and opens a lab. One per test file; end it with `close`. */
export async function openLab(): Promise<Lab> {
  const kernel = await ensureKernel();
  const tools = await ensureGuestTools();
  const lab = new Lab({
    kernel,
    tools,
    modulesDep: readModulesDep(kernel),
    launcher: await plainAddresses(),
  });
  openLabs.add(lab);
  return lab;
}

export class Lab {
  readonly kernelVersion: string;
  readonly tools: GuestTools;
  readonly #parts: LabParts;
  readonly #machines: { machine: Machine; consolePath: string; disks: readonly Disk[] }[] = [];
  readonly #networks: Network[] = [];
  #failed = false;

  constructor(parts: LabParts) {
    this.#parts = parts;
    this.kernelVersion = parts.kernel.version;
    this.tools = parts.tools;
  }

  /** Boots a machine and returns when its agent answers. @throws LabError ERR_LAB_BOOT with the end of its console. */
  async boot(options: BootOptions = {}): Promise<Machine> {
    const serial = machineCount++;
    const name = options.name ?? `m${serial}`;
    const disks = options.disks ?? {};
    const memoryMiB = options.memoryMiB ?? MEMORY_MIB_DEFAULT;
    this.#check(name, disks, memoryMiB);
    const directory = `${runDirectory().path}/${name}-${serial}`;
    const share = `${directory}/share`;
    mkdirSync(share, { recursive: true });
    writeFileSync(`${share}/boot.env`, bootEnvironment(this.#parts, name, options));
    const more = [...(options.network === undefined ? [] : [options.network.kernelArgument])];
    more.push(...(options.kernelArguments ?? []));
    const words = commandLine({ memoryMiB, directory, share, disks, more });
    const [file, ...args] = [...this.#parts.launcher, this.#parts.kernel.binary, ...words];
    const consolePath = `${directory}/console.log`;
    // UML maps its memory from a file in TMPDIR, which must allow execution.
    const environment = { PATH: SYSTEM_PATH.join(':'), TMPDIR: directory, HOME: directory };
    const uml = new UmlProcess({ file: file!, args, environment, directory, consolePath });
    const machine = new Machine({ name, uml, share, disks });
    this.#machines.push({ machine, consolePath, disks: Object.values(disks) });
    await machine.booted(options.bootTimeoutMs ?? BOOT_TIMEOUT_MS);
    if (options.network !== undefined) await machine.run(interfaceUp(options.network));
    return machine;
  }

  /** A new switch without machines; `close` ends it. */
  network(): Network {
    const network = new Network();
    this.#networks.push(network);
    return network;
  }

  /** The scenario failed: `close` keeps the consoles, and what background programs have said, in the cache's `failures/` and says where. */
  noteFailure(): void {
    this.#failed = true;
  }

  /** Ends every machine, and removes what the lab has put on the host unless DMLOG_LAB_KEEP=1. */
  async close(): Promise<void> {
    await Promise.all(this.#machines.map(({ machine }) => machine.powerCut()));
    await Promise.all(this.#networks.splice(0).map((network) => network.close()));
    if (this.#failed || keepsFiles()) this.#reportConsoles();
    openLabs.delete(this);
    for (const { consolePath } of this.#machines) {
      if (!keepsFiles()) rmSync(dirname(consolePath), { recursive: true, force: true });
    }
    this.#machines.length = 0;
    if (openLabs.size === 0) leaveRunDirectory();
  }

  #reportConsoles(): void {
    const logs = this.#machines.flatMap(({ machine, consolePath }) => [
      { of: machine.name, path: consolePath },
      ...machine.outputs().map(({ program, path }) => ({ of: `${machine.name}-${program}`, path })),
    ]);
    const kept = keepsFiles() ? logs.map(({ path }) => path) : keepCopies(logs);
    console.error(`lab: consoles and outputs of the machines\n  ${kept.join('\n  ')}`);
  }

  #check(name: string, disks: Readonly<Record<string, Disk>>, memoryMiB: number): void {
    if (!/^[a-zA-Z0-9-]{1,32}$/.test(name)) {
      throw new LabError(
        'ERR_LAB_USAGE',
        `"${name}" is not a machine name: 1 to 32 letters, digits or dashes`,
      );
    }
    const entries = Object.entries(disks);
    if (entries.length > DISKS_MAX) {
      throw new LabError(
        'ERR_LAB_USAGE',
        `${entries.length} disks: a machine has at most ${DISKS_MAX}; use brd or loop for more`,
      );
    }
    for (const [key, disk] of entries) {
      const user = this.#machines.find(({ machine, disks: used }) => machine.running && used.includes(disk));
      if (user !== undefined && !disk.shared) {
        throw new LabError(
          'ERR_LAB_USAGE',
          `disk ${key} is in use by the running machine ${user.machine.name} and not shared`,
        );
      }
    }
    const { bavail, bsize } = statfsSync(runDirectory().path);
    if (bavail * bsize < memoryMiB << 20) {
      throw new LabError(
        'ERR_LAB_HOST',
        `${runDirectory().path} has less than ${memoryMiB} MiB free, which the machine's memory needs`,
      );
    }
  }
}

/** Copies logs into the cache's `failures/`; returns their paths there, or why there is none. Two logs of one name are numbered. */
function keepCopies(logs: readonly { of: string; path: string }[]): string[] {
  const folder = `${cacheDirectory()}/failures`;
  const prefix = `${folder}/${new Date().toISOString().replaceAll(':', '')}-${process.pid}`;
  const seen = new Map<string, number>();
  return logs.map(({ of, path }) => {
    const count = (seen.get(of) ?? 0) + 1;
    seen.set(of, count);
    const copy = `${prefix}-${of}${count === 1 ? '' : `-${count}`}.log`;
    try {
      mkdirSync(folder, { recursive: true });
      copyFileSync(path, copy);
      return copy;
    } catch (error) {
      return `(could not keep the log of ${of}: ${String(error)})`;
    }
  });
}

/** arp_notify: the machine speaks first, which tells the switch where it is. */
function interfaceUp({ address }: NetworkPlace): string {
  return `ip addr add ${address}/24 dev vec0 && echo 1 >/proc/sys/net/ipv4/conf/vec0/arp_notify && ip link set vec0 up`;
}

/** What guest/init.sh and guest/agent.sh read: shell assignments. */
function bootEnvironment(parts: LabParts, name: string, options: BootOptions): string {
  const { kernel, tools, modulesDep } = parts;
  const loads = (wanted: readonly string[]) =>
    moduleLoadOrder(modulesDep, kernel.moduleTree, wanted)
      .map(({ path, parameters }) => `${path} ${parameters}`.trim())
      .join('\n');
  const nodeDirectory = dirname(process.execPath);
  const values = {
    LAB_NAME: name,
    LAB_GUEST: GUEST_DIRECTORY,
    LAB_INSMOD: tools.insmod,
    LAB_MODULE_TREE: kernel.moduleTree,
    LAB_BOOT_MODULES: loads(['overlay']),
    LAB_MODULES: loads([...MIRROR_MODULES, ...(options.modules ?? [])]),
    LAB_PATH: [...new Set([...(options.path ?? []), ...tools.path, nodeDirectory, ...SYSTEM_PATH])].join(':'),
  };
  const own = Object.entries(values).map(([key, value]) => `${key}=${shellQuote(value)}\n`);
  const given = Object.entries(options.env ?? {}).map(
    ([key, value]) => `export ${key}=${shellQuote(value)}\n`,
  );
  return [...own, ...given].join('');
}

interface CommandLineParts {
  readonly memoryMiB: number;
  readonly directory: string;
  readonly share: string;
  readonly disks: Readonly<Record<string, Disk>>;
  readonly more: readonly string[];
}

function commandLine({ memoryMiB, directory, share, disks, more }: CommandLineParts): string[] {
  const ubds = Object.values(disks).map((disk, index) => {
    // d: never take the file's content for a copy-on-write header; c: shared between machines, no lock.
    const flags = disk.shared ? 'cd' : 'd';
    return `ubd${String.fromCharCode(97 + index)}${flags}=${disk.path}`;
  });
  const words = [
    `mem=${memoryMiB}M`,
    'rootfstype=hostfs',
    'rootflags=/',
    'rw',
    // The boot script mounts it in the overlay; before that, /dev is the host's, where its files may be.
    'devtmpfs.mount=0',
    'init=/bin/sh',
    'con=null',
    'con0=null,fd:1',
    'ssl=null',
    'ssl0=fd:3',
    `uml_dir=${directory}`,
    'umid=uml',
    `dmlog_share=${share}`,
    ...ubds,
    ...more,
    '--',
    `${GUEST_DIRECTORY}/init.sh`,
  ];
  const bytes = words.join(' ').length;
  if (bytes >= COMMAND_LINE_BYTES_MAX) {
    throw new LabError(
      'ERR_LAB_USAGE',
      `the kernel's command line would be ${bytes} bytes, of ${COMMAND_LINE_BYTES_MAX}: use a shorter TMPDIR`,
    );
  }
  return words;
}

async function plainAddresses(): Promise<string[]> {
  const setarch = findHostProgram('setarch');
  if (setarch === undefined) return [];
  const probe = await hostCommand(setarch, ['x86_64', '-R', 'true']);
  return probe.code === 0 ? [setarch, 'x86_64', '-R'] : [];
}
