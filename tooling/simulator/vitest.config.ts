import { packageTests } from '@dmlog/config/vitest';

export default packageTests({ testTimeout: 300_000, fileParallelism: false });
