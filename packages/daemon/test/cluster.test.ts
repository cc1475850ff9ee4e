import { type Reply, RequestType } from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import { DaemonStatus, daemonMetrics, formatStatus } from '../src/index.js';
import { ClusterNodes, clusterOf, replyTo, until } from './cluster-nodes.js';
import { errnoOf, Kernel, log, MemoryDevice, type TestLog, u64s, values } from './kernel.js';

const CORE = log('LVM-core', 1);
const DISK = log('LVM-disk', 2);
const REGIONS = 20;
const SIZE = 1024;
const CORE_TEXT = `${REGIONS * SIZE} clustered-core ${SIZE}`;
const DISK_TEXT = `${REGIONS * SIZE} clustered-disk /dev/log ${SIZE}`;

const ask = (kernel: Kernel, of: TestLog, type: RequestType, ...numbers: number[]): Promise<Reply> =>
  replyTo(kernel, kernel.send(of, type, u64s(numbers)));

async function expectOk(kernel: Kernel, of: TestLog, type: RequestType, ...numbers: number[]): Promise<void> {
  expect(errnoOf(await ask(kernel, of, type, ...numbers)), `request ${type} ${numbers}`).toBe(0);
}

async function construct(
  kernel: Kernel,
  of: TestLog,
  text: string,
  reconnect = false,
): Promise<number | null> {
  const data = new TextEncoder().encode(reconnect ? `${text}\0` : text);
  return errnoOf(await replyTo(kernel, kernel.send(of, RequestType.CTR, data)));
}

async function resume(kernel: Kernel, of: TestLog, text: string): Promise<void> {
  expect(await construct(kernel, of, text)).toBe(0);
  await expectOk(kernel, of, RequestType.RESUME);
}

/** Recovers as a kernel does until there is no work; returns the regions. */
async function recover(kernel: Kernel, of: TestLog, stepsMax = 1000): Promise<number[]> {
  const regions: number[] = [];
  for (let step = 0; step < stepsMax; step++) {
    const [has, region] = values(await ask(kernel, of, RequestType.GET_RESYNC_WORK)) as [number, number];
    if (has === 0) break;
    await expectOk(kernel, of, RequestType.SET_REGION_SYNC, region, 1);
    regions.push(region);
  }
  return regions;
}

async function write(kernel: Kernel, of: TestLog, region: number): Promise<void> {
  await expectOk(kernel, of, RequestType.MARK_REGION, region);
  await expectOk(kernel, of, RequestType.FLUSH);
}

const number = async (kernel: Kernel, of: TestLog, type: RequestType, ...numbers: number[]) =>
  values(await ask(kernel, of, type, ...numbers))[0];

const inSync = (kernel: Kernel, of: TestLog) => number(kernel, of, RequestType.GET_SYNC_COUNT);
const isClean = (kernel: Kernel, of: TestLog, region: number) =>
  number(kernel, of, RequestType.IS_CLEAN, region);

async function becomes(what: () => Promise<unknown>, wanted: unknown): Promise<void> {
  let last: unknown;
  for (let attempt = 0; attempt < 2000; attempt++) {
    last = await what();
    if (last === wanted) return;
    await new Promise((resolve) => setImmediate(resolve));
    if (attempt > 200) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`stays ${last}, not ${wanted}`);
}

const KINDS = [
  ['clustered-core', CORE, CORE_TEXT],
  ['clustered-disk', DISK, DISK_TEXT],
] as const;

describe.each(KINDS)('%s on two nodes', (kind, of, text) => {
  /** `nodeIds`: of the cluster; the first two have the log. */
  async function two(nodeIds = [1, 2]) {
    const device = new MemoryDevice(REGIONS);
    const nodes = new ClusterNodes(nodeIds, { '/dev/log': device });
    const [one, other] = [await nodes.start(1), await nodes.start(2)];
    await resume(one, of, text);
    await resume(other, of, text);
    return { device, nodes, one, other };
  }

  it('is resynced once, by both', async () => {
    const { one, other } = await two();
    expect(await inSync(one, of)).toBe(0);
    const [mine, yours] = await Promise.all([recover(one, of), recover(other, of)]);
    expect([...mine, ...yours].sort((a, b) => a - b)).toEqual(Array.from({ length: REGIONS }, (_, r) => r));
    for (const kernel of [one, other]) await becomes(() => inSync(kernel, of), REGIONS);
  });

  it("knows each other's marks, until they are cleared", async () => {
    const { device, one, other } = await two();
    await recover(one, of);
    await becomes(() => inSync(other, of), REGIONS);
    // What was just recovered is dirty until its CLEAR.
    for (let region = 0; region < REGIONS; region++)
      await expectOk(one, of, RequestType.CLEAR_REGION, region);
    for (let region = 0; region < REGIONS; region++) await becomes(() => isClean(other, of, region), 1);
    await write(one, of, 3);
    await write(other, of, 3);
    await write(other, of, 7);
    if (kind === 'clustered-disk')
      expect([3, 7, 8].map((region) => device.isClean(region))).toEqual([false, false, true]);
    await becomes(() => isClean(one, of, 7), 0);
    expect(await isClean(other, of, 3)).toBe(0);
    await expectOk(one, of, RequestType.CLEAR_REGION, 3);
    await expectOk(other, of, RequestType.CLEAR_REGION, 7);
    await becomes(() => isClean(one, of, 7), 1);
    expect(await isClean(one, of, 3)).toBe(0);
    await expectOk(other, of, RequestType.CLEAR_REGION, 3);
    await becomes(() => isClean(one, of, 3), 1);
    if (kind === 'clustered-disk') await becomes(async () => device.isClean(3) && device.isClean(7), true);
  });

  it('says in its status who takes part', async () => {
    const { one, other } = await two();
    await write(other, of, 5);
    await becomes(async () => clusterOf(one, of).members[1]?.marks, 1);
    const { cluster, ...rest } = DaemonStatus.parse(one.daemon.status()).logs[0] ?? {};
    expect(rest).toMatchObject({ type: kind, state: 'live', regionCount: REGIONS, dirtyCount: REGIONS });
    expect(cluster).toMatchObject({
      nodeId: 1,
      quorate: true,
      phase: 'active',
      mirror: 'live',
      writer: 1,
      members: [
        { nodeId: 1, presence: 'live', marks: 0 },
        { nodeId: 2, presence: 'live', marks: 1, leases: 0 },
      ],
      needReload: [],
      staleCount: 0,
      keepsImage: kind === 'clustered-disk',
    });
    expect(clusterOf(other, of).ring).toEqual(cluster?.ring);
    expect(cluster?.digest).toMatch(/^[0-9a-f]{16}$/);
    await becomes(async () => {
      const [a, b] = [clusterOf(one, of), clusterOf(other, of)];
      return a.position === b.position && a.digest === b.digest;
    }, true);
    expect(formatStatus('clusterd', one.daemon.status())).toMatch(
      new RegExp(
        `\\n${of.uuid} 0x[0-9a-f]{16}: node 1 in ring \\d+\\.\\d+, quorate, active, mirror live, writer 1, position \\d+\\n` +
          '  NODE  PRESENCE  MARKS  LEASES  BOOT\\n  1     live      0      0 .*\\n  2     live      1      0 ',
      ),
    );
    const metrics = await daemonMetrics(() => one.daemon.status()).text();
    expect(metrics).toMatch(/^dmlog_cluster_operational\{.*\} 1$/m);
    expect(clusterOf(one, of).joinSeconds).toBeGreaterThan(0);
    // The first founded the group, and brought the other the state.
    expect(clusterOf(one, of).snapshotSeconds).toBeNull();
    expect(metrics).toMatch(/^dmlog_cluster_checkpoint_seconds\{.*\} 0$/m);
    const { joinSeconds, snapshotSeconds } = clusterOf(other, of);
    expect(snapshotSeconds).toBeGreaterThan(0);
    expect(snapshotSeconds).toBeLessThan(joinSeconds as number);
    const others = await daemonMetrics(() => other.daemon.status()).text();
    expect(others).toMatch(/^dmlog_cluster_checkpoint_seconds\{.*\} [0-9.e-]*[1-9]/m);
    expect(metrics).toMatch(/^dmlog_cluster_nodes_live\{.*\} 2$/m);
    expect(metrics).toMatch(/^dmlog_cluster_regions_in_doubt\{.*\} 0$/m);
  });

  it('is suspended and destroyed on one, and goes on with the other', async () => {
    const { device, one, other } = await two();
    await recover(one, of);
    await write(one, of, 1);
    await expectOk(one, of, RequestType.PRESUSPEND);
    await expectOk(one, of, RequestType.POSTSUSPEND);
    await becomes(async () => clusterOf(other, of).members[0]?.presence, 'suspended');
    await becomes(() => isClean(other, of, 1), 1);
    await expectOk(one, of, RequestType.DTR);
    expect(one.daemon.status().logs).toEqual([]);
    await becomes(async () => clusterOf(other, of).members.length, 1);
    await write(other, of, 2);
    if (kind === 'clustered-disk')
      expect([1, 2].map((region) => device.isClean(region))).toEqual([true, false]);
    // Back again: it is told the state.
    await resume(one, of, text);
    expect(await inSync(one, of)).toBe(REGIONS);
    expect(await isClean(one, of, 2)).toBe(0);
  });

  it('keeps the marks of a node whose daemon died, and finds them again', async () => {
    const { nodes, one, other } = await two();
    await recover(one, of);
    for (let region = 0; region < REGIONS; region++)
      await expectOk(one, of, RequestType.CLEAR_REGION, region);
    await write(one, of, 4);
    await one.daemon.stop('death');
    await becomes(async () => clusterOf(other, of).members[0]?.presence, 'absent');
    expect(await isClean(other, of, 4)).toBe(0);
    const again = await nodes.start(1);
    expect(errnoOf(await ask(again, of, RequestType.FLUSH))).toBe(3);
    expect(await construct(again, of, text, true)).toBe(0);
    await expectOk(again, of, RequestType.RESUME);
    expect(await inSync(again, of)).toBe(REGIONS);
    expect(await isClean(again, of, 4)).toBe(0);
    await becomes(async () => clusterOf(other, of).members[0]?.presence, 'live');
    await write(again, of, 4);
    await expectOk(again, of, RequestType.PRESUSPEND);
    await expectOk(again, of, RequestType.POSTSUSPEND);
    await becomes(() => isClean(other, of, 4), 1);
  });

  it('answers nothing that changes its state without quorum', async () => {
    const { nodes, one, other } = await two();
    await recover(one, of);
    nodes.network.crashNode(1);
    await becomes(async () => clusterOf(other, of).quorate, false);
    expect(await other.settled(other.send(of, RequestType.MARK_REGION, u64s([9])), 200)).toBeNull();
  });

  it('takes over from a node that died, and resyncs what it wrote after a reload', async () => {
    // With a third one the cluster goes on at once; where nobody could, the one that is left would have to wait for the other's daemon, which may know more.
    const { device, nodes, one, other } = await two([1, 2, 3]);
    await recover(one, of);
    for (let region = 0; region < REGIONS; region++)
      await expectOk(one, of, RequestType.CLEAR_REGION, region);
    for (let region = 0; region < REGIONS; region++) await becomes(() => isClean(other, of, region), 1);
    await write(one, of, 6);
    nodes.network.crashNode(1);
    await becomes(async () => clusterOf(other, of).members.length, 1);
    await replyTo(other, other.send(of, RequestType.MARK_REGION, u64s([9])));
    await expectOk(other, of, RequestType.FLUSH);
    await becomes(async () => clusterOf(other, of).staleCount, 1);
    expect(clusterOf(other, of).needReload).toEqual([2]);
    expect(await number(other, of, RequestType.IN_SYNC, 6)).toBe(1);
    if (kind === 'clustered-disk')
      await becomes(async () => [6, 9, 10].map((r) => device.isClean(r)).join(), 'false,false,true');
    await expectOk(other, of, RequestType.PRESUSPEND);
    await expectOk(other, of, RequestType.POSTSUSPEND);
    await expectOk(other, of, RequestType.RESUME);
    expect(await recover(other, of)).toEqual([6]);
    expect(clusterOf(other, of)).toMatchObject({ staleCount: 0, needReload: [] });
  });

  it.each(['stays', 'leaves', 'dies'])(
    'is clean only after the second of two writers, also when a lower node joins between, becomes the writer and %s',
    async (fate) => {
      const device = new MemoryDevice(REGIONS);
      const nodes = new ClusterNodes([1, 2, 3], { '/dev/log': device });
      const [low, first, second] = [await nodes.start(1), await nodes.start(2), await nodes.start(3)];
      await resume(first, of, text);
      await resume(second, of, text);
      await recover(first, of);
      for (let region = 0; region < REGIONS; region++)
        await expectOk(first, of, RequestType.CLEAR_REGION, region);
      for (let region = 0; region < REGIONS; region++) await becomes(() => isClean(second, of, region), 1);
      const expectDirty = async (kernel: Kernel) => {
        expect(await isClean(kernel, of, 3)).toBe(0);
        if (kind === 'clustered-disk') expect(device.isClean(3)).toBe(false);
      };
      await write(first, of, 3);
      await write(second, of, 3);
      expect(clusterOf(second, of).writer).toBe(2);
      // Marks that are ordered around the hand-over are vouched for by somebody: no FLUSH waits for ever.
      const writing = Promise.all(
        [first, second].map(async (kernel) => {
          for (let region = 4; region < 9; region++) await write(kernel, of, region);
        }),
      );
      await resume(low, of, text);
      await writing;
      for (const kernel of [low, first, second]) await becomes(async () => clusterOf(kernel, of).writer, 1);
      if (kind === 'clustered-disk') await becomes(async () => clusterOf(low, of).keepsImage, true);
      await expectOk(first, of, RequestType.CLEAR_REGION, 3);
      await becomes(async () => clusterOf(second, of).members.find(({ nodeId }) => nodeId === 2)?.marks, 5);
      await expectDirty(second);
      await expectDirty(low);
      if (fate === 'dies') nodes.network.crashNode(1);
      if (fate === 'leaves') {
        await expectOk(low, of, RequestType.PRESUSPEND);
        await expectOk(low, of, RequestType.POSTSUSPEND);
        await expectOk(low, of, RequestType.DTR);
      }
      if (fate !== 'stays') {
        for (const kernel of [first, second]) await becomes(async () => clusterOf(kernel, of).writer, 2);
      }
      await write(first, of, 9);
      await expectDirty(second);
      await expectOk(second, of, RequestType.CLEAR_REGION, 3);
      await becomes(() => isClean(first, of, 3), 1);
      if (kind === 'clustered-disk') {
        await becomes(async () => device.isClean(3), true);
        expect(device.isClean(9)).toBe(false);
      }
      // Nothing was found on the image that nobody could explain: no table has to be reloaded.
      expect(clusterOf(first, of)).toMatchObject({ staleCount: 0, needReload: [] });
    },
  );

  it('exchanges its table for one of the same geometry', async () => {
    const { one, other } = await two();
    await recover(one, of);
    await write(one, of, 2);
    const next = { ...of, luid: { ...of.luid, low: 77 } };
    expect(await construct(one, next, text)).toBe(0);
    await expectOk(one, of, RequestType.PRESUSPEND);
    await expectOk(one, of, RequestType.POSTSUSPEND);
    await expectOk(one, next, RequestType.RESUME);
    await expectOk(one, of, RequestType.DTR);
    expect(await inSync(one, next)).toBe(REGIONS);
    await write(one, next, 3);
    await becomes(() => isClean(other, of, 3), 0);
    expect(clusterOf(other, of).members.map(({ presence }) => presence)).toEqual(['live', 'live']);
  });

  it('is refused with a geometry that the others do not have, and grows when all are suspended', async () => {
    const { one, other } = await two();
    await recover(one, of);
    const grown = { ...of, luid: { ...of.luid, low: 78 } };
    const grownText = text
      .replace(String(REGIONS * SIZE), String(2 * (REGIONS - 10) * SIZE))
      .replace(` ${SIZE}`, ` ${SIZE * 2}`);
    for (const kernel of [one, other]) expect(await construct(kernel, grown, grownText)).toBe(0);
    for (const kernel of [one]) {
      await expectOk(kernel, of, RequestType.PRESUSPEND);
      await expectOk(kernel, of, RequestType.POSTSUSPEND);
    }
    expect(errnoOf(await ask(one, grown, RequestType.RESUME))).toBe(22);
    expect(JSON.stringify(one.lines)).toMatch(/cannot take part/);
    // Its kernel takes the mirror for resumed: it is to do nothing, and not to wait 15 s for being told so.
    expect(values(await ask(one, grown, RequestType.GET_RESYNC_WORK))).toEqual([0, 0]);
    expect(await inSync(one, grown)).toBe(0);
    await expectOk(other, of, RequestType.PRESUSPEND);
    await expectOk(other, of, RequestType.POSTSUSPEND);
    for (const kernel of [one, other]) await expectOk(kernel, grown, RequestType.RESUME);
    for (const kernel of [one, other]) await expectOk(kernel, of, RequestType.DTR);
    await write(other, grown, 1);
    await becomes(() => isClean(one, grown, 1), 0);
    await becomes(async () => clusterOf(one, grown).members.length, 2);
  });

  it('joins again when corosync was gone', async () => {
    const { nodes, one, other } = await two();
    await recover(one, of);
    for (let region = 0; region < REGIONS; region++)
      await expectOk(one, of, RequestType.CLEAR_REGION, region);
    // What the others have not heard of is not believed afterwards.
    await becomes(() => inSync(other, of), REGIONS);
    nodes.network.killEngine(1);
    await becomes(async () => clusterOf(one, of).nodeId, null);
    expect(JSON.stringify(one.lines)).toMatch(/out of the log's group/);
    const unanswered = one.send(of, RequestType.IN_SYNC, u64s([3]));
    expect(await one.settled(unanswered)).toBeNull();
    nodes.network.restartNode(1);
    await becomes(async () => clusterOf(one, of).phase, 'active');
    // EAGAIN: asked again at once, not after 15 s.
    expect(errnoOf(await replyTo(one, unanswered))).toBe(11);
    expect(await number(one, of, RequestType.IN_SYNC, 3)).toBe(1);
    await write(one, of, 8);
    await becomes(() => isClean(other, of, 8), 0);
    // It was never counted as owed: now nothing is, and the daemon that takes this one's place need not ask for anything.
    expect(await one.daemon.handOver?.pause()).toMatchObject({ owed: false });
    one.daemon.handOver?.resume();
  });
});

const TABLE = `0 ${REGIONS * SIZE} mirror userspace 3 ${CORE.uuid} clustered-core ${SIZE} 2 8:0 0 8:16 0`;

/** dmsetup and the kernel behind it, for one mirror: a resume exchanges the tables, as device-mapper does it. */
function deviceMapper(attributes: () => string, exchange: () => Promise<void>) {
  const calls: string[] = [];
  const run = async (args: readonly string[], input?: string): Promise<string> => {
    calls.push([...args, ...(input === undefined ? [] : [`<${input.trim()}`])].join(' '));
    if (args[0] === 'table')
      return `other: 0 8 mirror userspace 3 LVM-x core 2\nmy mirror: ${TABLE}\nlinear: 0 8 linear\n`;
    if (args[0] === 'info') return `${attributes()}\n`;
    if (args[0] === 'resume') await exchange();
    return '';
  };
  return { calls, run };
}

/** What the kernel asks while the table of `before` is exchanged for that of `after`. */
async function exchangeTables(node: Kernel, before: TestLog, after: TestLog): Promise<void> {
  expect(await construct(node, after, CORE_TEXT)).toBe(0);
  await expectOk(node, before, RequestType.PRESUSPEND);
  await expectOk(node, before, RequestType.POSTSUSPEND);
  await expectOk(node, after, RequestType.RESUME);
  await expectOk(node, before, RequestType.DTR);
}

describe('a table that the group waits for', () => {
  it('is left alone while somebody else is at work on the mirror', async () => {
    const nodes = new ClusterNodes([1, 2, 3]);
    const dm = deviceMapper(
      () => 'L-sw',
      async () => expect.unreachable('it is suspended'),
    );
    const one = await nodes.start(1, { cluster: { reload: 'dmsetup' } }, dm.run);
    const [other] = [await nodes.start(2), await nodes.start(3)];
    await resume(one, CORE, CORE_TEXT);
    await resume(other, CORE, CORE_TEXT);
    const regions = await recover(one, CORE);
    for (const region of regions) await expectOk(one, CORE, RequestType.CLEAR_REGION, region);
    await becomes(() => inSync(other, CORE), REGIONS);
    await write(other, CORE, 5);
    nodes.network.crashNode(2);
    await becomes(async () => clusterOf(one, CORE).needReload.join(), '1');
    await becomes(async () => dm.calls.length, 2);
    expect(dm.calls).toEqual(['table --target mirror', 'info -c --noheadings -o attr my mirror']);
    await becomes(async () => JSON.stringify(one.lines).includes('another command is at work'), true);
    expect(clusterOf(one, CORE).staleCount).toBe(1);
  });

  it('is loaded and exchanged in one step of the kernel', async () => {
    const nodes = new ClusterNodes([1, 2, 3]);
    const next = { ...CORE, luid: { ...CORE.luid, low: 99 } };
    const dm = deviceMapper(
      () => 'L--w',
      () => exchangeTables(one, CORE, next),
    );
    const one = await nodes.start(1, { cluster: { reload: 'dmsetup' } }, dm.run);
    const [other] = [await nodes.start(2), await nodes.start(3)];
    await resume(one, CORE, CORE_TEXT);
    await resume(other, CORE, CORE_TEXT);
    await recover(one, CORE);
    await becomes(() => inSync(other, CORE), REGIONS);
    await write(other, CORE, 5);
    nodes.network.crashNode(2);
    await becomes(async () => dm.calls.length, 4);
    expect(dm.calls.slice(2)).toEqual([`load my mirror <${TABLE}`, 'resume my mirror']);
    await becomes(
      async () =>
        one.daemon
          .status()
          .logs.map(({ luid }) => luid)
          .join(),
      '0xffff888000000063',
    );
    expect(await recover(one, next)).toEqual([5]);
    expect(clusterOf(one, next)).toMatchObject({ staleCount: 0, needReload: [] });
  });
});

describe('a table whose marks nobody knows', () => {
  it('is reloaded after a restart of the daemon', async () => {
    const nodes = new ClusterNodes([1, 2]);
    const [first, other] = [await nodes.start(1), await nodes.start(2)];
    await resume(first, CORE, CORE_TEXT);
    await resume(other, CORE, CORE_TEXT);
    for (const region of await recover(first, CORE))
      await expectOk(first, CORE, RequestType.CLEAR_REGION, region);
    await first.daemon.stop('death');
    await becomes(async () => clusterOf(other, CORE).members[0]?.presence, 'absent');
    const next = { ...CORE, luid: { ...CORE.luid, low: 99 } };
    const dm = deviceMapper(
      () => 'L--w',
      () => exchangeTables(one, CORE, next),
    );
    const one = await nodes.start(1, { cluster: { reload: 'dmsetup' } }, dm.run);
    expect(await construct(one, CORE, CORE_TEXT, true)).toBe(0);
    await expectOk(one, CORE, RequestType.RESUME);
    await becomes(async () => clusterOf(other, CORE).members[0]?.marks, REGIONS);
    await becomes(async () => clusterOf(other, CORE).members[0]?.marks, 0);
    expect(dm.calls).toHaveLength(4);
    await write(one, next, 3);
    expect(clusterOf(one, next).members[0]?.marks).toBe(1);
  });
});

describe('a daemon for clusters', () => {
  it('serves local logs as ever, and says what is wrong where there is no cluster', async () => {
    const problem = Object.assign(new Error('corosync is not running: start it'), { errno: 111 });
    const device = new MemoryDevice(REGIONS);
    const kernel = await Kernel.start(
      { '/dev/log': device },
      {},
      {
        cluster: { joinGroup: () => Promise.reject(problem), check: () => Promise.reject(problem) },
      },
    );
    expect(await construct(kernel, CORE, CORE_TEXT)).toBe(111);
    expect(await construct(kernel, DISK, DISK_TEXT)).toBe(111);
    expect(device.opened).toBe(device.closed);
    expect(JSON.stringify(kernel.lines)).toMatch(/NO CLUSTER.*corosync is not running: start it/);
    const local = log('LVM-local', 9);
    await resume(kernel, local, `${REGIONS * SIZE} disk /dev/log ${SIZE}`);
    await write(kernel, local, 1);
    expect(device.isClean(1)).toBe(false);
    expect(kernel.daemon.status().logs[0]?.cluster).toBeUndefined();
    await kernel.daemon.stop('test over');
  });

  it('lets nobody write while its device fails and may call regions clean', async () => {
    const device = new MemoryDevice(REGIONS);
    const nodes = new ClusterNodes([1], { '/dev/log': device });
    const kernel = await nodes.start(1);
    await resume(kernel, DISK, DISK_TEXT);
    await recover(kernel, DISK);
    for (let region = 0; region < REGIONS; region++)
      await expectOk(kernel, DISK, RequestType.CLEAR_REGION, region);
    await becomes(async () => device.isClean(3), true);
    for (const type of [RequestType.PRESUSPEND, RequestType.POSTSUSPEND, RequestType.DTR])
      await expectOk(kernel, DISK, type);
    device.failReads = true;
    device.failWrites = true;
    expect(await construct(kernel, DISK, DISK_TEXT)).toBe(0);
    expect(errnoOf(await ask(kernel, DISK, RequestType.RESUME))).toBe(5);
    expect(await recover(kernel, DISK)).toHaveLength(REGIONS);
    // Recovered, and so marked in the state: no mark is ordered for the write, but the image must have the region dirty.
    await expectOk(kernel, DISK, RequestType.MARK_REGION, 3);
    expect(errnoOf(await ask(kernel, DISK, RequestType.FLUSH))).toBe(5);
    expect(device.isClean(3)).toBe(true);
    device.failReads = false;
    device.failWrites = false;
    await becomes(async () => errnoOf(await ask(kernel, DISK, RequestType.FLUSH)), 0);
    expect(device.isClean(3)).toBe(false);
  });

  it('is not held up by a daemon that hangs', async () => {
    const nodes = new ClusterNodes([1, 2, 3, 4]);
    const kernels: Kernel[] = [];
    for (const id of [1, 2, 3, 4]) {
      const kernel = await nodes.start(id);
      kernels.push(kernel);
      await resume(kernel, CORE, CORE_TEXT);
    }
    const [hung, second, third, fourth] = kernels as [Kernel, Kernel, Kernel, Kernel];
    await recover(second, CORE);
    nodes.hang(1);
    // The lowest of the others would have vouched: it is asked of all, after a while.
    await write(second, CORE, 3);
    await write(third, CORE, 4);
    // A new ring begins without its hello, after a longer while.
    nodes.network.partition([[1, 2, 3], [4]]);
    await becomes(async () => clusterOf(second, CORE).members.some(({ nodeId }) => nodeId === 4), false);
    await write(second, CORE, 5);
    expect(clusterOf(third, CORE).members.find(({ nodeId }) => nodeId === 1)?.presence).toBe('absent');
    nodes.letGo(1);
    nodes.network.heal();
    for (const kernel of [hung, second, third, fourth]) {
      const live = async () =>
        clusterOf(kernel, CORE).members.filter(({ presence }) => presence === 'live').length;
      await becomes(live, 4);
    }
    await write(hung, CORE, 6);
    const digests = () => new Set(kernels.map((kernel) => clusterOf(kernel, CORE).digest)).size;
    await becomes(async () => digests(), 1);
    for (const region of [3, 4, 5, 6]) expect(await isClean(fourth, CORE, region)).toBe(0);
  }, 60_000);

  it('refuses a second log on one device', async () => {
    const nodes = new ClusterNodes([1], { '/dev/log': new MemoryDevice(REGIONS) });
    const kernel = await nodes.start(1);
    await resume(kernel, DISK, DISK_TEXT);
    expect(await construct(kernel, log('LVM-other', 5), DISK_TEXT)).toBe(16);
    expect(await construct(kernel, log('LVM-local', 6), DISK_TEXT.replace('clustered-', ''))).toBe(16);
  });

  it('moves a mirror from a local log to a clustered one', async () => {
    const device = new MemoryDevice(REGIONS);
    const nodes = new ClusterNodes([1], { '/dev/log': device });
    const kernel = await nodes.start(1);
    await resume(kernel, DISK, DISK_TEXT.replace('clustered-', ''));
    for (const region of await recover(kernel, DISK))
      await expectOk(kernel, DISK, RequestType.CLEAR_REGION, region);
    const next = log(DISK.uuid, 79);
    expect(await construct(kernel, next, DISK_TEXT)).toBe(0);
    await expectOk(kernel, DISK, RequestType.PRESUSPEND);
    await expectOk(kernel, DISK, RequestType.POSTSUSPEND);
    await expectOk(kernel, next, RequestType.RESUME);
    await expectOk(kernel, DISK, RequestType.DTR);
    expect(await inSync(kernel, next)).toBe(REGIONS);
    await write(kernel, next, 2);
    expect([1, 2].map((region) => device.isClean(region))).toEqual([true, false]);
  });

  it('answers many logs of one cluster, one of which waits', async () => {
    const nodes = new ClusterNodes([1, 2]);
    const [one] = [await nodes.start(1), await nodes.start(2)];
    const [a, b] = [log('LVM-a', 1), log(`odd uuid ${'x'.repeat(110)}`, 2)];
    for (const kernel of nodes.kernels.values()) for (const of of [a, b]) await resume(kernel, of, CORE_TEXT);
    nodes.network.pauseNode(2);
    const waiting = one.send(a, RequestType.FLUSH, u64s([1]));
    await until(
      () => clusterOf(one, a).quorate === false,
      () => 'quorum is not lost',
    );
    expect(one.replyTo(waiting)).toBeNull();
    expect(await number(one, b, RequestType.GET_REGION_SIZE)).toBe(SIZE);
    nodes.network.resumeNode(2);
    expect(errnoOf(await replyTo(one, waiting))).toBe(0);
  });
});
