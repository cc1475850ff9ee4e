import { packageTests } from '@dmlog/config/vitest';

export default packageTests();
