import { type FrameView, type UuidKey, uuidKey } from '@dmlog/protocol';

/** Logs on one machine at most: far more than device-mapper devices that a machine has. */
export const LOGS_MAX = 65_536;

/** Names a log on this machine: the uuid is the same on every machine, the luid (a kernel pointer) tells two tables of one uuid apart. */
export interface LogName {
  readonly uuid: string;
  readonly luidLow: number;
  readonly luidHigh: number;
}

interface Slot<T> {
  readonly name: LogName;
  readonly key: UuidKey;
  readonly log: T;
  next: Slot<T> | null;
}

const BUCKETS_MIN = 16;

/**
 * The logs of this machine by luid and uuid. Looked up for every request: no string is made, and the log asked last is found first.
 * Only uuid and luid together name a log: while tables are exchanged two logs have one uuid, and a luid recurs after its log is gone.
 */
export class LogRegistry<T> {
  #buckets: (Slot<T> | null)[] = new Array(BUCKETS_MIN).fill(null);
  #size = 0;
  #last: Slot<T> | null = null;

  get size(): number {
    return this.#size;
  }

  /** The log that the request in `view` names, or null. */
  find(view: FrameView): T | null {
    const last = this.#last;
    if (last !== null && matches(last, view)) return last.log;
    let slot = this.#buckets[this.#bucket(view.luidLow)] as Slot<T> | null;
    while (slot !== null && !matches(slot, view)) slot = slot.next;
    if (slot === null) return null;
    this.#last = slot;
    return slot.log;
  }

  get(name: LogName): T | null {
    return this.#slot(name)?.log ?? null;
  }

  /** Adds a log. One of the same name is replaced and returned. Throws RangeError past {@link LOGS_MAX}. */
  add(name: LogName, log: T): T | null {
    const replaced = this.remove(name);
    if (this.#size >= LOGS_MAX) throw new RangeError(`more than ${LOGS_MAX} logs`);
    if (this.#size >= this.#buckets.length) this.#grow();
    const key = uuidKey(Uint8Array.from(name.uuid, (character) => character.charCodeAt(0)));
    const bucket = this.#bucket(name.luidLow);
    this.#buckets[bucket] = { name, key, log, next: this.#buckets[bucket] as Slot<T> | null };
    this.#size++;
    return replaced;
  }

  /** Takes a log out; returns it, or null when there is none. */
  remove(name: LogName): T | null {
    const slot = this.#slot(name);
    if (slot === null) return null;
    const bucket = this.#bucket(name.luidLow);
    let before = this.#buckets[bucket] as Slot<T>;
    if (before === slot) {
      this.#buckets[bucket] = slot.next;
    } else {
      while (before.next !== slot) before = before.next as Slot<T>;
      before.next = slot.next;
    }
    if (this.#last === slot) this.#last = null;
    this.#size--;
    return slot.log;
  }

  /** All logs of one uuid: the live table's and the inactive one's. */
  withUuid(uuid: string): T[] {
    return [...this.entries()].filter(([name]) => name.uuid === uuid).map(([, log]) => log);
  }

  *entries(): IterableIterator<[LogName, T]> {
    for (let slot of this.#buckets) {
      for (; slot !== null; slot = slot.next) yield [slot.name, slot.log];
    }
  }

  #slot(name: LogName): Slot<T> | null {
    let slot = this.#buckets[this.#bucket(name.luidLow)] as Slot<T> | null;
    while (slot !== null && !sameName(slot.name, name)) slot = slot.next;
    return slot;
  }

  /** Kernel pointers of one slab differ in the middle bits: fold the upper ones down (Fibonacci hashing, 2^32 / golden ratio). */
  #bucket(luidLow: number): number {
    const mixed = Math.imul(luidLow, 0x9e3779b1);
    return (mixed ^ (mixed >>> 15)) & (this.#buckets.length - 1);
  }

  #grow(): void {
    const slots = this.#buckets;
    this.#buckets = new Array(slots.length * 2).fill(null);
    for (let slot of slots) {
      while (slot !== null) {
        const next: Slot<T> | null = slot.next;
        const bucket = this.#bucket(slot.name.luidLow);
        slot.next = this.#buckets[bucket] as Slot<T> | null;
        this.#buckets[bucket] = slot;
        slot = next;
      }
    }
  }
}

function matches<T>(slot: Slot<T>, view: FrameView): boolean {
  return (
    slot.name.luidLow === view.luidLow && slot.name.luidHigh === view.luidHigh && view.uuidEquals(slot.key)
  );
}

function sameName(a: LogName, b: LogName): boolean {
  return a.luidLow === b.luidLow && a.luidHigh === b.luidHigh && a.uuid === b.uuid;
}
