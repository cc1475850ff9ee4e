import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Reply, RequestType } from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import { RuntimeState } from '../src/index.js';
import { ClusterNodes, clusterOf, replyTo } from './cluster-nodes.js';
import { scratchDirectory } from './helpers/scratch.js';
import { errnoOf, type Kernel, log, MemoryDevice, type TestLog, u64s, values } from './kernel.js';

/** Daemons of clustered logs that die and find their logs again. */

const REGIONS = 20;
const SIZE = 1024;
const KINDS = [
  ['clustered-core', log('LVM-core', 1), `${REGIONS * SIZE} clustered-core ${SIZE}`],
  ['clustered-disk', log('LVM-disk', 2), `${REGIONS * SIZE} clustered-disk /dev/log ${SIZE}`],
] as const;

const ask = (kernel: Kernel, of: TestLog, type: RequestType, ...numbers: number[]): Promise<Reply> =>
  replyTo(kernel, kernel.send(of, type, u64s(numbers)));

async function expectOk(kernel: Kernel, of: TestLog, type: RequestType, ...numbers: number[]): Promise<void> {
  expect(errnoOf(await ask(kernel, of, type, ...numbers)), `request ${type} ${numbers}`).toBe(0);
}

/** A log of two or three nodes with a runtime directory each. */
class Machines {
  readonly device = new MemoryDevice(REGIONS);
  readonly nodes: ClusterNodes;
  readonly kernels = new Map<number, Kernel>();
  readonly #directories = new Map<number, string>();
  readonly #ids: number[];
  #seq = 10_000;

  constructor(ids: number[]) {
    this.#ids = ids;
    this.nodes = new ClusterNodes(ids, { '/dev/log': this.device, [this.device.deviceNumber]: this.device });
    for (const id of ids) this.#directories.set(id, scratchDirectory());
  }

  kernel(id: number): Kernel {
    return this.kernels.get(id) as Kernel;
  }

  async start(id: number): Promise<Kernel> {
    const runtimeDir = this.#directories.get(id) as string;
    this.#seq += 10_000;
    const kernel = await this.nodes.start(id, { runtimeDir }, undefined, {
      openState: (_config, logger) => new RuntimeState({ runtimeDir, logger, bootId: `boot of ${id}` }),
      firstSeq: this.#seq,
    });
    this.kernels.set(id, kernel);
    return kernel;
  }

  files(id: number): string[] {
    return readdirSync(join(this.#directories.get(id) as string, 'state')).filter(
      (name) => name !== 'last-seq',
    );
  }

  /** All nodes resume the log; the first recovers all of it and clears what it wrote. */
  async sync(of: TestLog, text: string): Promise<void> {
    for (const id of this.#ids) {
      const kernel = await this.start(id);
      const data = new TextEncoder().encode(text);
      expect(errnoOf(await replyTo(kernel, kernel.send(of, RequestType.CTR, data)))).toBe(0);
      await expectOk(kernel, of, RequestType.RESUME);
    }
    const first = this.kernel(this.#ids[0] as number);
    for (let region = 0; region < REGIONS; region++) {
      const [has, work] = values(await ask(first, of, RequestType.GET_RESYNC_WORK)) as [number, number];
      expect(has).toBe(1);
      await expectOk(first, of, RequestType.SET_REGION_SYNC, work, 1);
      await expectOk(first, of, RequestType.CLEAR_REGION, work);
    }
    for (const kernel of this.kernels.values())
      await becomes(async () => clusterOf(kernel, of).staleCount + dirty(kernel, of), 0);
  }
}

const dirty = (kernel: Kernel, of: TestLog) =>
  kernel.daemon.status().logs.find(({ uuid }) => uuid === of.uuid)?.dirtyCount ?? -1;

async function becomes(what: () => Promise<unknown>, wanted: unknown): Promise<void> {
  let last: unknown;
  const deadline = performance.now() + 20_000;
  while (performance.now() < deadline) {
    last = await what();
    if (last === wanted) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  throw new Error(`stays ${last}, not ${wanted}`);
}

async function write(kernel: Kernel, of: TestLog, region: number): Promise<void> {
  await expectOk(kernel, of, RequestType.MARK_REGION, region);
  await expectOk(kernel, of, RequestType.FLUSH);
}

const value = async (kernel: Kernel, of: TestLog, type: RequestType, ...numbers: number[]) =>
  values(await ask(kernel, of, type, ...numbers))[0];

/** Nothing is to be resynced, and no table to be reloaded. */
async function expectAsBefore(kernel: Kernel, of: TestLog): Promise<void> {
  expect(await value(kernel, of, RequestType.GET_SYNC_COUNT)).toBe(REGIONS);
  expect(values(await ask(kernel, of, RequestType.GET_RESYNC_WORK))).toEqual([0, 0]);
  expect(clusterOf(kernel, of)).toMatchObject({ staleCount: 0, needReload: [] });
}

const isLive = (kernel: Kernel, of: TestLog, members: number) => () =>
  Promise.resolve(
    clusterOf(kernel, of).members.filter(({ presence }) => presence === 'live').length === members,
  );

describe.each(KINDS)('%s', (kind, of, text) => {
  it('is found again by one daemon while the other goes on', async () => {
    const machines = new Machines([1, 2]);
    await machines.sync(of, text);
    await write(machines.kernel(1), of, 4);
    await machines.kernel(1).daemon.stop('death');
    await write(machines.kernel(2), of, 7);
    const again = await machines.start(1);
    // Not "unknown", and no reconnect: the kernel's next request is answered.
    await expectOk(again, of, RequestType.FLUSH);
    await becomes(isLive(machines.kernel(2), of, 2), true);
    for (const kernel of machines.kernels.values()) {
      await expectAsBefore(kernel, of);
      for (const region of [4, 7]) expect(await value(kernel, of, RequestType.IS_CLEAN, region)).toBe(0);
      expect(dirty(kernel, of)).toBe(2);
    }
    await expectOk(again, of, RequestType.CLEAR_REGION, 4);
    await becomes(() => value(machines.kernel(2), of, RequestType.IS_CLEAN, 4), 1);
    expect(again.lines.filter(({ level }) => (level as number) >= 50)).toEqual([]);
  });

  it.each([[[1]], [[1, 2]], [[1, 2, 3]]])(
    'is found again when the daemons of all of nodes %j have died',
    async (ids) => {
      const machines = new Machines(ids);
      await machines.sync(of, text);
      for (const id of ids) await write(machines.kernel(id), of, id);
      // A clear that nobody was told of, and one after the other: the last has gone on without the first.
      await expectOk(machines.kernel(1), of, RequestType.CLEAR_REGION, 1);
      for (const id of ids) {
        await write(machines.kernel(id), of, 10 + id);
        await machines.kernel(id).daemon.stop('death');
      }
      for (const id of ids) await machines.start(id);
      for (const id of ids) await write(machines.kernel(id), of, 15 + (id % 4));
      for (const id of ids) await becomes(isLive(machines.kernel(id), of, ids.length), true);
      for (const kernel of machines.kernels.values()) {
        await expectAsBefore(kernel, of);
        for (const id of ids) {
          if (id !== 1) expect(await value(kernel, of, RequestType.IS_CLEAN, id)).toBe(0);
          expect(await value(kernel, of, RequestType.IS_CLEAN, 10 + id)).toBe(0);
          expect(await value(kernel, of, RequestType.IS_CLEAN, 15 + (id % 4))).toBe(0);
        }
      }
      if (kind === 'clustered-disk') {
        for (const id of ids) expect(machines.device.isClean(10 + id)).toBe(false);
      }
      // The lazy clear is not forgotten, either.
      await becomes(() => value(machines.kernel(1), of, RequestType.IS_CLEAN, 1), 1);
    },
  );

  it('goes on with the recovery that its kernel was at', async () => {
    const machines = new Machines([1]);
    const kernel = await machines.start(1);
    expect(
      errnoOf(await replyTo(kernel, kernel.send(of, RequestType.CTR, new TextEncoder().encode(text)))),
    ).toBe(0);
    await expectOk(kernel, of, RequestType.RESUME);
    const take = async (from: Kernel) => values(await ask(from, of, RequestType.GET_RESYNC_WORK));
    const [, first] = (await take(kernel)) as [number, number];
    await expectOk(kernel, of, RequestType.SET_REGION_SYNC, first, 1);
    const [, second] = (await take(kernel)) as [number, number];
    await kernel.daemon.stop('death');
    const again = await machines.start(1);
    await becomes(isLive(again, of, 1), true);
    // What is being recovered is handed out again, and to nobody else; what was recovered is in sync.
    expect(await value(again, of, RequestType.IN_SYNC, first)).toBe(1);
    expect(await take(again)).toEqual([1, second]);
    await expectOk(again, of, RequestType.SET_REGION_SYNC, second, 1);
    const recovered = new Set([first, second]);
    for (let i = 2; i < REGIONS; i++) {
      const [has, region] = (await take(again)) as [number, number];
      expect([has, recovered.has(region)]).toEqual([1, false]);
      recovered.add(region);
      await expectOk(again, of, RequestType.SET_REGION_SYNC, region, 1);
    }
    expect(await value(again, of, RequestType.GET_SYNC_COUNT)).toBe(REGIONS);
  });

  it('leaves nothing behind when its last table is gone', async () => {
    const machines = new Machines([1]);
    await machines.sync(of, text);
    expect(machines.files(1)).toHaveLength(2);
    const kernel = machines.kernel(1);
    await expectOk(kernel, of, RequestType.PRESUSPEND);
    await expectOk(kernel, of, RequestType.POSTSUSPEND);
    await kernel.daemon.stop('death');
    const again = await machines.start(1);
    // A suspended log stays what it was.
    expect(again.daemon.status().logs).toMatchObject([{ uuid: of.uuid, state: 'suspended' }]);
    await expectOk(again, of, RequestType.RESUME);
    await expectAsBefore(again, of);
    await expectOk(again, of, RequestType.PRESUSPEND);
    await expectOk(again, of, RequestType.POSTSUSPEND);
    await expectOk(again, of, RequestType.DTR);
    expect(machines.files(1)).toEqual([]);
  });
});
