import { RequestType as R } from '@dmlog/protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Pending, resumed, TestHost } from './host.js';

/**
 * The promise of a disk log, against random orders of requests and ends of I/O: a region whose mark a FLUSH reply covered stays dirty on the medium until
 * it was cleared and the legs were flushed after that. Checked on every state the medium can be in, each write torn at every block.
 */
const BLOCK = 512;
const REGIONS = 3 * 8 * BLOCK; // three blocks of bits
const INTERESTING = [0, 1, 2, 4095, 4096, 4097, 9000, REGIONS - 1]; // blocks 2, 3 and 4 of the image

type Step =
  | { do: 'mark' | 'clear' | 'fall'; region: number }
  | { do: 'recover'; region: number }
  | { do: 'flush'; regions: number[] }
  | { do: 'endWrite'; errno: number }
  | { do: 'endLegs'; ok: boolean }
  | { do: 'tick'; ms: number }
  /** The process dies; which blocks of the write under way still land is drawn from `lands`. */
  | { do: 'die'; lands: number };

const region = fc.constantFrom(...INTERESTING);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('mark' as const), region }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('clear' as const), region }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fall' as const), region }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('recover' as const), region }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('flush' as const), regions: fc.array(region, { maxLength: 2 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('endWrite' as const), errno: fc.constantFrom(0, 0, 0, 5) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('endLegs' as const), ok: fc.constantFrom(true, true, false) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('tick' as const), ms: fc.integer({ min: 0, max: 700 }) }),
  },
);

const deadly: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: step },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('die' as const), lands: fc.integer({ min: 0, max: 0xffff }) }),
  },
);

class Run {
  readonly host: TestHost;
  now = 0;
  /** Marked (or known dirty) and not cleared since. */
  readonly marked = new Set<number>();
  /** The medium owes us "dirty" for these. */
  readonly owed = new Set<number>();
  flushes: { pending: Pending; covers: Set<number> }[] = [];
  /** Cleared before the flush of the legs that is under way began. */
  coveredByLegs = new Set<number>();
  legsSeen = 0;
  inSync = new Set(INTERESTING);

  constructor(milliseconds: number) {
    this.host = new TestHost(`${REGIONS * 2} disk /dev/log 2 nosync`, {
      keeps: true,
      blockBytes: BLOCK,
      lazyClear: { milliseconds, regionsMax: 4 },
    });
    resumed(this.host);
    this.host.auto = false;
  }

  take(step: Step): void {
    const { host } = this;
    switch (step.do) {
      case 'mark':
        this.#mark([step.region]);
        host.ask(R.MARK_REGION, step.region);
        break;
      case 'clear':
        this.marked.delete(step.region);
        for (const { covers } of this.flushes) covers.delete(step.region);
        host.ask(R.CLEAR_REGION, step.region);
        break;
      case 'fall':
        this.#mark([step.region]);
        this.inSync.delete(step.region);
        host.ask(R.SET_REGION_SYNC, step.region, 0);
        break;
      case 'recover':
        this.inSync.add(step.region);
        host.ask(R.SET_REGION_SYNC, step.region, 1);
        break;
      case 'flush':
        this.#mark(step.regions);
        this.flushes.push({ pending: host.later(R.FLUSH, ...step.regions), covers: new Set(this.marked) });
        break;
      case 'endWrite':
        if (host.write !== null) host.endWrite(step.errno);
        break;
      case 'die':
        this.#die(step.lands);
        break;
      case 'endLegs':
        if (host.legFlushUnderWay) this.#endLegs(step.ok);
        break;
      default:
        this.now += step.ms;
        host.tick(this.now);
    }
    this.#legsBegan();
    this.#settle();
    this.check();
  }

  /** What the next process finds is what this one knew, and the kernel repeats what was not answered. */
  #die(lands: number): void {
    const { host } = this;
    const before = host.disk;
    expect(host.restart((block) => ((lands >> (block % 16)) & 1) === 1)).toBeNull();
    const after = host.disk;
    after.checkInvariants();
    expect(after.summary()).toEqual({ ...before.summary(), deviceStatus: 'A' });
    expect(after.lazyCount).toBe(before.lazyCount);
    for (const r of INTERESTING) {
      expect([r, after.isInSync(r), after.isClean(r)]).toEqual([r, before.isInSync(r), before.isClean(r)]);
    }
    this.coveredByLegs = new Set();
    // A cleared region is owed until the legs are flushed, but nobody waits for a flush of the dead process any more.
    this.flushes = this.flushes.map(({ covers }) => ({ pending: host.later(R.FLUSH), covers }));
  }

  #mark(regions: number[]): void {
    for (const region of regions) {
      this.marked.add(region);
      this.coveredByLegs.delete(region);
    }
  }

  /** A flush of the legs covers what was cleared when it began. */
  #legsBegan(): void {
    if (this.host.legFlushes === this.legsSeen) return;
    this.legsSeen = this.host.legFlushes;
    this.coveredByLegs = new Set(INTERESTING.filter((r) => !this.marked.has(r) && this.inSync.has(r)));
  }

  #endLegs(ok: boolean): void {
    const covered = this.coveredByLegs;
    this.coveredByLegs = new Set();
    // The debt ends before the log acts on the news.
    if (ok) for (const region of covered) this.owed.delete(region);
    this.host.endLegFlush(ok);
  }

  #settle(): void {
    for (const { pending, covers } of this.flushes) {
      if (pending.errno === 0) for (const region of covers) this.owed.add(region);
    }
    this.flushes = this.flushes.filter(({ pending }) => pending.errno === null);
  }

  check(): void {
    const { host } = this;
    for (const media of this.mediaAfterPowerCut()) {
      for (const r of this.owed) {
        const clean = ((media[1024 + (r >>> 3)] as number) >> (r & 7)) & 1;
        if (clean) throw new Error(`region ${r} is clean on media, but its mark was acknowledged`);
      }
    }
    if (this.flushes.length > 0 && host.write === null)
      throw new Error('a FLUSH waits and nothing is being written');
  }

  /** The medium as it is, and as it would be with each single block of the write under way on it. */
  *mediaAfterPowerCut(): Generator<Uint8Array> {
    yield this.host.media;
    for (const { offset, bytes } of this.host.write ?? []) {
      for (let at = 0; at < bytes.length; at += BLOCK) {
        const torn = this.host.media.slice();
        torn.set(bytes.subarray(at, at + BLOCK), offset + at);
        yield torn;
      }
    }
  }
}

describe('a disk log under random requests and ends of I/O', () => {
  it.each([0, 500])(
    'never shows an acknowledged mark as clean, lazy clear %i ms',
    (milliseconds) => {
      fc.assert(
        fc.property(fc.array(step, { minLength: 20, maxLength: 80 }), (steps) => {
          const run = new Run(milliseconds);
          for (const one of steps) run.take(one);
          run.host.log.checkInvariants();
        }),
        { numRuns: 150 },
      );
    },
    60_000,
  );

  it.each([0, 500])(
    'and of deaths: is found again exactly as it was, and keeps its promise, lazy clear %i ms',
    (milliseconds) => {
      fc.assert(
        fc.property(fc.array(deadly, { minLength: 20, maxLength: 80 }), (steps) => {
          const run = new Run(milliseconds);
          for (const one of steps) run.take(one);
          run.host.log.checkInvariants();
        }),
        { numRuns: 150 },
      );
    },
    60_000,
  );

  it('is caught by this test when it forgets to flush the legs', () => {
    const run = new Run(0);
    expect(() => {
      run.take({ do: 'mark', region: 1 });
      run.take({ do: 'flush', regions: [] });
      run.take({ do: 'endWrite', errno: 0 });
      run.take({ do: 'clear', region: 1 });
      run.host.endLegFlush(true); // told to the log only
      run.take({ do: 'endWrite', errno: 0 });
    }).toThrow(/region 1 is clean on media/);
  });
});
