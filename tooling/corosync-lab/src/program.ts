import { rmSync } from 'node:fs';
import { basename, join } from 'node:path';

/**
 * Bundles a TypeScript program for a node, so that tests drive the sources and never a stale build. `directory` should be git-ignored; packages (but not
 * relative imports, and not this one) stay outside the bundle and are resolved from there; of those that match `bundled`, the sources become part of it.
 */
export async function buildProgram(
  entry: string,
  directory: string,
  bundled: readonly (RegExp | string)[] = [],
): Promise<{ path: string; remove(): void }> {
  const name = `${basename(entry).replace(/\.[^.]*$/, '')}-${process.pid}`;
  const { build } = await import('tsup'); // only where programs are built, not in them
  await build({
    entry: { [name]: entry },
    outDir: directory,
    outExtension: () => ({ js: '.mjs' }),
    format: ['esm'],
    target: 'node20',
    platform: 'node',
    config: false,
    clean: false,
    splitting: false,
    dts: false,
    silent: true,
    sourcemap: 'inline',
    noExternal: ['@dmlog/corosync-lab', ...bundled],
    external: ['tsup'],
    esbuildOptions: (esbuild) => {
      esbuild.conditions = ['dmlog-source', ...(esbuild.conditions ?? [])];
    },
  });
  const path = join(directory, `${name}.mjs`);
  return { path, remove: () => rmSync(path, { force: true }) };
}
