/**
 * Judges a trace of a mirror's three disks: at no moment may the power go and a region be clean on the log while its legs may differ.
 *
 * Each disk has a volatile write cache of the worst kind. A write *may* be on media from its arrival on, and *surely* is when it has
 * ended with FUA, or when a flush has ended that arrived after the write had ended. Until then a power cut may keep it or lose it, whatever it does to
 * others. So after every single event of the trace, which is every moment that anybody could tell from another:
 *
 * - A region *may be clean* when its bit is 1 in any version of its log sector that may be on media: the last sure one, and every later or overlapping
 *   one. A mark counts only once it is sure; a clear counts as soon as it has arrived.
 * - Its legs *may differ* when a leg holds a write to it that is not sure (the leg may have it and the other not, or the other way round), or
 *   when what was last written to the two legs differs in any sector.
 *
 * Both at once is a violation. That covers all power cuts at all moments with all outcomes of all three caches, not samples of them. The header of
 * the log is taken as present throughout, which is stricter than what a reader of the log would do.
 */
import type { TracedDisk, TracedRequest, TraceEvent } from './order-trace.js';

export interface WriteOrderShape {
  readonly regionSectors: number;
  readonly regionCount: number;
}

export interface Violation {
  /** Index of the event in the trace. */
  readonly event: number;
  readonly region: number;
  /** The event that made it: a leg's write that came before its mark was sure, a clear that came before the legs were, or anything else. */
  readonly by: 'leg write' | 'log write' | 'other';
  readonly text: string;
}

export interface WriteOrderReport {
  /** Moments at which every region was judged. */
  readonly moments: number;
  /** Each region that became possibly clean and possibly different, once per time. */
  readonly violations: readonly Violation[];
  /** Times that a region which may have been clean became surely dirty. */
  readonly marks: number;
  /** Times that a surely dirty region became possibly clean. */
  readonly clears: number;
  /** First leg writes to a region after it was marked: those for which the mark had to be on media in time. */
  readonly coldWrites: number;
  readonly writes: Readonly<Record<TracedDisk, number>>;
  readonly flushes: Readonly<Record<TracedDisk, number>>;
}

const SECTOR_BYTES = 512;
const TAG_DIGITS = 16;
/** Where the bitmap begins (drivers/md/dm-log.c, LOG_OFFSET). */
const BITMAP_SECTOR = 2;
const REGIONS_PER_SECTOR = 8 * SECTOR_BYTES;

/** A write as its disk's cache holds it. Times are indices of events. */
interface CachedWrite {
  readonly request: TracedRequest;
  readonly arrived: number;
  ended: number;
}

/** Which writes of one disk are on media for sure, and which are not yet. */
class VolatileCache {
  readonly #unsure = new Set<CachedWrite>();
  readonly #open = new Map<number, CachedWrite>();
  readonly #onSure: (write: CachedWrite) => void;

  constructor(onSure: (write: CachedWrite) => void) {
    this.#onSure = onSure;
  }

  arrive(request: TracedRequest, now: number): CachedWrite {
    const write = { request, arrived: now, ended: Number.POSITIVE_INFINITY };
    this.#open.set(request.id, write);
    if (request.kind === 'write') this.#unsure.add(write);
    return write;
  }

  end(request: TracedRequest, now: number): void {
    const cached = this.#open.get(request.id)!;
    this.#open.delete(request.id);
    cached.ended = now;
    const covers = (write: CachedWrite) =>
      request.kind === 'flush' ? write.ended < cached.arrived : write === cached && request.fua;
    for (const write of this.#unsure) {
      if (!covers(write)) continue;
      this.#unsure.delete(write);
      this.#onSure(write);
    }
  }
}

/** What the log's bits may be on media. */
class PossibleLog {
  readonly #versions: { readonly bits: Buffer; readonly write: CachedWrite }[][];
  readonly cache = new VolatileCache((write) => this.#sure(write));

  constructor(regionCount: number) {
    const blank = { arrived: -1, ended: -1 } as CachedWrite;
    this.#versions = Array.from({ length: Math.ceil(regionCount / REGIONS_PER_SECTOR) }, () => [
      { bits: Buffer.alloc(SECTOR_BYTES), write: blank },
    ]);
  }

  arrive(request: TracedRequest, now: number): void {
    const write = this.cache.arrive(request, now);
    const bytes = Buffer.from(request.data, 'hex');
    for (let index = 0; index < request.sectors; index++) {
      const bits = bytes.subarray(index * SECTOR_BYTES, (index + 1) * SECTOR_BYTES);
      this.#versions[request.sector + index - BITMAP_SECTOR]?.push({ bits, write });
    }
  }

  mayBeClean(region: number): boolean {
    const at = region % REGIONS_PER_SECTOR;
    const versions = this.#versions[Math.floor(region / REGIONS_PER_SECTOR)]!;
    return versions.some(({ bits }) => ((bits[at >> 3]! >> (at & 7)) & 1) === 1);
  }

  /** A version that is on media replaces all that had ended before it arrived. */
  #sure(write: CachedWrite): void {
    const { sector, sectors } = write.request;
    for (let index = sector; index < sector + sectors; index++) {
      const at = index - BITMAP_SECTOR;
      const versions = this.#versions[at];
      if (versions === undefined) continue;
      this.#versions[at] = versions.filter((version) => version.write.ended >= write.arrived);
    }
  }
}

/** What is known of the two legs, region by region. */
class Legs {
  readonly #shape: WriteOrderShape;
  readonly #tags: Record<'leg0' | 'leg1', string[]> = { leg0: [], leg1: [] };
  readonly #unsure: Record<'leg0' | 'leg1', Int32Array>;
  readonly #differing: Int32Array;
  readonly caches: Record<'leg0' | 'leg1', VolatileCache>;

  constructor(shape: WriteOrderShape) {
    this.#shape = shape;
    const cacheOf = (leg: 'leg0' | 'leg1') =>
      new VolatileCache(({ request }) => this.#count(leg, request, -1));
    this.#unsure = { leg0: new Int32Array(shape.regionCount), leg1: new Int32Array(shape.regionCount) };
    this.#differing = new Int32Array(shape.regionCount);
    this.caches = { leg0: cacheOf('leg0'), leg1: cacheOf('leg1') };
  }

  arrive(leg: 'leg0' | 'leg1', request: TracedRequest, now: number): void {
    this.caches[leg].arrive(request, now);
    if (request.kind === 'write') this.#count(leg, request, 1);
  }

  end(leg: 'leg0' | 'leg1', request: TracedRequest, now: number): void {
    if (request.kind === 'write') this.#store(leg, request);
    this.caches[leg].end(request, now);
  }

  /** Why the legs may differ in this region, or null. */
  difference(region: number): string | null {
    for (const leg of ['leg0', 'leg1'] as const) {
      const count = this.#unsure[leg][region]!;
      if (count > 0) return `${count} writes to ${leg} are not surely on media`;
    }
    const sectors = this.#differing[region]!;
    return sectors > 0 ? `the legs differ in ${sectors} sectors` : null;
  }

  regionsOf(request: TracedRequest): number[] {
    const first = Math.floor(request.sector / this.#shape.regionSectors);
    const last = Math.floor((request.sector + request.sectors - 1) / this.#shape.regionSectors);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  }

  #count(leg: 'leg0' | 'leg1', request: TracedRequest, change: 1 | -1): void {
    for (const region of this.regionsOf(request)) this.#unsure[leg][region]! += change;
  }

  #store(leg: 'leg0' | 'leg1', request: TracedRequest): void {
    const [mine, other] = [this.#tags[leg], this.#tags[leg === 'leg0' ? 'leg1' : 'leg0']];
    for (let index = 0; index < request.sectors; index++) {
      const sector = request.sector + index;
      const tag = request.data.slice(index * TAG_DIGITS, (index + 1) * TAG_DIGITS);
      const change = Number(tag !== other[sector]) - Number(mine[sector] !== other[sector]);
      this.#differing[Math.floor(sector / this.#shape.regionSectors)]! += change;
      mine[sector] = tag;
    }
  }
}

/** Judges the moment after every event of the trace. */
export function checkWriteOrder(events: readonly TraceEvent[], shape: WriteOrderShape): WriteOrderReport {
  const log = new PossibleLog(shape.regionCount);
  const legs = new Legs(shape);
  const violations: Violation[] = [];
  const violated = new Set<number>();
  const wasClean = new Uint8Array(shape.regionCount);
  const marked = new Set<number>();
  const counts = { marks: 0, clears: 0, coldWrites: 0 };
  const writes = { leg0: 0, leg1: 0, log: 0 };
  const flushes = { leg0: 0, leg1: 0, log: 0 };

  for (const [now, { what, request }] of events.entries()) {
    if (what === 'arrival') (request.kind === 'write' ? writes : flushes)[request.disk]++;
    if (request.disk === 'log') {
      if (what === 'end') log.cache.end(request, now);
      else if (request.kind === 'write') log.arrive(request, now);
      else log.cache.arrive(request, now);
    } else if (what === 'end') legs.end(request.disk, request, now);
    else {
      legs.arrive(request.disk, request, now);
      if (request.kind === 'write')
        for (const region of legs.regionsOf(request)) if (marked.delete(region)) counts.coldWrites++;
    }
    for (let region = 0; region < shape.regionCount; region++) {
      const clean = log.mayBeClean(region);
      if (clean !== (wasClean[region] === 1)) {
        wasClean[region] = Number(clean);
        if (clean) counts.clears++;
        else counts.marks++;
        if (clean) marked.delete(region);
        else marked.add(region);
      }
      const difference = clean ? legs.difference(region) : null;
      if (difference === null) violated.delete(region);
      else if (!violated.has(region)) {
        violated.add(region);
        violations.push(violation(now, region, { what, request }, difference));
      }
    }
  }
  return { moments: events.length, violations, ...counts, writes, flushes };
}

function violation(event: number, region: number, { what, request }: TraceEvent, why: string): Violation {
  const isWrite = what === 'arrival' && request.kind === 'write';
  const by = !isWrite ? 'other' : request.disk === 'log' ? 'log write' : 'leg write';
  const when = `${what} of ${request.disk} ${request.kind} ${request.id}`;
  return {
    event,
    region,
    by,
    text: `event ${event}, ${when}: region ${region} may be clean on the log, but ${why}`,
  };
}
