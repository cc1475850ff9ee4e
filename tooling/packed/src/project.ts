import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readManifest } from './packages.js';
import { must } from './run.js';

/** `npm install` of tarballs into an empty project, as a user does it. No script runs: none of ours may need to. */
export async function installProject(
  directory: string,
  tarballs: Readonly<Record<string, string>>,
  asked: readonly string[] = Object.keys(tarballs),
): Promise<void> {
  mkdirSync(directory, { recursive: true });
  const files = Object.entries(tarballs).map(([name, path]) => [name, `file:${path}`] as const);
  const manifest = {
    name: 'empty-project',
    private: true,
    dependencies: Object.fromEntries(files.filter(([name]) => asked.includes(name))),
    // None of these versions is in a registry yet.
    overrides: Object.fromEntries(files.filter(([name]) => !asked.includes(name))),
  };
  writeFileSync(join(directory, 'package.json'), JSON.stringify(manifest, null, 2));
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts', '--loglevel=error'];
  await must('npm', ['install', ...quiet], { cwd: directory });
}

/** The packages that `name` brings by what it and they declare, each a folder below `node_modules`, from the project's own lock file. */
function declaredClosure(project: string, name: string): Set<string> {
  const { packages } = JSON.parse(readFileSync(join(project, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, unknown>;
  };
  const found = new Set<string>();
  const add = (from: string, wanted: string): void => {
    for (let base = from; ; base = dirname(base)) {
      const path = join(base, 'node_modules', wanted);
      if (path in packages) {
        if (found.has(path)) return;
        found.add(path);
        const { dependencies = {}, peerDependencies = {} } = readManifest(join(project, path));
        for (const dependency of Object.keys({ ...dependencies, ...peerDependencies })) add(path, dependency);
        return;
      }
      if (base === '.') throw new Error(`${from} declares ${wanted}, which is not installed`);
    }
  };
  add('.', name);
  return found;
}

/**
 * A project in which only `name` and what it declares is installed: copied from a project that has everything, which takes a tenth of the time that npm
 * needs for the same.
 */
export function isolateProject(from: string, directory: string, name: string): void {
  for (const path of declaredClosure(from, name)) {
    // Without what stands in its own node_modules: that is declared by itself.
    mkdirSync(join(directory, path), { recursive: true });
    for (const entry of readdirSync(join(from, path))) {
      if (entry !== 'node_modules')
        cpSync(join(from, path, entry), join(directory, path, entry), { recursive: true });
    }
  }
  writeFileSync(join(directory, 'package.json'), '{ "name": "empty-project", "private": true }');
}
