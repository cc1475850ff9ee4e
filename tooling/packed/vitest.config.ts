import { packageTests } from '@dmlog/config/vitest';

export default packageTests({
  globalSetup: ['test/setup.ts'],
  hookTimeout: 300_000,
  testTimeout: 120_000,
  teardownTimeout: 60_000,
});
