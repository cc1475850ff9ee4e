import { packageBuild } from '@dmlog/config/tsup';

/** A tool, not a library for others: ES modules without type files. */
export default packageBuild({
  entry: ['src/index.ts', 'src/cli.ts', 'src/transport-echo.ts', 'src/cluster-cli.ts', 'src/cluster-node.ts'],
  format: ['esm'],
  dts: false,
  shims: false,
});
