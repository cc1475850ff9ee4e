import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { clusterUsable, startCluster } from '@dmlog/corosync-lab';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { asModule, type Example, examplesOf } from '../src/examples.js';
import { REPOSITORY } from '../src/packages.js';
import { type RunResult, run } from '../src/run.js';

const { project, tarballs } = inject('packed');
const directory = join(project, 'examples');
const byPackage = Object.keys(tarballs).map(
  (name) => [name, examplesOf(join(project, 'node_modules', name, 'README.md'), name)] as const,
);
const examples = byPackage.flatMap(([, found]) => found);
const programs = (kind: Example['kind']): string[] =>
  examples.filter((example) => example.kind === kind).flatMap(({ id }) => [`${id}.mjs`, `${id}.cjs`]);

let compiled: RunResult;

/** As strictly as a user may: every package's types are checked too, not only what the examples use of them. */
const COMPILER_OPTIONS = {
  module: 'NodeNext',
  target: 'ES2022',
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  skipLibCheck: false,
  noEmitOnError: false,
  rootDir: '.',
  outDir: 'out',
  types: ['node'],
  typeRoots: [join(REPOSITORY, 'node_modules', '@types')],
};

beforeAll(async () => {
  mkdirSync(directory, { recursive: true });
  for (const example of examples) {
    writeFileSync(join(directory, `${example.id}.mts`), asModule(example, 'esm'));
    writeFileSync(join(directory, `${example.id}.cts`), asModule(example, 'cjs'));
  }
  writeFileSync(
    join(directory, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: COMPILER_OPTIONS, include: ['*.mts', '*.cts'] }),
  );
  const tsc = createRequire(join(REPOSITORY, 'package.json')).resolve('typescript/bin/tsc');
  compiled = await run(process.execPath, [tsc, '-p', '.'], { cwd: directory });
});

describe('the examples of the READMEs', () => {
  // A program has its command line, which packages.test.ts runs.
  it.each(byPackage.filter(([name]) => !/\/(singled|clusterd|dmlogctl)$/.test(name)))(
    '%s has one that is run',
    (_name, found) => {
      expect(found.filter(({ kind }) => kind !== 'no-run').length).toBeGreaterThan(0);
    },
  );

  it('compile against the packed types, as ES modules and as CommonJS', () => {
    expect(compiled.stdout).toBe('');
    expect(compiled.code).toBe(0);
  });

  it.each(programs('run'))('%s runs, and says what the README says', async (program) => {
    const result = await run(process.execPath, [join('out', program)], { cwd: directory });
    expect(result).toMatchObject({ code: 0, stderr: '' });
  });

  it.runIf(clusterUsable())('those that need corosync run on a node of a cluster', async () => {
    const cluster = await startCluster({ nodes: 1, tokenMs: 1000 });
    try {
      const found = programs('corosync');
      expect(found.length).toBeGreaterThan(0);
      for (const program of found) {
        const result = await cluster.node(1).exec(process.execPath, [join(directory, 'out', program)]);
        expect({ program, ...result }).toMatchObject({ code: 0, stderr: '' });
      }
    } finally {
      await cluster.destroy();
    }
  });
});
