import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import { publicPackages, REPOSITORY } from '../src/packages.js';
import { must } from '../src/run.js';

describe('the API reference', () => {
  const { entryPoints } = JSON.parse(readFileSync(join(REPOSITORY, 'typedoc.json'), 'utf8')) as {
    entryPoints: string[];
  };

  it('has every public package', () => {
    const entries = publicPackages().map(({ directory }) =>
      join(relative(REPOSITORY, directory), 'src/index.ts'),
    );
    expect([...entryPoints].sort()).toEqual(entries.sort());
  });

  it('can be made without a warning: each link in a comment leads somewhere', async () => {
    const typedoc = join(REPOSITORY, 'node_modules', 'typedoc', 'bin', 'typedoc');
    // Types are checked by the packages themselves, and no page has to be written: half of the time.
    await must(process.execPath, [typedoc, '--emit', 'none', '--skipErrorChecking'], { cwd: REPOSITORY });
  }, 240_000);
});
