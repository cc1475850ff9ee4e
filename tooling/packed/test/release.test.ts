import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { REPOSITORY } from '../src/packages.js';
import { dryRunRelease, type Release, releaseText } from '../src/release.js';

const { directory } = inject('packed');
const changesets = readdirSync(join(REPOSITORY, '.changeset'))
  .filter((name) => name.endsWith('.md') && name !== 'README.md')
  .map((name) => readFileSync(join(REPOSITORY, '.changeset', name), 'utf8'));
/** The packages that some changeset names. */
const named = new Set(
  changesets.flatMap((text) => [...text.matchAll(/^['"](.+)['"]: /gm)].map(([, name]) => name)),
);

let releases: Release[];
beforeAll(async () => {
  releases = await dryRunRelease(join(directory, 'release'));
});

describe('a release', () => {
  it('gives each package that a changeset names a new version, and a changelog that says why', () => {
    for (const name of named) {
      const release = releases.find((one) => one.name === name);
      expect(release, `a changeset names ${name}`).toBeDefined();
      expect(release?.to).not.toBe(release?.from);
      expect(release?.notes).toMatch(/^## \d+\.\d+\.\d+\n[\s\S]+\n- /);
    }
  });

  it('says every change in some changelog', () => {
    const text = releaseText(releases);
    for (const changeset of changesets) {
      const first = changeset.split('---\n').at(-1)?.trim().split('\n')[0] ?? '';
      expect(text).toContain(first);
    }
  });

  it('leaves no package that depends on an old version of another', () => {
    const versions = new Map(releases.map(({ name, to }) => [name, to]));
    for (const { name, from, to, dependencies } of releases) {
      const moved = Object.keys(dependencies).some((dependency) => {
        const other = releases.find((one) => one.name === dependency);
        return other?.from !== other?.to;
      });
      if (moved) expect(to, `${name} has a dependency that moved`).not.toBe(from);
      for (const [dependency, version] of Object.entries(dependencies))
        expect(version).toBe(versions.get(dependency));
    }
  });
});
