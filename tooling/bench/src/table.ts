import type { RoundReports } from './rounds.js';
import { REGION_COUNTS } from './rounds.js';
import type { Ratio } from './statistics.js';
import type { SubjectName } from './subjects.js';
import {
  compareRates,
  compareRows,
  compareSizes,
  compareState,
  microseconds,
  type Verdict,
} from './targets.js';

const COLUMNS: readonly SubjectName[] = ['echo poll', 'transport', 'singled'];

/** Lines of a table: the first `left` columns aligned left, the others right. */
export function table(head: readonly string[], rows: readonly (readonly string[])[], left = 1): string {
  const widths = head.map((title, i) => Math.max(title.length, ...rows.map((row) => (row[i] ?? '').length)));
  const cell = (text: string, i: number) => (i < left ? text.padEnd(widths[i]!) : text.padStart(widths[i]!));
  const line = (cells: readonly string[]) => cells.map(cell).join('  ').trimEnd();
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

/** `1.21 [1.15-1.40]`: median over rounds, and their range. */
export function ratioText(ratio: Ratio | undefined): string {
  return ratio === undefined
    ? ''
    : `${ratio.median.toFixed(2)} [${ratio.min.toFixed(2)}-${ratio.max.toFixed(2)}]`;
}

/** Latency of every request type, then throughput, each against the echo. */
export function renderComparison(title: string, reports: RoundReports, spin: boolean): string {
  const workloads = [
    'types',
    'write',
    'resync',
    'lifecycle',
    ...(spin ? ['write, driver spins', 'resync, driver spins'] : []),
  ];
  const columns = COLUMNS.filter((name) => reports.has(name));
  const rows = compareRows(reports, workloads).map(({ workload, row, floorP50Ns, ratios }) => [
    `${workload}: ${row}`,
    microseconds(floorP50Ns),
    ...columns.map((name) => ratioText(ratios.get(name))),
  ]);
  const rates = ['16 mirrors write', '16 pipelined'].map((workload) => {
    const ratios = compareRates(reports, workload);
    return [workload, ...columns.map((name) => ratioText(ratios.get(name)))];
  });
  return [
    `${title}: p50 of a round trip, x echo (1 = as fast; less is better)`,
    table(['request', 'echo us', ...columns], rows),
    '',
    `${title}: requests per second, x echo (more is better)`,
    table(['in flight', ...columns], rates),
  ].join('\n');
}

/** singled's cost at larger region counts against its own at 2^16. */
export function renderSizes(reports: RoundReports): string {
  const middle = compareSizes(reports, REGION_COUNTS.middle);
  const large = compareSizes(reports, REGION_COUNTS.large);
  const rows = [...large].map(([row, ratio]) => [row, ratioText(middle.get(row)), ratioText(ratio)]);
  return ['singled, p50 x that at 2^16 regions', table(['request', '2^21', '2^27'], rows)].join('\n');
}

/** What runtime state costs: singled against itself where it cannot keep any. */
export function renderState(reports: RoundReports): string {
  const rows = [...compareState(reports)].map(([row, ratio]) => [row, ratioText(ratio)]);
  return [
    'one core: p50 of singled, x the same without runtime state',
    table(['request', 'ratio'], rows),
  ].join('\n');
}

export function renderVerdicts(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(({ target, passed, value }) => [target, passed ? 'pass' : 'MISS', value]);
  return table(['target', '', ''], rows, 3);
}
