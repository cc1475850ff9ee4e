import { packageTests } from '@dmlog/config/vitest';
import { configDefaults } from 'vitest/config';

/** Without a kernel: what can be checked in milliseconds. Scenarios run by `test:lab`. */
export default packageTests({ exclude: [...configDefaults.exclude, 'test/**/*.lab.test.ts'] });
