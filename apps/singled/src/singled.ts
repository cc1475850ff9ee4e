import { type Program, serve } from '@dmlog/daemon';
import manifest from '../package.json';

/** Serves local logs only. */
export const singled: Program = {
  name: 'singled',
  description: 'Serves device-mapper userspace dirty logs on one machine',
  version: manifest.version,
  serve: (config, logger, start) => serve(config, logger, {}, start),
};
