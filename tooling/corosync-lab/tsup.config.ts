import { packageBuild } from '@dmlog/config/tsup';

export default packageBuild({ format: ['esm'] });
