import { packageBuild } from '@dmlog/config/tsup';

/** The programs only: everything else here is tests. */
export default packageBuild({ entry: ['src/release-cli.ts', 'src/deb-cli.ts'], format: ['esm'], dts: false });
