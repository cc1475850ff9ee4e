#!/usr/bin/env node
/**
 * The repository checks itself. Each ban names its replacement and the bug behind it.
 *
 * Exit status 1 with one line per finding; long files and functions are reported without failing.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const PURE = ['packages/protocol/src', 'packages/bitmap/src', 'packages/log/src', 'packages/cluster/src'];
const LINES_PER_FILE_MAX = 400;

const PURE_BANS = [
  [
    /from 'node:/,
    'no Node API in a pure package: take what you need as an argument (the simulator runs this code)',
  ],
  [/\bDate\b\s*[.(]/, 'no clock in a pure package: time comes in as a tick (a replay must be exact)'],
  [/\bMath\.random\b/, 'no randomness in a pure package: pass a generator in (a replay must be exact)'],
  [/\bsetTimeout\b|\bsetInterval\b/, 'no timers in a pure package: time comes in as a tick'],
];
const EVERYWHERE_BANS = [
  [new RegExp(`\\b${'FIX'}${'ME'}\\b|\\b${'XX'}${'X'}\\b`), 'finish it, or file it and say why it can wait'],
  [/\.only\(/, 'a test that runs alone hides the others'],
];

function* sources(directory) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (['node_modules', 'dist', 'build', '.cache', '.turbo', 'fixtures'].includes(entry.name)) continue;
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* sources(path);
    else if (/\.(ts|mjs|c|h|sh)$/.test(entry.name)) yield path;
  }
}

let findings = 0;
for (const top of ['packages', 'apps', 'tooling', 'examples']) {
  for (const path of sources(join(root, top))) {
    const name = relative(root, path);
    const lines = readFileSync(path, 'utf8').split('\n');
    const bans = PURE.some((pure) => name.startsWith(pure))
      ? [...PURE_BANS, ...EVERYWHERE_BANS]
      : EVERYWHERE_BANS;
    lines.forEach((line, index) => {
      const code = line.replace(/^\s*(\*|\/\/|\/\*).*/, '');
      for (const [pattern, why] of bans) {
        if (!pattern.test(code) || name.endsWith('tidy.mjs')) continue;
        findings++;
        console.log(`${name}:${index + 1}: ${why}`);
      }
    });
    if (lines.length > LINES_PER_FILE_MAX)
      console.log(`note: ${name} has ${lines.length} lines, over ${LINES_PER_FILE_MAX}`);
  }
}
console.log(findings === 0 ? 'tidy: nothing found' : `tidy: ${findings} findings`);
process.exit(findings === 0 ? 0 : 1);
