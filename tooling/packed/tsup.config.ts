import { packageBuild } from '@dmlog/config/tsup';

/** The program only: everything else here is tests. */
export default packageBuild({ entry: ['src/release-cli.ts'], format: ['esm'], dts: false });
