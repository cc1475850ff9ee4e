import { ratioText, table } from '../table.js';
import type { Join, Round } from './bench.js';
import type { FloorMode } from './floor.js';
import { type LocalRound, localProcessRatios } from './local.js';
import { localRatios, middle, ORDERED_ROWS, orderedRatio } from './targets.js';

export { renderVerdicts } from '../table.js';

const US_NS = 1000;
const MS_NS = 1e6;

/** Floors, ordered requests against them, and requests that need no order against a local log. */
export function renderRounds(title: string, rounds: readonly Round[]): string {
  const modes = Object.keys(rounds[0]!.floor) as FloorMode[];
  const us = (ns: number) => (ns / US_NS).toFixed(0);
  const floors = modes.map((mode) => {
    const times = rounds.map(({ floor }) => floor[mode]);
    return [`C ${mode}`, us(middle(times, 'p50')), us(middle(times, 'p99'))];
  });
  const ours = ORDERED_ROWS.map((row) => {
    const times = rounds.map((round) => row.pick(round).types[row.row]);
    return [row.row, us(middle(times, 'p50')), us(middle(times, 'p99'))].concat(
      modes.map((mode) => ratioText(orderedRatio(rounds, row, mode))),
      modes.map((mode) => ratioText(orderedRatio(rounds, row, mode, 'p99'))),
    );
  });
  const head = [
    'ordered requests',
    'p50 us',
    'p99 us',
    ...modes.map((mode) => `p50 x ${mode}`),
    ...modes.map((mode) => `p99 x ${mode}`),
  ];
  const local = [...localRatios(rounds)].map(([row, ratio]) => {
    const ns = middle(
      rounds.map((round) => round.local.clustered[row]),
      'p50',
    );
    return [row, (ns / US_NS).toFixed(2), ratioText(ratio)];
  });
  return [
    `${title}: ordered requests, against the C member of the same ring (1 = as fast; less is better)`,
    table(head, [...floors, ...ours]),
    '',
    `${title}: requests that need no order, in place, against a local core log in the same process`,
    table(['request', 'us', 'p50 x core'], local),
  ].join('\n');
}

export function renderJoins(joins: readonly Join[]): string {
  const rows = joins.map(({ regions, ns, foundingNs }) => [
    `2^${Math.log2(regions)}`,
    (ns / MS_NS).toFixed(1),
    (foundingNs / MS_NS).toFixed(1),
  ]);
  return [
    'RESUME by regions: a second node joins; the first founds',
    table(['regions', 'join ms', 'found ms'], rows),
  ].join('\n');
}

export function renderLocal(rounds: readonly LocalRound[]): string {
  const rows = [...localProcessRatios(rounds)].map(([row, ratio]) => [row, ratioText(ratio)]);
  const title =
    'one node: requests that need no order, p50 of clusterd (clustered-core), x singled (core), one core, behind netlink';
  return [title, table(['request', 'ratio'], rows)].join('\n');
}
