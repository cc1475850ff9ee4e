import { readFileSync } from 'node:fs';

/**
 * The examples of a README: its fenced blocks of TypeScript. What follows `ts` in the fence says more:
 *
 * | fence          | the block                                                             |
 * | -------------- | --------------------------------------------------------------------- |
 * | `ts`           | begins an example; it is compiled and run, as ES module and as CommonJS |
 * | `ts continued` | goes on with the example before it                                    |
 * | `ts no-run`    | begins an example that is only compiled: it needs what a test has not |
 * | `ts corosync`  | begins an example that is run on a node of a real corosync cluster    |
 *
 * `expression; // => value` in an example is a claim, and checked.
 */
export interface Example {
  /** Unique among the examples of all packages; names the files. */
  readonly id: string;
  readonly kind: 'run' | 'no-run' | 'corosync';
  readonly text: string;
}

const KINDS: Readonly<Record<string, Example['kind']>> = {
  '': 'run',
  'no-run': 'no-run',
  corosync: 'corosync',
};

export function examplesOf(readmePath: string, packageName: string): Example[] {
  const examples: Example[] = [];
  const readme = readFileSync(readmePath, 'utf8');
  for (const [, note = '', text = ''] of readme.matchAll(/^```ts *(.*)\n([\s\S]*?)^```$/gm)) {
    const last = examples.at(-1);
    if (note === 'continued') {
      if (last === undefined) throw new Error(`${readmePath}: nothing to continue`);
      examples[examples.length - 1] = { ...last, text: last.text + text };
      continue;
    }
    const kind = KINDS[note];
    if (kind === undefined) throw new Error(`${readmePath}: unknown kind of example: ts ${note}`);
    const id = `${packageName.replace(/[^a-z0-9]+/g, '-').replace(/^-/, '')}-${examples.length + 1}`;
    examples.push({ id, kind, text });
  }
  return examples;
}

/** An example as a module of its own. CommonJS has no `await` outside of functions, so there the body becomes one. */
export function asModule(example: Example, format: 'esm' | 'cjs'): string {
  const imports: string[] = ["import assert from 'node:assert/strict';"];
  const body = example.text
    .replace(/^import [\s\S]*?;\n/gm, (statement) => {
      imports.push(statement.trimEnd());
      return '';
    })
    .replace(/^(\s*)(.+); \/\/ => (.+)$/gm, '$1assert.deepEqual($2, $3);');
  const head = `${imports.join('\n')}\nassert.ok(true);\n`;
  if (format === 'esm') return `${head}${body}`;
  return `${head}async function main(): Promise<void> {\n${body}}\nmain().catch((error: unknown) => { throw error; });\n`;
}
