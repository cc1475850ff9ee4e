import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { describe, expect, inject, it } from 'vitest';
import { readManifest } from '../src/packages.js';
import { installProject, isolateProject } from '../src/project.js';
import { must } from '../src/run.js';

const { directory, project, tarballs } = inject('packed');
const LICENSE_BYTES_MIN = 10_000;
const TARBALL_BYTES_MAX = 2 << 20;

/** Package names that built code and its types import. A name alone, or followed by a path. */
function importedNames(dist: string): Set<string> {
  const names = new Set<string>();
  for (const file of readdirSync(dist)) {
    if (!/\.(c?js|d\.c?ts)$/.test(file)) continue;
    const text = readFileSync(join(dist, file), 'utf8').replace(/^\s*(\*|\/\/|\/\*).*$/gm, '');
    for (const pattern of [
      /\bfrom\s*['"]([^'"\n]+)['"]/g,
      /\bimport\s*['"]([^'"\n]+)['"]/g,
      /\b(?:require|import)\(\s*['"]([^'"\n]+)['"]\s*\)/g,
    ]) {
      for (const [, specifier = ''] of text.matchAll(pattern)) {
        if (specifier.startsWith('.') || specifier.startsWith('node:')) continue;
        const parts = specifier.split('/');
        names.add(specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] as string));
      }
    }
  }
  return names;
}

describe.each(Object.entries(tarballs))('%s, packed', (name, tarball) => {
  const installed = join(project, 'node_modules', name);
  const manifest = readManifest(installed);

  it('has its licence, README, code and types, and nothing that only the repository needs', () => {
    expect(manifest).toMatchObject({ license: 'Apache-2.0', description: expect.stringMatching(/\w/) });
    expect(statSync(join(installed, 'LICENSE')).size).toBeGreaterThan(LICENSE_BYTES_MIN);
    for (const file of [
      'README.md',
      'dist/index.js',
      'dist/index.cjs',
      'dist/index.d.ts',
      'dist/index.d.cts',
    ])
      expect(existsSync(join(installed, file)), file).toBe(true);
    for (const file of ['test', 'node_modules', 'tsconfig.json', 'build', '.turbo', '.cache'])
      expect(existsSync(join(installed, file)), file).toBe(false);
    expect(JSON.stringify(manifest.dependencies ?? {})).not.toContain('workspace:');
    expect(statSync(tarball).size).toBeLessThan(TARBALL_BYTES_MAX);
  });

  it('runs no script when it is installed', () => {
    const scripts = Object.keys(manifest.scripts ?? {});
    expect(scripts.filter((script) => /^(pre|post)?install$|^prepare$/.test(script))).toEqual([]);
  });

  it('declares whatever its code and its types import', () => {
    const declared = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies });
    const undeclared = [...importedNames(join(installed, 'dist'))].filter(
      (imported) => imported !== name && !declared.includes(imported) && !builtinModules.includes(imported),
    );
    expect(undeclared).toEqual([]);
  });

  it('satisfies publint', async () => {
    const { messages, pkg } = await publint({ pkgDir: installed, pack: false, strict: true });
    expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
  });

  it('has types that are right for every kind of import', async () => {
    const result = await checkPackage(createPackageFromTarballData(readFileSync(tarball)));
    if (!result.types) throw new Error('no types');
    expect(result.problems).toEqual([]);
  });

  it('loads alone, as ES module and as CommonJS', async () => {
    const cwd = join(directory, 'alone', name);
    isolateProject(project, cwd, name);
    const print = 'console.log(Object.keys(loaded).filter((key) => key !== "default").sort().join());';
    const [esm, cjs] = await Promise.all([
      must(process.execPath, ['--input-type=module', '-e', `import * as loaded from '${name}'; ${print}`], {
        cwd,
      }),
      must(process.execPath, ['-e', `const loaded = require('${name}'); ${print}`], { cwd }),
    ]);
    expect(esm.trim().length).toBeGreaterThan(2);
    expect(cjs).toBe(esm);
  });

  it.each(Object.keys(manifest.bin ?? {}))('has a program that runs: %s', async (program) => {
    const path = join(project, 'node_modules', '.bin', program);
    expect(await must(path, ['--version'], { cwd: directory })).toBe(`${manifest.version}\n`);
    expect(await must(path, ['--help'], { cwd: directory })).toContain('Usage:');
  });

  it.runIf(process.env['DMLOG_PACKED_ALONE'] !== undefined)('is installed alone by npm', async () => {
    const cwd = join(directory, 'npm-alone', name);
    await installProject(cwd, tarballs, [name]);
    await must(process.execPath, ['-e', `require('${name}')`], { cwd });
  });
});
