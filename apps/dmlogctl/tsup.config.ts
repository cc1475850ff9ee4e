import { packageBuild } from '@dmlog/config/tsup';

export default [
  // `clean` spares the program: both builds run at once.
  packageBuild({ clean: ['!cli.*'] }),
  packageBuild({ entry: ['src/cli.ts'], format: ['cjs'], dts: false, clean: false }),
].flat();
