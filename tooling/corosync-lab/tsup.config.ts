import { packageBuild } from '@dmlog/config/tsup';

// tsup itself, which builds programs for nodes, comes from the workspace.
export default packageBuild({ format: ['esm'], external: ['tsup'] });
