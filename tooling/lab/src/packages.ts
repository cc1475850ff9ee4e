import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { DOWNLOAD_TIMEOUT_MS, PACKAGE_DIRECTORY } from './constants.js';
import { LabError, lastLines } from './errors.js';
import { hostCommand } from './host-command.js';

/** Where unpacked packages live: `.cache/lab` of the repository (git-ignored), or `DMLOG_LAB_CACHE`. */
export function cacheDirectory(): string {
  return process.env['DMLOG_LAB_CACHE'] ?? resolve(PACKAGE_DIRECTORY, '../../.cache/lab');
}

/**
 * A directory of the cache that is complete or absent: `fill` works in a temporary neighbour, which is then renamed.
 * Two processes that fill it at once both succeed; one result is kept.
 */
export async function cached(name: string, fill: (directory: string) => Promise<void>): Promise<string> {
  const final = `${cacheDirectory()}/${name}`;
  if (existsSync(final)) return final;
  let temporary: string;
  try {
    mkdirSync(dirname(final), { recursive: true });
    temporary = mkdtempSync(`${final}.tmp-`);
  } catch (cause) {
    throw new LabError(
      'ERR_LAB_HOST',
      `cannot write the lab's cache ${cacheDirectory()}: set DMLOG_LAB_CACHE to a directory of yours, on a file system that allows execution`,
      { cause },
    );
  }
  try {
    await fill(temporary);
    await hostCommand('chmod', ['-R', 'a+rX', temporary]);
    try {
      renameSync(temporary, final);
    } catch (error) {
      if (!existsSync(final)) throw error;
    }
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return final;
}

/** `apt-get download` of packages into `directory`. No root is needed; package lists are refreshed when empty and we may. */
async function download(packages: readonly string[], directory: string): Promise<void> {
  const attempt = () =>
    hostCommand('apt-get', ['-q', 'download', ...packages], {
      cwd: directory,
      timeoutMs: DOWNLOAD_TIMEOUT_MS,
    });
  let result = await attempt().catch((cause: unknown) => {
    throw new LabError(
      'ERR_LAB_HOST',
      `the lab needs Debian's packages ${packages.join(' ')}, and apt-get does not run here. On another system unpack ` +
        `user-mode-linux into ${cacheDirectory()}/user-mode-linux (so that usr/bin/linux.uml is below it) and install dmsetup, e2fsprogs, fio, kmod.`,
      { cause },
    );
  });
  const listsMissing =
    /Unable to locate package|No packages found|Can't find a source|has no installation candidate/;
  if (result.code !== 0 && listsMissing.test(result.output) && process.getuid?.() === 0) {
    await hostCommand('apt-get', ['-q', 'update'], { timeoutMs: DOWNLOAD_TIMEOUT_MS });
    result = await attempt();
  }
  if (result.code === 0) return;
  const advice = listsMissing.test(result.output) ? ' Run `apt-get update` as root, then try again.' : '';
  throw new LabError(
    'ERR_LAB_DOWNLOAD',
    `apt-get download ${packages.join(' ')} failed with status ${result.code}.${advice}\n${lastLines(result.output, 12)}`,
  );
}

/** Downloads packages and unpacks all of them below `root`, which need not exist. */
export async function unpackPackages(packages: readonly string[], root: string): Promise<void> {
  const debs = `${root}.debs`;
  mkdirSync(debs, { recursive: true });
  mkdirSync(root, { recursive: true });
  try {
    await download(packages, debs);
    for (const file of readdirSync(debs)) {
      const result = await hostCommand('dpkg', ['-x', `${debs}/${file}`, root], {
        timeoutMs: DOWNLOAD_TIMEOUT_MS,
      });
      if (result.code !== 0)
        throw new LabError('ERR_LAB_DOWNLOAD', `dpkg -x ${file} failed:\n${result.output}`);
    }
  } finally {
    rmSync(debs, { recursive: true, force: true });
  }
}

/**
 * Library packages that `name` needs and the host lacks, by apt's dependency graph. Only `lib…` packages are followed: programs,
 * scripts and data that a package also recommends are not what a single binary needs to start.
 */
export async function missingLibraryPackages(name: string): Promise<string[]> {
  const wanted = new Set<string>();
  let level = [name];
  while (level.length > 0) {
    const result = await hostCommand('apt-cache', [
      'depends',
      '--no-recommends',
      '--no-suggests',
      '--no-conflicts',
      '--no-breaks',
      '--no-replaces',
      '--no-enhances',
      ...level,
    ]);
    const named = [...result.output.matchAll(/^\s+\|?(?:Pre)?Depends: (lib[a-z0-9.+-]+)$/gm)].map(
      (match) => match[1]!,
    );
    const fresh = [...new Set(named)].filter((library) => !wanted.has(library));
    const installed = await installedPackages(fresh);
    level = fresh.filter((library) => !installed.has(library));
    for (const library of level) wanted.add(library);
  }
  return [...wanted];
}

async function installedPackages(names: readonly string[]): Promise<Set<string>> {
  if (names.length === 0) return new Set();
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholders
  const format = '${Package} ${db:Status-Status}\n';
  const result = await hostCommand('dpkg-query', ['-W', '-f', format, ...names]);
  const lines = [...result.output.matchAll(/^(\S+) installed$/gm)];
  return new Set(lines.map((match) => match[1]!));
}
