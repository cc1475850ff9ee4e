import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { packAll, readManifest, tarballOf } from '../src/packages.js';
import { installProject } from '../src/project.js';

export interface Packed {
  /** Outside of the repository: what is not declared must not be found in a folder above. */
  readonly directory: string;
  /** The project in which every public package is installed. */
  readonly project: string;
  /** Paths of the tarballs by package name. */
  readonly tarballs: Readonly<Record<string, string>>;
}

declare module 'vitest' {
  export interface ProvidedContext {
    packed: Packed;
  }
}

export default async function setup(tests: TestProject): Promise<() => void> {
  const directory = mkdtempSync(join(tmpdir(), 'dmlog-packed-'));
  const packing = join(directory, 'tarballs');
  mkdirSync(packing);
  const packages = await packAll(packing);
  const tarballs = Object.fromEntries(
    packages.map((one) => [one.name, tarballOf(packing, readManifest(one.directory))]),
  );
  const project = join(directory, 'all');
  await installProject(project, tarballs);
  tests.provide('packed', { directory, project, tarballs });
  return () => rmSync(directory, { recursive: true, force: true });
}
