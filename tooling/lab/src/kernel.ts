import { existsSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { LabError } from './errors.js';
import { cached, unpackPackages } from './packages.js';

const UML_PACKAGE = 'user-mode-linux';

/** Loaded in every machine, after what they depend on. */
export const MIRROR_MODULES = [
  'cn',
  'dm-mod',
  'dm-log',
  'dm-region-hash',
  'dm-mirror',
  'dm-log-userspace',
] as const;

export interface UmlKernel {
  /** `linux.uml`, an ordinary program. */
  readonly binary: string;
  /** The directory that holds `modules.dep` and `kernel/`. */
  readonly moduleTree: string;
  readonly version: string;
}

/** The cached kernel, downloaded and unpacked on first use. */
export async function ensureKernel(): Promise<UmlKernel> {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new LabError(
      'ERR_LAB_HOST',
      `User-Mode Linux exists for Linux on x86-64 only; this is ${process.platform} on ${process.arch}`,
    );
  }
  const root = await cached(UML_PACKAGE, async (directory) => {
    await unpackPackages([UML_PACKAGE], `${directory}/root`);
    renameSync(`${directory}/root/usr`, `${directory}/usr`);
  });
  const binary = `${root}/usr/bin/linux.uml`;
  const modules = `${root}/usr/lib/uml/modules`;
  const version = existsSync(modules) ? readdirSync(modules).sort().at(-1) : undefined;
  if (version === undefined || !existsSync(binary)) {
    throw new LabError('ERR_LAB_HOST', `${root} is not an unpacked ${UML_PACKAGE}; remove it and run again`);
  }
  return { binary, moduleTree: `${modules}/${version}`, version };
}

/** One line for `insmod`: the file, then its parameters. */
export interface ModuleLoad {
  readonly path: string;
  readonly parameters: string;
}

/**
 * Which files to insert, in which order, for modules written `name [parameter=value …]`. Order comes from `modules.dep`
 * (one line per module: `path: dependencies`, the nearest dependency first); a module is listed once.
 * @throws LabError ERR_LAB_USAGE for a module that this kernel does not have.
 */
export function moduleLoadOrder(modulesDep: string, tree: string, wanted: readonly string[]): ModuleLoad[] {
  const byName = new Map<string, { path: string; dependencies: string[] }>();
  for (const line of modulesDep.split('\n')) {
    const [path, rest] = line.split(':', 2);
    if (path === undefined || rest === undefined) continue;
    byName.set(moduleName(path), {
      path,
      dependencies: rest
        .trim()
        .split(' ')
        .filter((word) => word !== '')
        .reverse(),
    });
  }
  const loads = new Map<string, string>();
  const requested = wanted.map((text) => text.trim().split(/\s+/));
  const parameters = new Map(requested.map(([name, ...words]) => [moduleName(name!), words.join(' ')]));
  for (const [name] of requested) {
    const entry = byName.get(moduleName(name!));
    if (entry === undefined)
      throw new LabError('ERR_LAB_USAGE', `this kernel has no module ${name}: see ${tree}/modules.dep`);
    for (const path of [...entry.dependencies, entry.path]) {
      if (!loads.has(path)) loads.set(path, parameters.get(moduleName(path)) ?? '');
    }
  }
  return [...loads].map(([path, words]) => ({ path: `${tree}/${path}`, parameters: words }));
}

export function readModulesDep(kernel: UmlKernel): string {
  return readFileSync(`${kernel.moduleTree}/modules.dep`, 'utf8');
}

/** `kernel/drivers/md/dm-mod.ko` and `dm-mod` and `dm_mod` are one module. */
function moduleName(text: string): string {
  return text
    .slice(text.lastIndexOf('/') + 1)
    .replace(/\.ko$/, '')
    .replaceAll('_', '-');
}
