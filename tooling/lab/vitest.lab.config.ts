import { packageTests } from '@dmlog/config/vitest';

/** Files at a time. Three machines under load are the most for two cores; what compares speeds runs alone (`test:lab`). */
const forks = Number(process.env['DMLOG_LAB_FORKS'] ?? 2);

export default packageTests({
  include: ['test/**/*.lab.test.ts'],
  pool: 'forks',
  fileParallelism: forks > 1,
  maxWorkers: forks,
  testTimeout: 180_000,
  // The first run downloads the kernel.
  hookTimeout: 600_000,
  teardownTimeout: 30_000,
});
