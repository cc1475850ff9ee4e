import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { publicPackages, REPOSITORY, readManifest } from './packages.js';
import { must } from './run.js';

/** What a release would make of one package. */
export interface Release {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  /** The part of its changelog that is new; empty for a package that would not be released. */
  readonly notes: string;
  /** Its dependencies within the repository, as users will get them. */
  readonly dependencies: Readonly<Record<string, string>>;
}

/** What `changeset version` reads, besides the manifests of all packages. */
const READ_FILES = ['package.json', 'pnpm-workspace.yaml', 'pnpm-lock.yaml'];

function manifestsBelow(top: string): string[] {
  const directory = join(REPOSITORY, top);
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .map((name) => join(top, name, 'package.json'))
    .filter((path) => existsSync(join(REPOSITORY, path)));
}

/**
 * `changeset version` on a copy of what it reads, in an empty `directory`: nothing in the repository changes, and nothing is asked of a network. The
 * versions that `pnpm publish` would write in place of `workspace:` are filled in.
 */
export async function dryRunRelease(directory: string): Promise<Release[]> {
  const tops = ['packages', 'apps', 'tooling', 'examples'];
  for (const path of [...READ_FILES, ...tops.flatMap(manifestsBelow)]) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    copyFileSync(join(REPOSITORY, path), join(directory, path));
  }
  cpSync(join(REPOSITORY, '.changeset'), join(directory, '.changeset'), { recursive: true });
  // The changelog names the commit that brought a change: here there is one.
  const git = async (...args: string[]) =>
    must('git', ['-c', 'user.name=dry run', '-c', 'user.email=dry@run', ...args], { cwd: directory });
  await git('init', '--quiet', '--initial-branch=main');
  await git('add', '--all');
  await git('commit', '--quiet', '--message', 'As it is');
  // Whoever writes the changelog is looked for from there.
  symlinkSync(join(REPOSITORY, 'node_modules'), join(directory, 'node_modules'));
  const changeset = createRequire(join(REPOSITORY, 'package.json')).resolve('@changesets/cli/bin.js');
  await must(process.execPath, [changeset, 'version'], { cwd: directory });

  const packages = publicPackages();
  const versions = new Map(
    packages.map(({ name, directory: own }) => [
      name,
      readManifest(join(directory, relative(REPOSITORY, own))).version,
    ]),
  );
  return packages.map(({ name, directory: own }) => {
    const copy = join(directory, relative(REPOSITORY, own));
    const { version, dependencies = {} } = readManifest(copy);
    const changelog = join(copy, 'CHANGELOG.md');
    const notes = existsSync(changelog) ? readFileSync(changelog, 'utf8') : '';
    const start = notes.indexOf(`## ${version}\n`);
    const end = notes.indexOf('\n## ', start + 1);
    return {
      name,
      from: readManifest(own).version,
      to: version,
      notes: start < 0 ? '' : notes.slice(start, end < 0 ? undefined : end).trim(),
      dependencies: Object.fromEntries(
        Object.keys(dependencies)
          .filter((dependency) => versions.has(dependency))
          .map((dependency) => [dependency, versions.get(dependency) as string]),
      ),
    };
  });
}

/** For people: what each package would become, and why. */
export function releaseText(releases: readonly Release[]): string {
  const lines = releases.map(({ name, from, to, notes }) =>
    from === to ? `${name} stays ${from}` : `${name} ${from} → ${to}\n\n${notes}\n`,
  );
  return `${lines.join('\n')}\n`;
}
