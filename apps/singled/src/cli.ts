#!/usr/bin/env node
import { endProcess, serve } from '@dmlog/daemon';
import manifest from '../package.json';
import { main } from './main.js';
import { sizeThreadPool } from './thread-pool.js';

// First: see there. The imports above are `require` calls in the build, which do not use the pool.
sizeThreadPool();

main(process.argv.slice(2), {
  serve,
  version: manifest.version,
  out: (text) => process.stdout.write(text),
  error: (text) => process.stderr.write(text),
}).then(finish);

function finish(exitCode: number): void {
  process.exitCode = exitCode;
  // Standard output may be a pipe, which is written asynchronously: let it drain before the process ends.
  process.stdout.write('', () => endProcess(exitCode));
}
