import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CLUSTERD, type Clusterd, startClusterd } from '../src/clusterd.js';
import {
  bootCluster,
  type Cluster,
  disk,
  type GuestProcess,
  legsEqual,
  type Machine,
  mirrorTable,
} from '../src/index.js';
import { startSingled } from '../src/singled.js';
import { useLab } from './support.js';

/** clusterd on two machines with shared legs and log disks, and real corosync: one mirror, live on both at once. */
const lab = useLab();

const REGION_SECTORS = 32;
const REGION_BYTES = REGION_SECTORS * 512;
/** Four batches of leases: both nodes get some. */
const REGIONS = 256;
const LEG = '4M';
const KINDS = ['disk', 'core'] as const;
type Kind = (typeof KINDS)[number];
const WAIT = { timeout: 60_000, interval: 100 };

function tableOf(machine: Machine, kind: Kind): string {
  return mirrorTable({
    lengthSectors: REGIONS * REGION_SECTORS,
    log: {
      kind: 'userspace',
      uuid: `LVM-${kind}`,
      type: `clustered-${kind}`,
      args: kind === 'disk' ? [machine.device('log'), REGION_SECTORS] : [REGION_SECTORS],
    },
    legs: [machine.device(`${kind}0`), machine.device(`${kind}1`)],
    features: ['handle_errors'],
  });
}

/** Sectors written to the second leg and not to the first since boot, in regions: what is recovered, all else goes to both. */
async function recoveredRegions(machine: Machine, kind: Kind): Promise<number> {
  const written = async (leg: string) => {
    const name = machine.device(leg).replace('/dev/', '');
    const { stdout } = await machine.run(`cat /sys/block/${name}/stat`);
    return Number(stdout.trim().split(/\s+/)[6]);
  };
  return ((await written(`${kind}1`)) - (await written(`${kind}0`))) / REGION_SECTORS;
}

const BLOCK_BYTES = 4096;
const BLOCKS = (REGIONS * REGION_BYTES) / BLOCK_BYTES;
/** Blocks from one write to the next: even, and twice a number that is prime to the blocks, so each node comes to all of its own. */
const STRIDE_BLOCKS = 74;

/** The block that a node's write of this number (from 1) goes to: odd ones are node 1's, even ones node 2's. */
const blockOf = (nodeId: number, write: number) => (write * STRIDE_BLOCKS + (nodeId % 2)) % BLOCKS;

/** Writes one block after the other, until `/run/tmp/enough` is there; a line for each. */
function startWriting(machine: Machine, nodeId: number, kind: Kind): Promise<GuestProcess> {
  const script = `
set -e; n=0; mkdir -p /run/tmp
while [ ! -e /run/tmp/enough ]; do
  n=$((n + 1)); block=$(((n * ${STRIDE_BLOCKS} + ${nodeId % 2}) % ${BLOCKS}))
  printf "%${BLOCK_BYTES}s" "node ${nodeId} write $n" | dd of=/dev/mapper/${kind} bs=${BLOCK_BYTES} seek=$block count=1 iflag=fullblock oflag=direct conv=notrunc status=none
  echo written
done`;
  return machine.start(`sh -c '${script}'`);
}

/** Says how long a step took: for the reader of the output, never judged. */
async function timed<T>(what: string, step: Promise<T>): Promise<T> {
  const start = performance.now();
  const value = await step;
  console.log(`${what}: ${(performance.now() - start).toFixed(0)} ms`);
  return value;
}

const writesOf = (process: GuestProcess) => process.output().split('written').length - 1;

describe('a mirror on two machines with clusterd', () => {
  const disks = {
    disk0: disk(LEG, { shared: true }),
    disk1: disk(LEG, { shared: true }),
    core0: disk(LEG, { shared: true }),
    core1: disk(LEG, { shared: true }),
    log: disk('1M', { shared: true }),
  };
  const legsOf = (kind: Kind) => [disks[`${kind}0`], disks[`${kind}1`]] as const;
  let cluster: Cluster;
  const daemons = new Map<number, Clusterd>();
  const machineOf = (id: number) => cluster.node(id).machine;
  const statusOf = async (id: number, kind: Kind) => {
    const status = await (daemons.get(id) as Clusterd).status();
    return status.logs.find(({ uuid }) => uuid === `LVM-${kind}`)?.cluster;
  };

  beforeAll(async () => {
    for (const [seed, leg] of [disks.disk0, disks.disk1, disks.core0, disks.core1].entries()) {
      leg.randomize(seed + 1);
    }
    // The first goes on alone, the second does not.
    cluster = await bootCluster(lab(), { machines: 2, disks, votes: [2, 1] });
  });
  afterAll(() => cluster?.powerCut());

  /** Writes on the given nodes to both mirrors, until each has written so many times more. */
  async function writing(ids: readonly number[]) {
    for (const id of ids) await machineOf(id).run('rm -f /run/tmp/enough');
    const loads = await Promise.all(
      ids.flatMap((id) =>
        KINDS.map(async (kind) => ({ kind, id, process: await startWriting(machineOf(id), id, kind) })),
      ),
    );
    return {
      /** How many writes of this node to this mirror were acknowledged. */
      count: (nodeId: number, of: Kind) =>
        loads.reduce(
          (sum, { id, kind, process }) => (id === nodeId && kind === of ? writesOf(process) : sum),
          0,
        ),
      more: async (count: number, of: readonly number[] = ids) => {
        const wanted = loads
          .filter(({ id }) => of.includes(id))
          .map(({ process }) => ({ process, goal: writesOf(process) + count }));
        await expect
          .poll(() => wanted.every(({ process, goal }) => writesOf(process) >= goal), WAIT)
          .toBe(true);
      },
      end: async (of: readonly number[] = ids) => {
        for (const id of of) await machineOf(id).run('touch /run/tmp/enough');
        for (const { id, process } of loads) {
          if (of.includes(id)) expect(await process.exited, process.output()).toBe(0);
        }
      },
    };
  }

  it('is made by both and resynced once for both', async () => {
    for (const id of [1, 2]) daemons.set(id, await startClusterd(machineOf(id)));
    await Promise.all(
      [1, 2].map(async (id) => {
        for (const kind of KINDS) await machineOf(id).dmCreate(kind, tableOf(machineOf(id), kind));
      }),
    );
    for (const kind of KINDS) {
      for (const id of [1, 2]) await machineOf(id).waitInSync(kind);
      const shares = await Promise.all([1, 2].map((id) => recoveredRegions(machineOf(id), kind)));
      console.log(`${kind}: recovered by node 1 and 2: ${shares.join(' and ')}`);
      expect((shares[0] as number) + (shares[1] as number)).toBe(REGIONS);
      expect(legsEqual(...legsOf(kind))).toBe(true);
    }
    const { stdout } = await machineOf(1).run(`node ${CLUSTERD} status`);
    expect(stdout).toMatch(/LVM-disk .*: node 1 in ring 1\.\d+, quorate, active, mirror live, writer [12]/);
    // One log daemon per host.
    await expect(startSingled(machineOf(1))).rejects.toThrow(/another log daemon/);
  });

  it('takes writes of both at the same time', async () => {
    const load = await writing([1, 2]);
    await load.more(20);
    await load.end();
    for (const kind of KINDS) {
      expect(legsEqual(...legsOf(kind))).toBe(true);
      // What one has written the other reads.
      for (const [reader, writer] of [
        [1, 2],
        [2, 1],
      ] as const) {
        const place = `bs=${BLOCK_BYTES} skip=${blockOf(writer, 1)} count=1`;
        const { stdout } = await machineOf(reader).run(
          `dd if=/dev/mapper/${kind} ${place} iflag=direct status=none`,
        );
        expect(stdout.trim()).toBe(`node ${writer} write 1`);
      }
      for (const id of [1, 2])
        expect(await machineOf(id).dmStatus(kind)).toMatchObject({ inSyncCount: REGIONS, legHealth: 'AA' });
    }
  });

  it('loses nothing when a daemon is killed while its machine writes, and started again', async () => {
    const before = await Promise.all(KINDS.map((kind) => recoveredRegions(machineOf(2), kind)));
    const load = await writing([1, 2]);
    await load.more(5);
    await (daemons.get(2) as Clusterd).stop('SIGKILL');
    await timed('the other goes on', load.more(5, [1]));
    daemons.set(2, await timed('daemon started', startClusterd(machineOf(2))));
    await timed('its machine writes again', load.more(1));
    await timed('both write', load.more(4));
    await load.end();
    for (const kind of KINDS) {
      await expect
        .poll(async () => (await statusOf(1, kind))?.members.map(({ presence }) => presence), WAIT)
        .toEqual(['live', 'live']);
      expect(legsEqual(...legsOf(kind))).toBe(true);
      expect(await machineOf(2).dmStatus(kind)).toMatchObject({ inSyncCount: REGIONS, legHealth: 'AA' });
    }
    expect(await Promise.all(KINDS.map((kind) => recoveredRegions(machineOf(2), kind)))).toEqual(before);
  });

  it('resyncs what a dead machine was writing, and nothing else, when the other is reloaded', async () => {
    const before = await Promise.all(KINDS.map((kind) => recoveredRegions(machineOf(1), kind)));
    // Whole again after the kill of the daemon, which has its tables reloaded: only what is written is marked.
    for (const kind of KINDS) {
      const marks = async () => (await statusOf(1, kind))?.members.map((member) => member.marks);
      await expect.poll(marks, WAIT).toEqual([0, 0]);
    }
    const load = await writing([1, 2]);
    await load.more(10);
    await cluster.node(2).kill();
    // What its last write leaves behind if the power goes between the two legs. Whatever it wrote within the last seconds must be taken for that.
    for (const kind of KINDS) {
      const block = blockOf(2, load.count(2, kind));
      disks[`${kind}1`].write(block * BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES, 'torn'));
    }
    await timed('the other goes on', load.more(10, [1]));
    await timed('load ends', load.end([1]));
    for (const [index, kind] of KINDS.entries()) {
      await expect.poll(async () => (await statusOf(1, kind))?.members.length, WAIT).toBe(1);
      await expect.poll(async () => (await statusOf(1, kind))?.staleCount, WAIT).toBe(0);
      await machineOf(1).waitInSync(kind);
      await expect.poll(() => legsEqual(...legsOf(kind)), WAIT).toBe(true);
      const recovered = (await recoveredRegions(machineOf(1), kind)) - (before[index] as number);
      console.log(`${kind}: ${recovered} regions recovered`);
      expect(recovered).toBeGreaterThanOrEqual(1);
      expect(recovered).toBeLessThan(REGIONS / 2);
    }
  });

  it('takes the machine back, which finds all in sync', async () => {
    const load = await writing([1]);
    await cluster.node(2).boot();
    await cluster.waitQuorate();
    daemons.set(2, await startClusterd(machineOf(2)));
    for (const kind of KINDS) {
      await machineOf(2).dmCreate(kind, tableOf(machineOf(2), kind));
      expect(await machineOf(2).waitInSync(kind)).toMatchObject({ legHealth: 'AA' });
    }
    await load.more(3);
    await load.end();
    for (const kind of KINDS) {
      expect(await recoveredRegions(machineOf(2), kind)).toBe(0);
      expect(legsEqual(...legsOf(kind))).toBe(true);
      for (const id of [1, 2]) await machineOf(id).dmRemove(kind);
    }
    for (const id of [1, 2]) {
      expect((await (daemons.get(id) as Clusterd).status()).logs).toEqual([]);
      expect(await machineOf(id).dmesg()).not.toMatch(/I\/O error|Insufficient space/);
    }
  });
});
