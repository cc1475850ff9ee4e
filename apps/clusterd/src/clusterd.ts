import { corosyncGroup } from '@dmlog/cluster';
import { type Program, serve } from '@dmlog/daemon';
import manifest from '../package.json';
import { checkCorosync } from './check-corosync.js';

/** Serves clustered logs through corosync, and local ones as singled does. */
export const clusterd: Program = {
  name: 'clusterd',
  description: 'Serves device-mapper userspace dirty logs of a cluster on shared storage',
  version: manifest.version,
  serve: (config, logger, start) =>
    serve(config, logger, { cluster: { joinGroup: corosyncGroup(), check: checkCorosync } }, start),
};
