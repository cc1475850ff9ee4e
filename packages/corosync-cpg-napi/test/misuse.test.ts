import { expect, it } from 'vitest';
import { describeCluster, useCluster } from './support.js';

const rig = useCluster({ nodes: 1, tokenMs: 1000 }, 'scenarios.ts');

/** Runs one scenario in a process of its own; its text, or why it died. */
async function run(scenario: string): Promise<string> {
  const args = ['--expose-gc', rig.program, scenario];
  const { code, stdout, stderr } = await rig.cluster.node(1).exec(process.execPath, args);
  return code === 0 ? stdout.trim() : `${code}: ${stdout}${stderr}`;
}

describeCluster('in a process of its own', () => {
  it.each([
    ['several-groups', 'one:to one,three:to three,two:to two ERR_CPG_EXIST'],
    ['close-anywhere', 'ERR_CPG_CLOSED ERR_CPG_CLOSED ERR_CPG_CLOSED ERR_CPG_CLOSED ERR_CPG_CLOSED'],
    ['close-in-handlers', '4'],
    ['leave-in-handler', 'left'],
    ['exit-open', 'bye'],
    ['exit-in-handler', 'bye'],
    ['exit-joining', 'bye'],
    ['end-after-close', 'bye'],
    ['uncaught-exception', 'a (planted) b (planted) c d'],
    ['tick-throws', 'planted in a tick'],
    ['views-stay-valid', 'true'],
    ['without-quorum', 'false undefined'],
    ['workers-exit', 'workers gone'],
    ['workers-in-handler', 'workers gone'],
    ['workers-joining', 'workers gone'],
    ['no-rights', 'ERR_CPG_ACCESS'],
  ])('%s', async (scenario, outcome) => {
    expect(await run(scenario)).toBe(outcome);
  });

  it('an exception that nobody catches ends the process as any other', async () => {
    const outcome = await run('exception-ends-process');
    expect(outcome).toMatch(/^1: exit 1\n/);
    expect(outcome).toContain('planted');
  });

  it('without corosync says so, and works once it is back', async () => {
    await rig.cluster.stop(1);
    expect(await run('not-running')).toBe('ERR_CPG_NOT_RUNNING');
    await rig.cluster.restart(1);
    expect(await run('exit-open')).toBe('bye');
  });
});
