import { type ChildProcess, execFileSync, execSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll } from 'vitest';
import { buildChild, startChild } from './group-children.js';
import { describeOrderedGroup } from './group-compliance.js';
import type { TestCluster } from './group-participants.js';

const children = new Set<ChildProcess>();
let program = '';
beforeAll(async () => {
  program = await buildChild();
});
afterAll(() => {
  for (const c of children) c.kill('SIGKILL');
});
const link = (i: number, s: string) => execFileSync('ip', ['-n', 'glsw', 'link', 'set', `p${i}`, s]);
const cluster: TestCluster = {
  join: (n, g) => startChild(['ip', 'netns', 'exec', `glc${n}`, process.execPath, program, g], n, children),
  async until(what, cond) {
    const end = Date.now() + 40_000;
    while (!cond()) {
      if (Date.now() > end) throw new Error('not in time: ' + what);
      await new Promise((r) => setTimeout(r, 10));
    }
  },
  async partition(parts) {
    const big = parts.reduce((a, b) => (a.length >= b.length ? a : b));
    for (const i of [1, 2, 3]) if (!big.includes(i)) link(i, 'down');
  },
  async heal() {
    for (const i of [1, 2, 3]) link(i, 'up');
  },
  async killEngine(n) {
    execSync(`kill -9 ${readFileSync(`/tmp/glab/run/n${n}/pid`, 'utf8')}`);
  },
  async startEngine(n) {
    execSync(
      `bash /tmp/glab/start.sh ${n}; for i in $(seq 1 600); do grep -q "Completed service" /tmp/glab/run/n${n}/log && break; sleep 0.1; done`,
    );
  },
};
describeOrderedGroup('corosync', async () => cluster);
