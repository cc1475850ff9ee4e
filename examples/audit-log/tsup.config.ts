import { packageBuild } from '@dmlog/config/tsup';

export default [
  packageBuild({ dts: false, clean: ['!cli.*'] }),
  // CommonJS: in an ES module the thread pool would be in use before its size is set.
  packageBuild({ entry: ['src/cli.ts'], format: ['cjs'], dts: false, clean: false }),
].flat();
