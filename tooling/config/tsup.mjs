import { copyFileSync, renameSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'tsup';

/**
 * One build for every package: ESM, CommonJS and types, from the public entry points only.
 *
 * `addon`: the package has one, and gets the script that compiles it: it must stand in the packed package, by itself.
 */
export function packageBuild({ addon = false, ...options } = {}) {
  if (addon) {
    // In one step: two builds of one package may run at once.
    const fresh = `native/build.mjs.${process.pid}`;
    copyFileSync(fileURLToPath(new URL('./addon-build.mjs', import.meta.url)), fresh);
    renameSync(fresh, 'native/build.mjs');
  }
  return defineConfig({
    entry: ['src/index.ts'],
    format: ['esm', 'cjs'],
    dts: true,
    sourcemap: true,
    clean: true,
    target: 'node20',
    treeshake: true,
    shims: true,
    ...options,
  });
}
