import { packageTests } from '@dmlog/config/vitest';

export default packageTests({ testTimeout: 20_000 });
