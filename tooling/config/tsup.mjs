import { defineConfig } from 'tsup';

/** One build for every package: ESM, CommonJS and types, from the public entry points only. */
export function packageBuild(options = {}) {
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
