import { packageTests } from '@dmlog/config/vitest';

// Each file has a cluster of its own: one at a time is enough for two cores.
export default packageTests({ fileParallelism: false });
