import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootCluster, type Cluster, type ClusterOptions, disk, measureRounds } from '../src/index.js';
import { useLab } from './support.js';

const lab = useLab();

/** Each describe has its own cluster: its machines are gone before the next one boots. */
function useCluster(options: ClusterOptions): () => Cluster {
  let cluster: Cluster | undefined;
  beforeAll(async () => {
    cluster = await bootCluster(lab(), options);
    const { bootMs, quorumMs } = cluster.times;
    console.log(
      `${options.machines} machines: boot ${bootMs.toFixed(0)} ms, corosync to quorum ${quorumMs.toFixed(0)} ms`,
    );
  });
  afterAll(() => cluster?.powerCut());
  return () => cluster!;
}

/** Says how long a scenario waited for something: for the reader of the output, never judged. */
async function timed<T>(what: string, step: Promise<T>): Promise<T> {
  const start = performance.now();
  const value = await step;
  console.log(`${what}: ${(performance.now() - start).toFixed(0)} ms`);
  return value;
}

/** The number of a ring, which grows with each change. */
function ringNumber(ringId: string): number {
  return Number.parseInt(ringId.slice(ringId.indexOf('.') + 1), 16);
}

describe('two machines with corosync', () => {
  const data = disk('4M', { shared: true });
  const cluster = useCluster({ machines: 2, disks: { data } });
  const node = (id: number) => cluster().node(id);
  const apart = () => Promise.all([1, 2].map((id) => cluster().waitRing([id], { quorate: false })));

  it('agree on ring, members and quorum, and reach each other', async () => {
    // By name what every wait of this file relies on: the same ring on both.
    const ring = await cluster().waitQuorate();
    expect(ring).toEqual({ ringId: expect.stringMatching(/^1\.[0-9a-f]+$/), quorate: true, members: [1, 2] });
    for (const { id, name, machine } of cluster().nodes) {
      const links = async () => {
        const { stdout } = await machine.run('corosync-cfgtool -s');
        expect(stdout).toContain(`Local node ID ${id}, transport udpu`);
        return stdout.match(/nodeid: +\d:\t\w+/g)?.map((line) => line.replace(/\s+/g, ' '));
      };
      const each = [1, 2].map((other) => `nodeid: ${other}: ${other === id ? 'localhost' : 'connected'}`);
      await expect.poll(links, { timeout: 30_000 }).toEqual(each);
      expect((await machine.run('hostname')).stdout).toBe(`${name}\n`);
    }
  });

  it('share a disk: what one has written past its cache the other and the host read', async () => {
    const [one, two] = [node(1).machine, node(2).machine];
    const write = 'dd bs=4096 count=1 iflag=fullblock oflag=direct conv=notrunc';
    const read = 'dd bs=4096 count=1 iflag=direct';
    await one.run(`${write} of=${one.device('data')} seek=3`, { input: 'one was here'.padEnd(4096, '.') });
    expect((await two.run(`${read} if=${two.device('data')} skip=3`)).stdout.slice(0, 12)).toBe(
      'one was here',
    );
    await two.run(`${write} of=${two.device('data')} seek=3`, { input: 'then two was'.padEnd(4096, '.') });
    expect((await one.run(`${read} if=${one.device('data')} skip=3`)).stdout.slice(0, 12)).toBe(
      'then two was',
    );
    expect(data.read(3 * 4096, 12).toString()).toBe('then two was');
  });

  it('order messages, over slow and lossy cables too', async () => {
    const { network } = cluster();
    const plain = await measureRounds(node(1).machine, 300);
    console.log(`corosync round, guest time: median ${plain.medianUs} us, 90 % ${plain.p90Us} us`);
    await network.shape(2, { delayMs: 20 });
    const slow = await measureRounds(node(1).machine, 10);
    console.log(`with 20 ms on one cable: median ${slow.medianUs} us`);
    // The token passes the cable twice. Only the least is certain, and the two clocks may differ by a little.
    expect(slow.medianUs).toBeGreaterThan(30_000);
    await network.shape(2, { dropRate: 0.05 });
    const lossy = await measureRounds(node(1).machine, 50);
    console.log(`with 5 % lost on one cable: 90 % ${lossy.p90Us} us`);
    await network.shape(2, {});
    expect((await network.stats()).dropped).toBeGreaterThan(0);
    await cluster().waitQuorate();
  });

  it('lose quorum when the cable of one is cut, and have it again when it is healed', async () => {
    const before = await cluster().waitQuorate();
    await node(2).cut();
    await timed('cut: both alone', apart());
    expect((await cluster().network.stats()).cut).toBeGreaterThan(0);
    await node(2).heal();
    const after = await timed('heal: quorate again', cluster().waitQuorate());
    expect(ringNumber(after.ringId)).toBeGreaterThan(ringNumber(before.ringId));
  });

  it('notice a machine that hangs, and take it back', async () => {
    node(2).pause();
    await timed('pause: the other is alone', cluster().waitRing([1], { quorate: false }));
    expect(await node(2).ring()).toBeUndefined();
    node(2).resume();
    await timed('resume: quorate again', cluster().waitQuorate());
  });

  it('notice a corosync that hangs or is killed, and take it back', async () => {
    node(1).pauseCorosync();
    await timed('corosync paused: the other is alone', cluster().waitRing([2], { quorate: false }));
    node(1).resumeCorosync();
    await timed('corosync resumed: quorate again', cluster().waitQuorate());
    await node(1).killCorosync();
    await cluster().waitRing([2], { quorate: false });
    expect(await node(1).ring()).toBeUndefined();
    await node(1).startCorosync();
    await timed('corosync killed and started: quorate again', cluster().waitQuorate());
    await node(1).restartCorosync('SIGTERM');
    await timed('corosync restarted: quorate again', cluster().waitQuorate());
  });

  it('notice a power cut, and take the machine back when it has booted on the same disks', async () => {
    const before = await cluster().waitQuorate();
    await node(2).machine.run('echo lost >/root/kept-nowhere');
    await node(2).kill();
    await timed('power cut: the other is alone', cluster().waitRing([1], { quorate: false }));
    await timed('booted again', node(2).boot());
    const after = await timed('quorate again', cluster().waitQuorate());
    expect(ringNumber(after.ringId)).toBeGreaterThan(ringNumber(before.ringId));
    const { machine } = node(2);
    expect((await machine.run('ls /root/kept-nowhere', { check: false })).code).not.toBe(0);
    // Corosync's own memory of the rings it was in, which a real machine keeps on its disk.
    expect((await machine.run('ls /var/lib/corosync')).stdout).toContain('ringid_2');
    const back = await machine.run(`dd if=${machine.device('data')} bs=4096 skip=3 count=1 iflag=direct`);
    expect(back.stdout.slice(0, 12)).toBe('then two was');
  });
});

describe('three machines with corosync', () => {
  const cluster = useCluster({ machines: 3 });

  it('leave a majority with quorum and a minority without, until the partition ends', async () => {
    const { network } = cluster();
    await network.partition([[1], [2, 3]]);
    await timed(
      'partition: two quorate, one not',
      Promise.all([cluster().waitQuorate([2, 3]), cluster().waitRing([1], { quorate: false })]),
    );
    await cluster().partition([]);
    await timed('whole again', cluster().waitQuorate());
    await cluster().node(3).kill();
    await cluster().waitQuorate([1, 2]);
  });
});

describe('a cluster refuses', () => {
  it.each([
    ['no machines', { machines: 0 }, /1 to 3/],
    ['four machines', { machines: 4 }, /1 to 3/],
    ['a disk that is not shared', { machines: 2, disks: { own: disk('1M') } }, /own is not shared/],
    ['twoNode with three', { machines: 3, twoNode: true }, /exactly 2/],
  ])('%s', async (_what, options, message) => {
    await expect(bootCluster(lab(), options)).rejects.toMatchObject({
      code: 'ERR_LAB_USAGE',
      message: expect.stringMatching(message),
    });
  });

  it('at its switch: a machine that it does not have, and everything after its end', async () => {
    const network = lab().network();
    await expect(network.cut(1)).rejects.toMatchObject({ code: 'ERR_LAB_USAGE' });
    await expect(network.place(255)).rejects.toMatchObject({ code: 'ERR_LAB_USAGE' });
    const place = await network.place(1);
    expect(await network.place(1)).toBe(place);
    await network.close();
    await expect(network.stats()).rejects.toMatchObject({ code: 'ERR_LAB_LOST' });
  });
});
