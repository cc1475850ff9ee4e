import { fileURLToPath } from 'node:url';
import { buildProgram, clusterUsable } from '@dmlog/corosync-lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runClusterBench } from '../src/index.js';

describe.skipIf(!clusterUsable())('cluster bench', () => {
  const pathOf = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
  let program: Awaited<ReturnType<typeof buildProgram>>;

  beforeAll(async () => {
    program = await buildProgram(pathOf('../src/cluster-node.ts'), pathOf('../.cache'));
  }, 60_000);

  afterAll(() => program.remove());

  it('plays floor and clusterd on one node and on three, and judges every target', {
    timeout: 180_000,
  }, async () => {
    const printed: string[] = [];
    const result = await runClusterBench({
      brief: true,
      nodeProgram: program.path,
      print: (text) => printed.push(text),
    });
    const { oneNode, threeNodes, local, disk, marks, joins, resync, verdicts } = result;
    expect(Object.keys(oneNode[0]!.floor)).toEqual(['ping']);
    expect(Object.keys(threeNodes[0]!.floor)).toEqual(['ping', 'commit', 'commit-all']);
    for (const { floor, writes, flushes, work, hot } of [...oneNode, ...threeNodes]) {
      for (const times of Object.values(floor)) expect(times.p50).toBeGreaterThan(0);
      expect(writes.types['MARK + FLUSH']!.count).toBe(writes.cycles);
      expect(flushes.types['FLUSH with a new mark']!.count).toBe(flushes.cycles);
      expect(work.types['GET_RESYNC_WORK that asks']!.count).toBe(work.cycles);
      // Counts, not times: they hold however busy the machine is.
      expect(writes.sentPerCycle).toBeGreaterThanOrEqual(1);
      expect(hot.sentPerCycle).toBe(0);
    }
    // An acknowledgement by another node is what a FLUSH on three nodes waits for.
    expect(oneNode[0]!.writes.othersSentPerCycle).toBe(0);
    expect(threeNodes[0]!.writes.othersSentPerCycle).toBeGreaterThan(0.9);
    expect(local[0]!.clusterd['rewrite']!.cycles).toBeGreaterThan(0);
    expect(disk[0]!.write.p50).toBeGreaterThan(0);
    expect(disk[0]!.flushes.types['FLUSH with a new mark']!.count).toBe(disk[0]!.flushes.cycles);
    expect(marks[0]!.many.cycles).toBeGreaterThan(0);
    expect(joins.every(({ ns }) => ns > 0)).toBe(true);
    const recovered = resync.three.reduce((sum, { regions }) => sum + regions, 0);
    expect(recovered).toBeGreaterThanOrEqual(resync.one.regions);
    expect(verdicts).toHaveLength(14);
    expect(verdicts.every(({ value }) => !value.includes('NaN') && !value.includes('not measured'))).toBe(
      true,
    );
    expect(printed.join('\n')).toMatch(/three nodes: ordered requests/);
  });
});
