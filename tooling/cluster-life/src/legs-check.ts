import type { View } from './daemon-types.js';
import type { Machine } from './machine.js';
import { isCleanOn, type Mirror } from './mirror.js';

/**
 * Where legs differ, somebody who survives or the image must know. Daemons are other processes and are seen one after the other: a region counts as
 * unknown when it was so in two looks in a row, with the same data on the legs all the time.
 */
export class LegsCheck {
  /** Regions whose legs differed and of which was asked who knows. */
  checked = 0;
  readonly #mirror: Mirror;
  /** Unknown regions of the last look, and what the legs had. */
  #suspects = new Map<number, string>();

  constructor(mirror: Mirror) {
    this.#mirror = mirror;
  }

  /** Before the daemons are looked at. */
  begin(): Map<number, string> {
    return this.#mirror.differing();
  }

  /** After all were looked at. Throws where nobody knows. */
  end(before: ReadonlyMap<number, string>, machines: readonly Machine[]): void {
    const { uuid } = this.#mirror;
    const viewOf = (machine: Machine): View | null => machine.views.get(uuid) ?? null;
    const active = machines.filter((machine) => viewOf(machine)?.phase === 'active');
    const newest = Math.max(...active.map((machine) => viewOf(machine)?.agreedRing?.seq ?? 0));
    const authorities = active.filter((machine) => viewOf(machine)?.agreedRing?.seq === newest);
    if (authorities.length === 0) {
      this.#suspects.clear();
      return;
    }
    const image = this.#mirror.readImage();
    const suspects = new Map<number, string>();
    for (const [region, values] of before) {
      if (this.#mirror.valuesOf(region) !== values) continue;
      this.checked++;
      if (authorities.some((machine) => viewOf(machine)?.dirty.includes(region) === true)) continue;
      if (image !== null && !isCleanOn(image, region)) continue;
      if (machines.some((machine) => !authorities.includes(machine) && this.#mayKnow(machine, region)))
        continue;
      if (this.#suspects.get(region) === values) {
        throw new Error(
          `${uuid}: region ${region} differs between the legs (${values}), and nobody knows\n${this.#mirror.historyOf(region)}`,
        );
      }
      suspects.set(region, values);
    }
    this.#suspects = suspects;
  }

  /** A node that is out of touch may be writing: it brings that along when it comes back. */
  #mayKnow(machine: Machine, region: number): boolean {
    const { kernel, state } = machine.tableOf(this.#mirror);
    if (state === 'live' && kernel.opinion(region) !== null) return true;
    return machine.views.get(this.#mirror.uuid)?.dirty.includes(region) === true;
  }
}
