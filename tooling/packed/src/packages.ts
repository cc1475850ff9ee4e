import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { must } from './run.js';

export const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url));

/** What these tests read of a package.json. */
export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly private?: boolean;
  readonly description?: string;
  readonly license?: string;
  readonly bin?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly scripts?: Readonly<Record<string, string>>;
}

export interface PublicPackage {
  readonly name: string;
  /** In the repository. */
  readonly directory: string;
}

export function readManifest(directory: string): Manifest {
  return JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')) as Manifest;
}

/** Whatever is published: every package of packages/ and apps/ that is not private. */
export function publicPackages(): PublicPackage[] {
  return ['packages', 'apps']
    .flatMap((top) => readdirSync(join(REPOSITORY, top)).map((name) => join(REPOSITORY, top, name)))
    .filter((directory) => existsSync(join(directory, 'package.json')))
    .map((directory) => ({ name: readManifest(directory).name, directory }))
    .filter(({ directory }) => readManifest(directory).private !== true);
}

/** The file that `pnpm pack` makes of a package. */
export function tarballOf(directory: string, manifest: Manifest): string {
  return join(directory, `${manifest.name.replace('@', '').replace('/', '-')}-${manifest.version}.tgz`);
}

/** pnpm as this was started by it, else the repository's own. */
export function pnpm(args: readonly string[]): { program: string; args: string[] } {
  const self = process.env['npm_execpath'];
  if (self?.includes('pnpm')) return { program: process.execPath, args: [self, ...args] };
  const { packageManager } = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8'));
  return { program: 'npx', args: ['--yes', packageManager as string, ...args] };
}

/** Packs all public packages into `directory`. One that was not built is left out, loudly; under CI it is an error. */
export async function packAll(directory: string): Promise<PublicPackage[]> {
  const packages = publicPackages().filter(({ name, directory: cwd }) => {
    if (existsSync(join(cwd, 'dist', 'index.d.ts'))) return true;
    if (process.env['CI'] !== undefined) throw new Error(`${name} was not built: pnpm build`);
    console.error(`NOT TESTED: ${name} was not built: pnpm build`);
    return false;
  });
  const filters = packages.flatMap(({ name }) => ['--filter', name]);
  const pack = pnpm(['--recursive', ...filters, 'pack', '--pack-destination', directory]);
  await must(pack.program, pack.args, { cwd: REPOSITORY });
  return packages;
}
