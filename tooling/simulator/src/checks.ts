import { ClusteredLog, type Member, Presence, type Replica } from '@dmlog/cluster';
import { CoreLog, type DirtyLog } from '@dmlog/log';
import type { Coverage } from './coverage.js';
import { SimulationFailure } from './failure.js';
import { BLOCKS, type Legs } from './legs.js';
import type { LogDisk } from './log-disk.js';
import type { Machine } from './machine.js';
import { Outcasts } from './outcasts.js';
import type { Parameters } from './parameters.js';
import type { Random } from './random.js';

/** What a member said of its state when it was looked at last. */
interface Stated {
  readonly ringSeq: number;
  readonly ringNode: number;
  readonly high: number;
  readonly low: number;
  readonly nodeId: number;
  /** Of the ring's. */
  readonly life: number;
}

/** How often all members have left a ring, and when one was last seen in it. */
interface RingLife {
  number: number;
  lookedAt: number;
}

/** So many positions are remembered, for members that come to them later. */
const POSITIONS_MAX = 4096;

const NO_LOGS: readonly DirtyLog[] = [];
const NO_MEMBERS: readonly Member[] = [];

/** The invariants that hold after every step; each throws a {@link SimulationFailure}. */
export class Checks {
  readonly #parameters: Parameters;
  readonly #machines: readonly Machine[];
  readonly #legs: Legs;
  readonly #disk: LogDisk | null;
  readonly #coverage: Coverage;
  /** Null on one machine. */
  readonly outcasts: Outcasts | null;
  #legsVersion = -1;
  #diskVersion = -1;
  readonly #stated = new Map<number, Stated>();
  /** By ring in which members took part. */
  readonly #lives = new Map<number, RingLife>();
  /** Looks at what members say. */
  #looks = 0;
  readonly #positions = new WeakMap<Member, number>();
  /** By node: its replicas, as long as its logs are these. */
  readonly #replicas: { logs: readonly DirtyLog[]; replicas: readonly Replica[] }[] = [];
  readonly #alone = new WeakMap<Member, readonly Member[]>();
  /** Rings in which somebody took part at the last look. */
  #ringCount = 0;
  #changedSinceDirty = true;

  constructor(
    parameters: Parameters,
    machines: readonly Machine[],
    legs: Legs,
    disk: LogDisk | null,
    coverage: Coverage,
  ) {
    this.#parameters = parameters;
    this.#machines = machines;
    this.#legs = legs;
    this.#disk = disk;
    this.#coverage = coverage;
    const membersOf = (machine: Machine) => this.#membersOf(machine);
    this.outcasts = parameters.clustered
      ? new Outcasts(legs, disk !== null, coverage, () => machines, membersOf)
      : null;
  }

  /** `happened`: something did; else only time went on. */
  afterStep(step: number, random: Random, happened: boolean): void {
    const { clustered, regionCount } = this.#parameters;
    const disk = this.#disk;
    const changed =
      this.#legs.version !== this.#legsVersion || (disk !== null && disk.version !== this.#diskVersion);
    if (disk !== null && changed) this.#dirtyOnDisk(disk);
    this.#changedSinceDirty ||= happened;
    if (disk === null && (changed || ((step & 3) === 0 && this.#changedSinceDirty))) {
      this.#changedSinceDirty = false;
      this.#dirtyInMemory();
    }
    if (clustered && happened) {
      this.outcasts?.afterStep();
      this.#membersAgree();
    }
    if (this.#ringCount > 1) this.#coverage.saw('two rings at once');
    if ((step & 7) === 0) this.#peek(random);
    if ((step & (regionCount > 256 ? 511 : 31)) === 0) this.stateMachines();
    this.#legsVersion = this.#legs.version;
    this.#diskVersion = disk?.version ?? 0;
  }

  /** Logs that this machine's daemon serves. */
  logsOf({ daemon }: Machine): readonly DirtyLog[] {
    return daemon?.servedLogs ?? NO_LOGS;
  }

  replicasOf(machine: Machine): readonly Replica[] {
    const logs = this.logsOf(machine);
    const known = this.#replicas[machine.nodeId];
    if (known?.logs === logs) return known.replicas;
    const replicas = [...new Set(logs.flatMap((log) => (log instanceof ClusteredLog ? [log.replica] : [])))];
    this.#replicas[machine.nodeId] = { logs, replicas };
    return replicas;
  }

  /** Asked for after each step: mostly there is one, and a list of it was made already. */
  #membersOf(machine: Machine): readonly Member[] {
    const [replica, another] = this.replicasOf(machine);
    if (another !== undefined)
      return this.replicasOf(machine).flatMap(({ member }) => (member === null ? [] : [member]));
    const member = replica?.member ?? null;
    if (member === null) return NO_MEMBERS;
    const known = this.#alone.get(member);
    if (known !== undefined) return known;
    const list = [member];
    this.#alone.set(member, list);
    return list;
  }

  /** Can put changes in order and answer. */
  isOperational(machine: Machine): boolean {
    return this.replicasOf(machine).some(({ operational, mirror }) => operational && mirror === 'live');
  }

  /** Whenever legs differ in a region, or could after a cut of the power, it is dirty on the medium. */
  #dirtyOnDisk(disk: LogDisk): void {
    for (const region of this.#legs.suspects) {
      if (!disk.isClean(region) || this.outcasts?.mayBeUnknown(region)) continue;
      const how = this.#legs.differ(region) ? 'differs between the legs' : 'may be lost on one leg';
      throw new SimulationFailure('I1', `region ${region} ${how}, and is clean on the log device`, {
        region,
      });
    }
  }

  /** … dirty for somebody who survives: a core log has nothing else. */
  #dirtyInMemory(): void {
    const { suspects } = this.#legs;
    if (suspects.size === 0) return;
    const knows = this.#parameters.clustered ? this.#membersThatKnow() : this.#localLog();
    if (knows === null) return;
    for (const region of suspects) {
      if (!this.#legs.differ(region) || knows(region) || this.outcasts?.mayBeUnknown(region)) continue;
      const what = `region ${region} differs between the legs, and nobody knows${this.#whatMembersSay(region)}`;
      throw new SimulationFailure('I1', what, { region });
    }
  }

  #whatMembersSay(region: number): string {
    const said = this.#machines.flatMap((machine) =>
      this.replicasOf(machine).map(({ member, mirror }) => {
        if (member === null) return `node ${machine.nodeId} is in no group`;
        const { phase, agreedRing, quorate, state } = member;
        const bit = state === null ? 'without state' : state.clean.get(region) ? 'clean' : 'dirty';
        return `node ${machine.nodeId} ${phase} ${mirror} agreed on ring ${agreedRing.nodeId}.${agreedRing.seq} ${quorate ? 'quorate ' : ''}at ${state?.position}: ${bit}`;
      }),
    );
    return said.length === 0 ? '' : ` (${said.join('; ')})`;
  }

  #localLog(): ((region: number) => boolean) | null {
    const log = this.logsOf(this.#machines[0] as Machine).findLast(({ state }) => state === 'live');
    return log instanceof CoreLog ? (region) => !log.isClean(region) : null;
  }

  #membersThatKnow(): ((region: number) => boolean) | null {
    let newest = 0;
    const members: Member[] = [];
    for (const machine of this.#machines) {
      for (const { member } of this.replicasOf(machine)) {
        // One that speaks with others about whose state to take still has its own.
        if (member === null || member.state === null || member.phase === 'joining') continue;
        newest = Math.max(newest, member.agreedRing.seq);
        members.push(member);
      }
    }
    const authorities = members.filter(({ agreedRing }) => agreedRing.seq === newest);
    if (authorities.length === 0) return null;
    // Whoever alone knows a mark may die with it: where several take part, a second one knows.
    const needed = authorities.filter(({ operational }) => operational).length > 1 ? 2 : 1;
    return (region) =>
      authorities.filter(({ state }) => state?.clean.get(region) === false).length >= needed ||
      // A node that is cut off brings its own marks along when it is back (design rule 19).
      members.some(
        (member) =>
          !authorities.includes(member) &&
          member.state?.nodes.get(member.self.nodeId)?.marks.get(region) === true,
      );
  }

  /** I2 */
  #membersAgree(): void {
    let rings = 0;
    let lastRing = -1;
    this.#looks++;
    for (const machine of this.#machines) {
      for (const { member, state } of this.replicasOf(machine)) {
        if (member === null || state === null || member.phase !== 'active') continue;
        const { agreedRing } = member;
        const ring = agreedRing.seq * 16 + agreedRing.nodeId;
        if (ring !== lastRing) rings++;
        lastRing = ring;
        const life = this.#lifeOf(ring);
        const { position, hash } = state;
        if (this.#positions.get(member) === position) continue;
        this.#positions.set(member, position);
        const said: Stated = {
          ringSeq: agreedRing.seq,
          ringNode: agreedRing.nodeId,
          high: hash.high,
          low: hash.low,
          nodeId: machine.nodeId,
          life,
        };
        const other = this.#stated.get(position);
        this.#stated.set(position, said);
        this.#stated.delete(position - POSITIONS_MAX);
        if (other === undefined || other.ringSeq !== said.ringSeq || other.ringNode !== said.ringNode)
          continue;
        if (other.life !== life) continue;
        if (other.high === said.high && other.low === said.low) continue;
        if (!areInWholeRing(agreedRing, machine, other.nodeId)) continue;
        throw new SimulationFailure(
          'I2',
          `nodes ${other.nodeId} and ${machine.nodeId} differ at position ${position} of ring ${agreedRing.nodeId}.${agreedRing.seq}`,
          { node: machine.nodeId },
        );
      }
    }
    if (rings === 0) {
      this.#stated.clear();
      this.#lives.clear();
    }
    this.#ringCount = rings;
  }

  /** Where nobody takes part any more, whoever comes next begins a history of its own: in the same ring, too, and while one that stands still has not heard of it. */
  #lifeOf(ring: number): number {
    const life = this.#lives.get(ring);
    if (life === undefined) {
      this.#lives.set(ring, { number: 0, lookedAt: this.#looks });
      return 0;
    }
    if (life.lookedAt < this.#looks - 1) life.number++;
    life.lookedAt = this.#looks;
    return life.number;
  }

  /** I4, of reads that nobody makes: what would one return now? */
  #peek(random: Random): void {
    const legs = this.#legs;
    const region = random.pick(this.#parameters.hotRegions);
    if (legs.busy.has(region) || legs.failed[0] || legs.failed[1]) return;
    for (const machine of this.#machines) {
      const { live, suspended } = machine.kernel;
      if (live === null || suspended || live.legFailure) continue;
      const anyLeg = live.opinion(region) ?? this.#wouldSayInSync(machine, region);
      if (anyLeg === null) continue;
      for (const leg of anyLeg ? [0, 1] : [live.defaultLeg]) {
        for (let block = region * BLOCKS; block < (region + 1) * BLOCKS; block++) {
          const floor = legs.acknowledged[block] as number;
          if (legs.read(leg, block) >= floor || this.mayReadOld(machine, region)) continue;
          const what = `a read of region ${region} from leg ${leg} would return write ${legs.read(leg, block)}, but ${floor} was acknowledged`;
          throw new SimulationFailure('I4', what, { node: machine.nodeId, region });
        }
      }
    }
  }

  /** What the machine reads of the region is nobody's promise: see {@link Outcasts}. */
  mayReadOld(machine: Machine, region: number): boolean {
    return this.outcasts !== null && (this.outcasts.isOut(machine) || this.outcasts.mayBeOld(region));
  }

  #wouldSayInSync(machine: Machine, region: number): boolean | null {
    for (const replica of this.replicasOf(machine)) {
      if (replica.operational && replica.mirror === 'live') return replica.isInSync(region);
    }
    return null;
  }

  stateMachines(): void {
    for (const machine of this.#machines) {
      for (const log of this.logsOf(machine)) {
        try {
          log.checkInvariants();
        } catch (cause) {
          const message = cause instanceof Error ? cause.message : String(cause);
          throw new SimulationFailure('state', message, { node: machine.nodeId }, { cause });
        }
      }
    }
  }

  /** What keeps a run from its end, or null. */
  unfinished(): string | null {
    const { clustered } = this.#parameters;
    for (const machine of this.#machines) {
      const { kernel, nodeId } = machine;
      if (machine.off) continue;
      const about = `node ${nodeId}`;
      if (kernel.live === null || kernel.suspended) return `${about}: its mirror is not live`;
      if (!machine.isQuiet) return `${about}: not quiet (${kernel.describe()})`;
      const log = this.logsOf(machine).find(({ state }) => state === 'live');
      if (log === undefined) return `${about}: its daemon serves no live log`;
      const { inSyncCount, regionCount } = log.summary();
      if (inSyncCount !== regionCount)
        return `${about}: ${inSyncCount} of ${regionCount} regions are in sync`;
      if (kernel.live.logFailure || kernel.live.legFailure) return `${about}: its kernel remembers a failure`;
    }
    if (!this.#legs.areEqual) return 'the legs differ';
    return clustered ? this.#clusterUnfinished() : null;
  }

  #clusterUnfinished(): string | null {
    const positions = new Set<number>();
    for (const machine of this.#machines) {
      if (machine.off) continue;
      const [replica] = this.replicasOf(machine).filter(({ mirror }) => mirror === 'live');
      const { state } = replica ?? {};
      if (state == null) return `node ${machine.nodeId} does not take part`;
      if (state.needReload.size > 0) return `nodes ${[...state.needReload]} have to be reloaded`;
      const absent = [...state.nodes.values()].filter(({ presence }) => presence !== Presence.LIVE);
      if (absent.length > 0) return `node ${absent[0]?.nodeId} is not live for node ${machine.nodeId}`;
      positions.add(state.position);
    }
    return positions.size > 1 ? `members are at positions ${[...positions]}` : null;
  }
}

/** Who is in a ring that falls apart may have heard what nobody else did: the group promises one order to those who stay together only. */
function areInWholeRing(
  ring: Member['agreedRing'],
  { nodeId, around }: Machine,
  otherNodeId: number,
): boolean {
  return [nodeId, otherNodeId].every((one) => {
    const now = around.network?.wholeRingOf(one);
    return now?.seq === ring.seq && now.nodeId === ring.nodeId;
  });
}
