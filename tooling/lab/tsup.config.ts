import { packageBuild } from '@dmlog/config/tsup';

export default packageBuild({
  entry: ['src/index.ts', 'src/faulty-singled.ts', 'src/demo.ts', 'src/switch-worker.ts'],
  format: ['esm'],
});
