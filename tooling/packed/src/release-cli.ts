/** Prints what a release would be: `pnpm release:dry-run`. Changes nothing and asks nothing of a network. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dryRunRelease, releaseText } from './release.js';

const directory = mkdtempSync(join(tmpdir(), 'dmlog-release-'));
try {
  process.stdout.write(releaseText(await dryRunRelease(directory)));
} finally {
  rmSync(directory, { recursive: true, force: true });
}
