import { packageBuild } from '@dmlog/config/tsup';

export default packageBuild({ addon: true });
