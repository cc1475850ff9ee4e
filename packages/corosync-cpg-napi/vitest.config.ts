import { packageTests } from '@dmlog/config/vitest';

/** One cluster at a time: corosync notices a busy machine. */
export default packageTests({ fileParallelism: false, hookTimeout: 600_000, testTimeout: 120_000 });
