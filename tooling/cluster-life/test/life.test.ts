import { clusterUsable } from '@dmlog/corosync-lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildDaemon, ClusterWorld } from '../src/cluster-world.js';
import { Life } from '../src/life.js';

const SEED = Number(process.env['DMLOG_LIFE_SEED'] ?? 1);
const MINUTES = Number(process.env['DMLOG_LIFE_MINUTES'] ?? 0.3);
const NODES = Number(process.env['DMLOG_LIFE_NODES'] ?? 3);
const MINUTE_MS = 60_000;

const describeCluster = clusterUsable() ? describe : describe.skip;

describeCluster(`${NODES} nodes that join, leave, die, are cut off and write`, () => {
  let program: { path: string; remove(): void };
  let world: ClusterWorld | undefined;

  beforeAll(async () => {
    program = await buildDaemon();
  });

  afterAll(async () => {
    await world?.destroy();
    program?.remove();
  });

  it(
    `have one state, know where legs differ, and end with equal legs (seed ${SEED}, ${MINUTES} minutes)`,
    async () => {
      console.log(`DMLOG_LIFE_SEED=${SEED}`);
      world = await ClusterWorld.start(program.path, {
        seed: SEED,
        nodes: NODES,
        regions: 32,
        kinds: ['core', 'disk'],
        tokenMs: 500,
        lazyClearMs: 300,
      });
      const life = new Life(world, SEED);
      try {
        await life.run(MINUTES * MINUTE_MS);
      } finally {
        const { agreement, checks, machines } = world;
        console.log(
          JSON.stringify({
            ...life.counts,
            reloadsInAll: machines.flatMap(({ tables }) => tables).reduce((sum, one) => sum + one.reloads, 0),
            positionsStated: agreement.stated,
            positionsCompared: agreement.compared,
            historiesEnded: agreement.abandoned,
            differencesChecked: checks.reduce((sum, { checked }) => sum + checked, 0),
            askedWithoutQuorum: machines.reduce((sum, { watch }) => sum + watch.checked, 0),
          }),
        );
      }
      expect(world.agreement.compared).toBeGreaterThan(100);
      expect(life.counts.writes).toBeGreaterThan(100);
    },
    MINUTES * MINUTE_MS + 8 * MINUTE_MS,
  );
});
