import type { Member } from '@dmlog/cluster';
import type { Coverage } from './coverage.js';
import { SimulationFailure } from './failure.js';
import type { Legs } from './legs.js';
import type { Machine } from './machine.js';

/** A machine has written a region, or its bit on the image, after the others had taken it for dead. */
interface LateWriter {
  readonly machine: Machine;
  /** The others' position when they knew of it again; −1 before. */
  backAt: number;
}

/**
 * Machines that the group has taken for dead (design rule 19) and that live: cut off, without an engine, or standing still for too long. Nobody fences them: what their kernel was
 * allowed to write before, it may still be writing, and what it reads nobody can keep it from. The others cannot know of that before the machine is back. What is
 * promised is what is checked:
 *
 * - what it may still be writing was dirty for the others when they went on without it: it was let go before, by their leave;
 * - the machine itself knows, so it does not die before it is back (the faults see to that), nor with data under way;
 * - from when it is back, what it has written is dirty for all, and on the image as soon as that was written once; until it is recovered, the legs may return what is older;
 * - what is on the first leg is never lost: in the end the legs are equal and hold nothing old.
 */
export class Outcasts {
  readonly #membersOf: (machine: Machine) => readonly Member[];
  readonly #machines: () => readonly Machine[];
  readonly #legs: Legs;
  readonly #hasImage: boolean;
  readonly #coverage: Coverage;
  readonly #late = new Map<number, LateWriter[]>();
  /** What the others knew as clean when they went on without the machine. */
  readonly #cleanAtParting = new Map<Machine, ReadonlySet<number>>();
  /** Machines that are back, and where, until that is on the image. */
  readonly #backAt = new Map<Machine, number>();
  #lastRing: Ring | null = null;

  constructor(
    legs: Legs,
    hasImage: boolean,
    coverage: Coverage,
    machines: () => readonly Machine[],
    membersOf: (machine: Machine) => readonly Member[],
  ) {
    this.#legs = legs;
    this.#hasImage = hasImage;
    this.#coverage = coverage;
    this.#machines = machines;
    this.#membersOf = membersOf;
  }

  /** The others go on without this machine, or some of them still do. */
  isOut(machine: Machine): boolean {
    for (const { self, state } of this.#newest()) {
      if (self.nodeId === machine.nodeId) continue;
      const known = state?.nodes.get(machine.nodeId);
      if (known === undefined || known.bootId !== machine.bootId || known.returning) return true;
    }
    return false;
  }

  /** To be called after every step: notes who was left behind. */
  afterStep(): void {
    this.#forgetThoseWhoAreBack();
    const [newest] = this.#newest();
    if (newest === undefined) {
      this.#lastRing = null;
      return;
    }
    if (this.#lastRing !== null && compare(newest.agreedRing, this.#lastRing) === 0) return;
    this.#lastRing = newest.agreedRing;
    for (const machine of this.#machines()) {
      if (!this.isOut(machine)) continue;
      if (!this.#cleanAtParting.has(machine)) this.#cleanAtParting.set(machine, cleanOf(newest));
    }
  }

  /** Who is back may write as before until what it brought along is on the image. */
  #forgetThoseWhoAreBack(): void {
    for (const machine of this.#cleanAtParting.keys()) {
      if (this.isOut(machine)) {
        this.#backAt.delete(machine);
        continue;
      }
      const backAt = this.#backAt.get(machine) ?? this.#position();
      this.#backAt.set(machine, backAt);
      if (!this.#areHeeded([{ machine, backAt }])) continue;
      this.#backAt.delete(machine);
      this.#cleanAtParting.delete(machine);
    }
  }

  #position(): number {
    return Math.max(0, ...this.#newest().map(({ state }) => state?.position ?? 0));
  }

  /** Data of the machine has reached a leg. */
  wrote(machine: Machine, region: number): void {
    if (!this.isOut(machine)) {
      if (this.#backAt.has(machine)) this.#note(machine, region);
      return;
    }
    if (this.#cleanAtParting.get(machine)?.has(region) === true) {
      const what = `region ${region} is written by a node that the others have taken for dead, and they did not know that it might be`;
      throw new SimulationFailure('I1', what, { node: machine.nodeId, region });
    }
    this.#coverage.saw('data of a node taken for dead reached a leg');
    this.#note(machine, region);
  }

  /** The machine has written this block of the image. */
  wroteImage(machine: Machine, regions: { readonly from: number; readonly to: number }): void {
    if (!this.isOut(machine)) return;
    this.#coverage.saw('image written by a node taken for dead');
    for (let region = regions.from; region < regions.to; region++) this.#note(machine, region);
  }

  #note(machine: Machine, region: number): void {
    const writers = this.#late.get(region) ?? [];
    this.#late.set(region, writers);
    const known = writers.find((one) => one.machine === machine);
    if (known === undefined) writers.push({ machine, backAt: -1 });
    else known.backAt = -1;
  }

  /** The legs may differ in the region, and the others need not know that yet. */
  mayBeUnknown(region: number): boolean {
    const late = this.#lateIn(region);
    return late.length > 0 && !this.#areHeeded(late);
  }

  /** Late writers are back, and what they did is on the image. */
  #areHeeded(late: readonly LateWriter[]): boolean {
    const written = this.#hasImage
      ? Math.max(0, ...this.#newest().map(({ disk }) => disk.marks))
      : Number.POSITIVE_INFINITY;
    return late.every(({ backAt }) => backAt >= 0 && written >= backAt);
  }

  /** Old data may be read from a leg of the region. */
  mayBeOld(region: number): boolean {
    return this.#lateIn(region).length > 0 && this.#legs.differ(region);
  }

  /** What the machine alone knows would be lost with it. */
  mayDie(machine: Machine): boolean {
    const writes = machine.writesLegs || machine.daemon?.writesImage === true;
    if (writes && this.isOut(machine)) return false;
    for (const region of this.#late.keys())
      if (this.#lateIn(region).some((one) => one.machine === machine)) return false;
    return true;
  }

  /** Late writers of a region whose data the others have not made good. */
  #lateIn(region: number): readonly LateWriter[] {
    const writers = this.#late.get(region);
    if (writers === undefined) return [];
    for (const one of writers) {
      if (one.backAt >= 0 || this.isOut(one.machine)) continue;
      one.backAt = this.#position();
    }
    if (!this.#legs.suspects.has(region) && this.#areHeeded(writers)) {
      this.#late.delete(region);
      return [];
    }
    return writers;
  }

  /** Members of the ring that was agreed on last. */
  #newest(): readonly Member[] {
    let newest: Member[] = [];
    for (const machine of this.#machines()) {
      for (const member of this.#membersOf(machine)) {
        if (member.state === null || member.phase === 'joining') continue;
        const [one] = newest;
        const newer = one === undefined ? 1 : compare(member.agreedRing, one.agreedRing);
        if (newer > 0) newest = [member];
        else if (newer === 0) newest.push(member);
      }
    }
    return newest;
  }
}

type Ring = Member['agreedRing'];

function compare(a: Ring, b: Ring): number {
  return a.seq - b.seq || a.nodeId - b.nodeId;
}

function cleanOf({ state }: Member): ReadonlySet<number> {
  const clean = new Set<number>();
  for (let region = 0; region < (state?.regionCount ?? 0); region++)
    if (state?.clean.get(region) === true) clean.add(region);
  return clean;
}
