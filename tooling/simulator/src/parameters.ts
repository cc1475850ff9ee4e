import { type SimulationChances, TAME_NETWORK, WILD_NETWORK } from '@dmlog/cluster';
import { Random } from './random.js';

/** What a seed decides once: the world that a run takes place in, and what may go wrong in it. */
export interface Parameters {
  readonly kind: 'core' | 'disk';
  readonly clustered: boolean;
  readonly nodeIds: readonly number[];
  readonly uuid: string;
  readonly regionCount: number;
  /** Regions that are written. */
  readonly hotRegions: readonly number[];
  readonly startsEqual: boolean;
  readonly logArguments: string;
  /** Nodes whose table says `integrated_flush`. */
  readonly integratedFlush: readonly number[];
  readonly handlesErrors: boolean;
  readonly lazyClear: { readonly milliseconds: number; readonly regionsMax: number };
  readonly reload: 'dmsetup' | 'off';
  readonly chances: SimulationChances;
  readonly undeliveredMax: number;
  readonly steps: number;
  /** Chance of a write or a read per step. */
  readonly load: number;
  /** Chance of a fault per step; the mix below. 0: none. */
  readonly faultRate: number;
  readonly weights: Readonly<Record<FaultName, number>>;
  /** A machine that is off when the faults end stays so, if the others can do without it. */
  readonly keepsDead: boolean;
  /** Chance per step that a daemon hands over its place. */
  readonly handOverRate: number;
}

export const FAULTS = [
  'crash',
  'powerCut',
  'killDaemon',
  'startDaemons',
  'damageState',
  'killEngine',
  'startEngines',
  'partition',
  'heal',
  'loseToken',
  'pause',
  'unpause',
  'clockJump',
  'lossy',
  'failLogDisk',
  'failLeg',
  'reload',
  'suspend',
  'loadAndClear',
  'remove',
  'status',
  'slowLegs',
] as const;
export type FaultName = (typeof FAULTS)[number];

const REGION_SECTORS = 8;
/** Regions that one block of the image's bitmap holds. */
export const REGIONS_PER_BLOCK = 4096;
const STREAM = -1;

/** Of each kind of fault a run has none, some or many. */
function drawWeights(random: Random): Record<FaultName, number> {
  return Object.fromEntries(FAULTS.map((name) => [name, random.pick([0, 0.3, 1, 1, 3])])) as Record<
    FaultName,
    number
  >;
}

export function parametersOf(seed: number, steps: number | null): Parameters {
  const random = new Random(seed, STREAM);
  const kind = random.chance(0.6) ? 'disk' : 'core';
  const clustered = random.chance(0.7);
  const nodeCount = clustered ? random.pick([1, 2, 2, 3, 3, 3, 4]) : 1;
  const nodeIds = Array.from({ length: nodeCount }, (_, i) => i + 1);
  const isLarge = kind === 'disk' && random.chance(0.1);
  const regionCount = isLarge ? REGIONS_PER_BLOCK + 1 + random.below(64) : random.pick([1, 3, 8, 24, 24, 64]);
  const hotCount = Math.min(regionCount, random.pick([1, 4, 12, 24]));
  const hotRegions = [
    ...new Set([regionCount - 1, ...Array.from({ length: hotCount }, () => random.below(regionCount))]),
  ];
  // By an image that says so. A log that is told "nosync" believes it again after a crash: then nobody promises anything.
  const startsEqual = kind === 'disk' && (isLarge || random.chance(0.2));
  // Drawn always: what comes after must not depend on the number that was given.
  const drawnSteps = random.pick([1000, 3000, 5000, 10_000]);
  const name = `${clustered ? 'clustered-' : ''}${kind}`;
  const device = kind === 'disk' ? ' 7:0' : '';
  const drawn = {
    kind,
    clustered,
    nodeIds,
    uuid: random.chance(0.2) ? 'x'.repeat(128) : 'LVM-simulated',
    regionCount,
    hotRegions,
    startsEqual,
    logArguments: `${regionCount * REGION_SECTORS} ${name}${device} ${REGION_SECTORS}`,
    integratedFlush: random.chance(0.5) ? nodeIds.filter(() => random.chance(0.7)) : [],
    handlesErrors: random.chance(0.7),
    lazyClear: {
      milliseconds: random.pick([0, 100, 1000, 3000]),
      regionsMax: random.pick([1, 8, 1000]),
    },
    reload: random.chance(0.7) ? 'dmsetup' : 'off',
    chances: random.chance(0.4) ? TAME_NETWORK : WILD_NETWORK,
    undeliveredMax: random.pick([2, 8, 64]),
    steps: steps ?? drawnSteps,
    load: random.pick([0.01, 0.03, 0.1, 0.3]),
    faultRate: random.chance(0.1) ? 0 : random.pick([0.001, 0.003, 0.01]),
    weights: drawWeights(random),
    keepsDead: random.chance(0.5),
    handOverRate: random.pick([0, 0, 0.001]),
  } satisfies Parameters;
  // Last: what is drawn before stays as it was. Every table with this word has all of its regions recovered anew: of a large log that takes too long.
  return random.chance(0.1) && !isLarge ? { ...drawn, logArguments: `${drawn.logArguments} sync` } : drawn;
}
