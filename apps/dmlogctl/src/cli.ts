#!/usr/bin/env node
import { dmlogctl, systemEnvironment } from './dmlogctl.js';

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.abort());
dmlogctl(process.argv.slice(2), systemEnvironment(interrupted.signal)).then((exitCode) => {
  process.exit(exitCode);
});
