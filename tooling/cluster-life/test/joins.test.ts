import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { clusterUsable, waitUntil } from '@dmlog/corosync-lab';
import { imageBytes, writeHeader } from '@dmlog/log';
import { RequestType } from '@dmlog/protocol';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { randomFrom } from '../../../packages/cluster/test/group-random.js';
import { buildDaemon, ClusterWorld } from '../src/cluster-world.js';
import type { Machine } from '../src/machine.js';
import { REGION_SECTORS } from '../src/mirror.js';

/** A checkpoint of so many regions in no order at all fills 18 messages and more. */
const REGIONS = 1 << 23;
const HEAD_BYTES = 1024;
const LOG = { uuid: 'LVM-large', luid: 5 };
const DIES_WITH_PIECE = 4;
const EAGAIN = 11;
const ROUNDS_MAX = 1000;

const describeCluster = clusterUsable() ? describe : describe.skip;

let program: { path: string; remove(): void };
let world: ClusterWorld | undefined;

beforeAll(async () => {
  program = await buildDaemon();
});

afterAll(async () => {
  await world?.destroy();
  program?.remove();
});

/** An image as the kernel's `disk` log leaves it, any region clean or not. */
function writeImage(path: string): void {
  const image = new Uint8Array(imageBytes(REGIONS, 4096));
  writeHeader(image, REGIONS);
  const draw = randomFrom(1);
  for (let at = HEAD_BYTES; at < HEAD_BYTES + REGIONS / 8; at++) image[at] = Math.floor(draw() * 256);
  writeFileSync(path, image);
}

describeCluster('two nodes that join a large log under load, both at once', () => {
  it('get its state, although the member that sends it dies half way', async () => {
    world = await ClusterWorld.start(program.path, {
      seed: 4,
      nodes: 4,
      regions: 8,
      kinds: [],
      tokenMs: 1000,
      lazyClearMs: 0,
      reload: 'off',
    });
    const { machines } = world;
    const [donor, member, ...joiners] = machines as [Machine, Machine, Machine, Machine];
    const image = `${world.lab.directory}/large`;
    writeImage(image);
    const text = `${REGIONS * REGION_SECTORS} clustered-disk ${image} ${REGION_SECTORS}`;
    for (const machine of machines) machine.startDaemon();
    const ask = async (
      machine: Machine,
      type: RequestType,
      content: { words?: number[]; text?: string } = {},
    ) => {
      let answer = await machine.ask({ type, ...LOG, ...content });
      // Asked again, as a kernel does it.
      for (let round = 0; answer?.errno === EAGAIN && round < ROUNDS_MAX; round++) {
        await sleep(20);
        answer = await machine.ask({ type, ...LOG, ...content });
      }
      if (answer === null) throw new Error(`${machine.name}: no answer to ${type}`);
      expect(answer.errno, `${machine.name}, request ${type}`).toBe(0);
      return answer.values[0] ?? 0;
    };
    const join = async (machine: Machine) => {
      await ask(machine, RequestType.CTR, { text });
      await ask(machine, RequestType.RESUME);
    };
    await join(donor);
    await join(member);

    // Load: one mark and flush after the other, to the end.
    let region = 0;
    let isOver = false;
    const busy = (async () => {
      for (; !isOver; region += 97) {
        await ask(member, RequestType.MARK_REGION, { words: [region] });
        await ask(member, RequestType.FLUSH);
      }
    })();
    await donor.daemon?.request('dieWithPiece', DIES_WITH_PIECE);
    const death = donor.expectDeath();
    const joined = Promise.all(joiners.map(join));
    expect(await death).toEqual({ code: null, signal: 'SIGKILL' });
    const marked = region;
    await joined;
    expect(region).toBeGreaterThanOrEqual(marked);
    isOver = true;
    await busy;

    const views = async () => {
      const all = [member, ...joiners].map((machine) =>
        machine.daemon?.request('view', { uuid: LOG.uuid, dirty: false }),
      );
      return (await Promise.all(all)).map((view) =>
        view == null ? '' : `${view.phase} ${view.position} ${view.hash}`,
      );
    };
    let latest: string[] = [];
    await waitUntil(
      'all are at one position',
      async () => {
        latest = await views();
        return new Set(latest).size === 1 && latest[0]?.startsWith('active') === true;
      },
      60_000,
      () => latest.join('\n'),
    );
    const digests = await Promise.all(
      [member, ...joiners].map((machine) => machine.daemon?.request('digest', LOG.uuid)),
    );
    expect(new Set(digests).size).toBe(1);
    for (const machine of joiners) {
      expect(await ask(machine, RequestType.IS_CLEAN, { words: [region - 97] })).toBe(0);
      expect(await ask(machine, RequestType.GET_SYNC_COUNT)).toBe(
        await ask(member, RequestType.GET_SYNC_COUNT),
      );
    }

    // The donor's kernel has gone on without a daemon: the next one finds its place again.
    donor.startDaemon();
    await ask(donor, RequestType.CTR, { text: `${text}\0` });
    await ask(donor, RequestType.RESUME);
    expect(await ask(donor, RequestType.IS_CLEAN, { words: [region - 97] })).toBe(0);
  }, 180_000);
});
