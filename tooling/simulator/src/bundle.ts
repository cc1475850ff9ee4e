import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';
import { type Mutation, mutatedFile } from './mutate.js';

/** Of this package, from `src` as from `dist`. */
const HERE = dirname(dirname(fileURLToPath(import.meta.url)));
export const ROOT = dirname(dirname(HERE));

/**
 * Builds the simulation from the sources of all packages, with a planted bug if asked for, and returns the path of the bundle. Nothing in the tree is changed. The daemon's
 * runtime state gets files in memory, and its nonces the run's own chance.
 */
export async function bundle(mutation: Mutation | null = null): Promise<string> {
  const directory = join(HERE, 'build');
  mkdirSync(directory, { recursive: true });
  const name = mutation === null ? 'simulation' : `bug-${mutation.name.replace(/[^a-z0-9]+/gi, '-')}`;
  const outfile = join(directory, `${name}-${process.pid}.mjs`);
  await build({
    entryPoints: [join(HERE, 'src', 'simulation.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    sourcemap: 'inline',
    conditions: ['dmlog-source'],
    // CommonJS dependencies of the daemon ask for Node's own modules by `require`.
    banner: {
      js: "import { createRequire as nodeRequire } from 'node:module'; const require = nodeRequire(import.meta.url);",
    },
    logLevel: 'error',
    plugins: [standIns(), ...(mutation === null ? [] : [planted(mutation)])],
  });
  return outfile;
}

function standIns(): Plugin {
  return {
    name: 'stand-ins',
    setup({ onResolve }) {
      onResolve({ filter: /^node:fs$/ }, ({ importer }) =>
        importer.includes('/packages/daemon/src/state/')
          ? { path: join(HERE, 'src', 'memory-fs.ts') }
          : undefined,
      );
      onResolve({ filter: /^node:crypto$/ }, ({ importer }) =>
        importer.includes('/packages/daemon/src/cluster/')
          ? { path: join(HERE, 'src', 'drawn-crypto.ts') }
          : undefined,
      );
      // Native parts, and what loads them, are never reached.
      onResolve({ filter: /^(corosync-cpg-napi|netlink)$/ }, ({ path }) => ({ path, external: true }));
    },
  };
}

function planted(mutation: Mutation): Plugin {
  return {
    name: 'planted-bug',
    setup({ onLoad }) {
      // Read first: a bug that does not fit its source fails whether the file is reached or not.
      const contents = mutatedFile(ROOT, mutation);
      const path = join(ROOT, mutation.file);
      const filter = new RegExp(`${path.replaceAll(/[.\\/]/g, '\\$&')}$`);
      onLoad({ filter }, () => ({ contents, loader: 'ts' }));
    },
  };
}
