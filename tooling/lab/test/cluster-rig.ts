import { expect } from 'vitest';
import { type Clusterd, type ClusterLogStatus, startClusterd } from '../src/clusterd.js';
import { SECTOR_BYTES } from '../src/constants.js';
import type { DaemonOptions } from '../src/daemon.js';
import { guestProgram } from '../src/guest-program.js';
import { type Cluster, type Disk, disk, type GuestProcess, type Machine, mirrorTable } from '../src/index.js';
import { dirtyRegions, readImageState } from '../src/region-map.js';
import { BLOCK_BYTES, type Share, Writer } from './block-writer.js';

/** For conditions that come about by themselves: far longer than they take on a busy machine. */
export const WAIT = { timeout: 60_000, interval: 100 };

/** Disks that the log's own kind of device, or the mirror's legs, stand on. */
export interface MirrorDisks {
  readonly leg0: Disk;
  readonly leg1: Disk;
  /** Then it is a `clustered-disk` log, else `clustered-core`. */
  readonly log?: Disk;
}

export interface SharedMirrorInit {
  /** Of the device-mapper device and, after `LVM-`, of the log. */
  readonly name: string;
  readonly disks: MirrorDisks;
  readonly regionSectors: number;
  readonly regions: number;
  readonly nosync?: boolean;
  /** Every disk lies under a `linear` device, which one node alone can be made to wait for: {@link SharedMirror.hold}. */
  readonly holdable?: boolean;
}

/** What may be held: writes to it wait, on one node. */
export type Part = 'leg0' | 'leg1' | 'log';

/** One mirror that several machines have live at once. */
export class SharedMirror {
  readonly name: string;
  readonly disks: MirrorDisks;
  readonly regions: number;
  readonly regionBytes: number;
  readonly #init: SharedMirrorInit;

  constructor(init: SharedMirrorInit) {
    this.#init = init;
    this.name = init.name;
    this.disks = init.disks;
    this.regions = init.regions;
    this.regionBytes = init.regionSectors * SECTOR_BYTES;
  }

  get uuid(): string {
    return `LVM-${this.name}`;
  }

  get blocks(): number {
    return (this.regions * this.regionBytes) / BLOCK_BYTES;
  }

  get device(): string {
    return `/dev/mapper/${this.name}`;
  }

  regionOf(block: number): number {
    return Math.floor((block * BLOCK_BYTES) / this.regionBytes);
  }

  /** `other`: a table that names something else than the mirror's own. */
  table(machine: Machine, other: { regionSectors?: number; regions?: number } = {}): string {
    const { log } = this.disks;
    const regionSectors = other.regionSectors ?? this.#init.regionSectors;
    const parameters = [regionSectors, ...(this.#init.nosync === true ? ['nosync'] : [])];
    return mirrorTable({
      lengthSectors: (other.regions ?? this.regions) * this.#init.regionSectors,
      log: {
        kind: 'userspace',
        uuid: this.uuid,
        type: log === undefined ? 'clustered-core' : 'clustered-disk',
        args: log === undefined ? parameters : [this.#path(machine, 'log'), ...parameters],
      },
      legs: [this.#path(machine, 'leg0'), this.#path(machine, 'leg1')],
      features: ['handle_errors'],
    });
  }

  async create(machine: Machine): Promise<void> {
    if (this.#init.holdable === true) {
      for (const [part, below] of Object.entries(this.disks) as [Part, Disk][]) {
        const name = `${this.name}-${part}`;
        const { code } = await machine.run(`dmsetup info ${name}`, { check: false });
        if (code !== 0) await machine.dmCreate(name, `0 ${below.sectors} linear ${machine.device(below)} 0`);
      }
    }
    await machine.dmCreate(this.name, this.table(machine));
  }

  /** Exchanges the table for an equal one, in one step of the kernel. */
  async reload(machine: Machine): Promise<void> {
    await machine.dmReload(this.name, this.table(machine));
    await machine.dmResume(this.name);
  }

  /** I/O of this machine to this part waits until {@link letGo}. */
  hold(machine: Machine, part: Part): Promise<void> {
    return machine.dmSuspend(`${this.name}-${part}`, { noflush: true, nolockfs: true });
  }

  letGo(machine: Machine, part: Part): Promise<void> {
    return machine.dmResume(`${this.name}-${part}`);
  }

  /** Sectors written to the second leg and not to the first since the boot, in regions: what this machine has recovered; all else goes to both. Ask while nobody writes. */
  async recovered(machine: Machine): Promise<number> {
    const { leg0, leg1 } = this.disks;
    const files = [leg0, leg1].map((leg) => `/sys/block/${machine.device(leg).replace('/dev/', '')}/stat`);
    const lines = (await machine.run(`cat ${files.join(' ')}`)).stdout.trim().split('\n');
    const [first, second] = lines.map((line) => Number(line.trim().split(/\s+/)[6])) as [number, number];
    return ((second - first) * SECTOR_BYTES) / this.regionBytes;
  }

  /** Regions that are dirty on the image, ascending. */
  dirtyOnImage(): number[] {
    if (this.disks.log === undefined) throw new Error(`${this.name} has no image`);
    return dirtyRegions(readImageState(this.disks.log));
  }

  #path(machine: Machine, part: Part): string {
    if (this.#init.holdable === true) return `/dev/mapper/${this.name}-${part}`;
    return machine.device(this.disks[part] as Disk);
  }
}

/** Shared disks of the size `leg`, and the mirrors on them: one with a disk log, one with a core log. */
export function diskAndCore(
  leg: string,
  shape: Pick<SharedMirrorInit, 'regionSectors' | 'regions' | 'nosync'>,
) {
  const shared = (size: string) => disk(size, { shared: true });
  const disks = {
    disk0: shared(leg),
    disk1: shared(leg),
    core0: shared(leg),
    core1: shared(leg),
    log: shared('1M'),
  };
  const onDisk = { leg0: disks.disk0, leg1: disks.disk1, log: disks.log };
  const mirrors = [
    new SharedMirror({ ...shape, name: 'disk', disks: onDisk }),
    new SharedMirror({ ...shape, name: 'core', disks: { leg0: disks.core0, leg1: disks.core1 } }),
  ] as const;
  return { disks, mirrors };
}

/** A cluster whose machines run clusterd: what scenarios ask of it. */
export class Rig {
  readonly cluster: Cluster;
  readonly daemons = new Map<number, Clusterd>();
  readonly #daemonOptions: DaemonOptions;
  readonly #writers: Writer[] = [];
  readonly #program: string;

  private constructor(cluster: Cluster, daemonOptions: DaemonOptions, program: string) {
    this.cluster = cluster;
    this.#daemonOptions = daemonOptions;
    this.#program = program;
  }

  static async start(cluster: Cluster, daemonOptions: DaemonOptions = {}): Promise<Rig> {
    const rig = new Rig(cluster, daemonOptions, await guestProgram('block-writer'));
    await Promise.all(cluster.nodes.map(({ id }) => rig.startDaemon(id)));
    return rig;
  }

  machine(id: number): Machine {
    return this.cluster.node(id).machine;
  }

  async startDaemon(id: number): Promise<void> {
    this.daemons.set(id, await startClusterd(this.machine(id), this.#daemonOptions));
  }

  daemon(id: number): Clusterd {
    const daemon = this.daemons.get(id);
    if (daemon === undefined) throw new Error(`no clusterd was started on node ${id}`);
    return daemon;
  }

  /** Boots a dead machine; its clusterd serves and the ring is whole when this returns. */
  async revive(id: number): Promise<void> {
    await this.cluster.node(id).boot();
    await Promise.all([this.cluster.waitQuorate(), this.startDaemon(id)]);
  }

  /** The node's share in the mirror's log; undefined where it has none, or nobody answers. */
  async status(id: number, mirror: SharedMirror): Promise<ClusterLogStatus | undefined> {
    const { logs } = await this.daemon(id).peek();
    return logs.find(({ uuid }) => uuid === mirror.uuid)?.cluster;
  }

  /** Regions that this node's daemon knows to be dirty, ascending. */
  async dirty(id: number, mirror: SharedMirror): Promise<number[]> {
    const { clean } = await this.daemon(id).regions(mirror.uuid);
    expect(clean).toHaveLength(mirror.regions);
    return clean.flatMap((isClean, region) => (isClean === 0 ? [region] : []));
  }

  /** How many regions `of` has marked, as node `seenBy` knows it; undefined where it knows no such node. */
  async marks(seenBy: number, mirror: SharedMirror, of: number): Promise<number | undefined> {
    const status = await this.status(seenBy, mirror);
    return status?.members.find(({ nodeId }) => nodeId === of)?.marks;
  }

  /** Waits until these nodes and no others take part, as each of them sees it, with the lowest as the writer. */
  joined(ids: readonly number[], mirror: SharedMirror): Promise<ClusterLogStatus> {
    return this.#membersAre(ids, mirror, () => true);
  }

  /** The same, and until all have the same history: for when nobody writes. */
  agree(ids: readonly number[], mirror: SharedMirror): Promise<ClusterLogStatus> {
    return this.#membersAre(ids, mirror, (a, b) => a.position === b.position && a.digest === b.digest);
  }

  /** Returns what the first of them says. */
  async #membersAre(
    ids: readonly number[],
    mirror: SharedMirror,
    same: (a: ClusterLogStatus, b: ClusterLogStatus) => boolean,
  ): Promise<ClusterLogStatus> {
    let first: ClusterLogStatus | undefined;
    const views = async () => {
      const all = await Promise.all(ids.map((id) => this.status(id, mirror)));
      first = all[0];
      return all.map((view) => ({
        phase: view?.phase,
        quorate: view?.quorate,
        same: view !== undefined && first !== undefined && same(view, first),
        members: view?.members.map(({ nodeId, presence }) => `${nodeId} ${presence}`),
        writer: view?.writer,
      }));
    };
    const members = ids.map((id) => `${id} live`);
    const wanted = { phase: 'active', quorate: true, same: true, members, writer: Math.min(...ids) };
    await expect.poll(views, WAIT).toEqual(ids.map(() => wanted));
    return first as ClusterLogStatus;
  }

  /** Waits until nothing is in doubt, marked or out of sync, as each of these nodes sees it. */
  async settled(ids: readonly number[], mirror: SharedMirror): Promise<void> {
    for (const id of ids) {
      await this.machine(id).waitInSync(mirror.name);
      const view = async () => {
        const status = await this.status(id, mirror);
        return [
          status?.needReload.length,
          status?.staleCount,
          ...(status?.members.map(({ marks }) => marks) ?? []),
        ];
      };
      await expect.poll(async () => (await view()).every((count) => count === 0), WAIT).toBe(true);
    }
  }

  async recovered(ids: readonly number[], mirror: SharedMirror): Promise<number> {
    const shares = await Promise.all(ids.map((id) => mirror.recovered(this.machine(id))));
    return shares.reduce((sum, share) => sum + share, 0);
  }

  /** Begins to write on a node: `share` says where. Without `writes` until it is ended. */
  async write(id: number, mirror: SharedMirror, share: Share, writes = 0): Promise<Writer> {
    const first = 1 + this.#writers.reduce((highest, writer) => Math.max(highest, writer.reached), 0);
    const init = { mirror: mirror.name, device: mirror.device, nodeId: id, first, share, writes };
    const writer = await Writer.start(this.machine(id), this.#program, init);
    this.#writers.push(writer);
    return writer;
  }

  /** Blocks of the mirror that do not hold the last write that was acknowledged, or a later one that was under way when its machine died: none, or the log has lied. */
  lostWrites(mirror: SharedMirror): string[] {
    const leg = mirror.disks.leg0.read();
    const writers = this.#writers.filter((writer) => writer.mirror === mirror.name);
    const newest = new Map<number, string[]>();
    for (const writer of writers) writer.note(newest);
    return [...newest].flatMap(([block, allowed]) => {
      const bytes = leg.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
      return allowed.some((text) => holds(bytes, text))
        ? []
        : [`block ${block}: not ${allowed.join(' or ')}`];
    });
  }
}

/** Whether all of the block was written by one write, which this text names. */
export function holds(bytes: Buffer, text: string): boolean {
  return bytes.equals(Buffer.alloc(BLOCK_BYTES, text.padEnd(64, '.')));
}

export async function ended(process: GuestProcess): Promise<void> {
  expect(await process.exited, process.output()).toBe(0);
}

/** Says how long a step took: for the reader of the output, never judged. */
export async function timed<T>(what: string, step: Promise<T>): Promise<T> {
  const start = performance.now();
  const value = await step;
  console.log(`${what}: ${(performance.now() - start).toFixed(0)} ms`);
  return value;
}

/** What a kernel says when its log or a leg has failed (drivers/md/dm-raid1.c). */
export const KERNEL_ERRORS = /I\/O error|Insufficient space|mirror device failed|mirror log has failed/i;
/** The same, and when its log was silent for 15 s (drivers/md/dm-log-userspace-transfer.c). */
export const KERNEL_COMPLAINTS = new RegExp(`Request timed out|${KERNEL_ERRORS.source}`, 'i');
