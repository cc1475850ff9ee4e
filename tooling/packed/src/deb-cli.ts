/** Builds the Debian package of all programs into the folder that is named, or this one: `pnpm deb [folder]`. Needs built packages, npm and dpkg-deb. */
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { buildDeb } from './deb.js';
import { packAll, readManifest, tarballOf } from './packages.js';
import { installProject } from './project.js';

const target = resolve(process.argv[2] ?? '.');
const directory = mkdtempSync(join(tmpdir(), 'dmlog-deb-'));
try {
  const packing = join(directory, 'tarballs');
  const project = join(directory, 'project');
  mkdirSync(packing);
  const packages = await packAll(packing);
  await installProject(
    project,
    Object.fromEntries(packages.map((one) => [one.name, tarballOf(packing, readManifest(one.directory))])),
  );
  const built = await buildDeb({ nodeModules: join(project, 'node_modules'), directory });
  mkdirSync(target, { recursive: true });
  copyFileSync(built, join(target, basename(built)));
  process.stdout.write(`${join(target, basename(built))}\n`);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
