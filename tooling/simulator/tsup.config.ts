import { packageBuild } from '@dmlog/config/tsup';

/** A tool, not a library for others: ES modules without type files. The simulation itself is bundled when it is run: see `src/bundle.ts`. */
export default packageBuild({
  entry: ['src/index.ts', 'src/cli.ts'],
  format: ['esm'],
  dts: false,
  shims: false,
});
