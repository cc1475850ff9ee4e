import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Clusterd, startClusterd } from '../src/clusterd.js';
import {
  bootCluster,
  type Cluster,
  disk,
  type GuestProcess,
  type Machine,
  regionsThatDiffer,
} from '../src/index.js';
import { SharedMirror } from './cluster-rig.js';
import { useLab } from './support.js';

/**
 * The move from the reference daemon and back. Debian has no package of it, so its program has to be named: `DMLOG_CMIRRORD=/path/to/cmirrord`, built from lvm2
 * (docs/migration.md says how).
 */
const CMIRRORD = process.env['DMLOG_CMIRRORD'];
const DMLOGCTL = fileURLToPath(new URL('../../../apps/dmlogctl/dist/cli.cjs', import.meta.url));
const REGION_SECTORS = 32;
const REGIONS = 256;
const REGION_BYTES = REGION_SECTORS * 512;
/** Nobody writes there: only a resync would copy it. */
const CANARY = 200;

describe.runIf(CMIRRORD !== undefined)('a mirror on two machines', () => {
  const lab = useLab();
  const shared = (size: string) => disk(size, { shared: true });
  const disks = { leg0: shared('4M'), leg1: shared('4M'), log: shared('1M') };
  const mirror = new SharedMirror({ name: 'm', disks, regionSectors: REGION_SECTORS, regions: REGIONS });
  let cluster: Cluster;
  let machines: Machine[];
  let references: GuestProcess[] = [];
  let daemons: Clusterd[] = [];

  beforeAll(async () => {
    disks.leg0.randomize(1);
    disks.leg1.randomize(2);
    cluster = await bootCluster(lab(), { machines: 2, disks });
    machines = cluster.nodes.map(({ machine }) => machine);
    return () => cluster.powerCut();
  });

  const onEach = <T>(act: (machine: Machine) => Promise<T>): Promise<T[]> => Promise.all(machines.map(act));

  async function startReference(): Promise<void> {
    references = await onEach((machine) => machine.start(`${CMIRRORD} -f`));
    // It says that it serves to the system's log only: seen by its socket in the connector's group.
    await onEach((machine) =>
      machine.run(
        'for i in $(seq 300); do grep -q "^[0-9a-f]* 11 " /proc/net/netlink && exit; sleep 0.1; done; exit 1',
      ),
    );
  }

  async function stopReference(): Promise<void> {
    for (const one of references) one.kill('SIGTERM');
    await Promise.all(references.map(({ exited }) => exited));
  }

  /** Live on both, one after the other as the reference wants it, and all in sync. */
  async function create(): Promise<void> {
    for (const machine of machines) await mirror.create(machine);
    await onEach((machine) => machine.waitInSync('m'));
  }

  const remove = () => onEach((machine) => machine.run('dmsetup remove --retry m'));
  const write = (machine: Machine, region: number) =>
    machine.run(
      `dd if=/dev/urandom of=${mirror.device} bs=${REGION_BYTES} seek=${region} count=1 oflag=direct status=none`,
    );
  const differing = () => regionsThatDiffer(disks.leg0, disks.leg1, REGION_BYTES, REGIONS);

  it('goes from cmirrord to clusterd and back, and nothing is copied that its log calls clean', async () => {
    const [one, two] = machines as [Machine, Machine];
    await startReference();
    await create();
    await write(one, 3);
    await write(two, 4);
    await expect(startClusterd(one)).rejects.toThrow(/cmirrord/);
    await remove();
    await stopReference();
    expect(differing()).toEqual([]);
    const verified = await one.run(
      `node ${DMLOGCTL} verify ${one.device(disks.log)} --clean --regions ${REGIONS}`,
    );
    expect(verified.stdout).toContain('nothing is wrong');
    disks.leg1.write(CANARY * REGION_BYTES, Buffer.from('nobody copies this'));

    daemons = await onEach((machine) => startClusterd(machine));
    await create();
    await write(one, 5);
    await write(two, 6);
    await remove();
    await Promise.all(daemons.map((daemon) => daemon.stop()));
    expect(differing()).toEqual([CANARY]);

    await startReference();
    await create();
    await write(two, 7);
    await remove();
    await stopReference();
    expect(differing()).toEqual([CANARY]);
  }, 300_000);
});
