import { parentPort } from 'node:worker_threads';
import type { Order, Report } from './orders.js';
import { installVirtualTime } from './virtual-time.js';
import { World } from './world.js';

/** A story is cut at its beginning: what matters is before the failure. */
const STORY_LINES_MAX = 200_000;

installVirtualTime();

/** Where a promise goes wrong that nobody waits for, the run that goes on at the moment fails. */
let onLost: (error: unknown) => void = () => {};
process.on('unhandledRejection', (error) => onLost(error));

/** One run from beginning to end. */
export async function simulate(order: Order): Promise<Report> {
  const story: string[] = [];
  const startedNs = process.hrtime.bigint();
  const world: World = new World({
    ...order,
    only: order.only === null ? null : new Set(order.only),
    story: order.trace
      ? (line) => {
          story.push(
            `${String(world.stepNumber).padStart(6)} ${world.nowMs.toFixed(0).padStart(7)} ms  ${line}`,
          );
          if (story.length > STORY_LINES_MAX) story.splice(0, STORY_LINES_MAX / 2);
        }
      : null,
  });
  onLost = (error) => world.fail(error);
  const { seed, steps, requests, coverage, failure } = await world.run();
  const { kind, clustered, nodeIds, regionCount, logArguments } = world.parameters;
  return {
    seed,
    steps,
    stepsWithFaults: world.parameters.steps,
    requests,
    milliseconds: Number(process.hrtime.bigint() - startedNs) / 1e6,
    coverage: coverage.counts,
    parameters: `${clustered ? `${nodeIds.length} nodes` : 'one machine'}, ${kind} log of ${regionCount} regions (${logArguments})`,
    failure:
      failure === null
        ? null
        : {
            step: failure.step,
            invariant: failure.error.invariant,
            node: failure.error.node,
            region: failure.error.region,
            message: failure.error.message,
          },
    story,
    digest: world.digest,
  };
}

parentPort?.on('message', (order: Order) => {
  simulate(order).then(
    (report) => parentPort?.postMessage(report),
    (error: unknown) => {
      // Not a finding: the simulator itself is broken.
      throw error;
    },
  );
});
