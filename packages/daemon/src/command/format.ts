import { SECTOR_BYTES } from '../device/sysfs.js';
import type { ClusterStatus, DaemonStatus, LogStatus } from '../serve-types.js';

const NONE = '-';
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** `512 KiB`, `1.5 GiB`: binary units, at most one decimal. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

/** Whether a log's regions are known: a node that does not take part in a clustered log (no quorum, not caught up) has no state of it, and counts none. */
function knowsRegions({ cluster }: Partial<Pick<LogStatus, 'cluster'>>): boolean {
  return cluster === undefined || cluster.digest !== null;
}

/**
 * Percentage in sync, rounded *down* to two decimals: 100 % is shown only where every region is in sync. `-` where it is not known.
 */
export function formatInSync(
  log: Pick<LogStatus, 'inSyncCount' | 'regionCount'> & Partial<Pick<LogStatus, 'cluster'>>,
): string {
  if (!knowsRegions(log)) return NONE;
  if (log.regionCount === 0 || log.inSyncCount >= log.regionCount) return '100 %';
  return `${(Math.floor((log.inSyncCount / log.regionCount) * 10_000) / 100).toFixed(2)} %`;
}

/** Regions that are not clean; `-` where that is not known. */
export function formatDirty(
  log: Pick<LogStatus, 'dirtyCount'> & Partial<Pick<LogStatus, 'cluster'>>,
): string {
  return knowsRegions(log) ? String(log.dirtyCount) : NONE;
}

type Column = readonly [title: string, cell: (log: LogStatus) => string];
const COLUMNS: readonly Column[] = [
  ['UUID', (log) => log.uuid],
  ['LUID', (log) => log.luid],
  ['NAME', (log) => log.dmName ?? NONE],
  ['TYPE', (log) => log.type],
  ['STATE', (log) => log.state],
  ['SIZE', (log) => formatBytes(log.targetSectors * SECTOR_BYTES)],
  ['REGION', (log) => formatBytes(log.regionSizeSectors * SECTOR_BYTES)],
  ['IN SYNC', formatInSync],
  ['DIRTY', formatDirty],
  ['RECOVERING', (log) => (log.recovering === null ? NONE : String(log.recovering))],
  ['LOG DEVICE', (log) => log.logDevice ?? NONE],
  ['HEALTH', (log) => log.deviceStatus ?? NONE],
];

/** What `status` prints of a daemon called `program`: a head line, a table of logs, and a paragraph for each clustered log. Ends in a newline. */
export function formatStatus(program: string, status: DaemonStatus): string {
  const { transport } = status;
  const head = `${program} ${status.version}, pid ${status.pid}, up ${formatUptime(status.uptimeSeconds)}, transport ${transport.name}`;
  if (status.logs.length === 0) return `${head}\nno logs\n`;
  const lines = formatTable([
    COLUMNS.map(([title]) => title),
    ...status.logs.map((log) => COLUMNS.map(([, cell]) => printable(cell(log)))),
  ]);
  const clusters = status.logs.flatMap((log) =>
    log.cluster === undefined ? [] : formatCluster(log, log.cluster),
  );
  return `${[head, ...lines, ...clusters].join('\n')}\n`;
}

function formatCluster(log: LogStatus, cluster: ClusterStatus): string[] {
  const { nodeId, ring, quorate, phase, writer, position, needReload } = cluster;
  const place =
    nodeId === null || ring === null
      ? 'this node is not in its group'
      : `node ${nodeId} in ring ${ring.nodeId}.${ring.seq}, ${quorate ? 'quorate' : 'WITHOUT QUORUM'}, ${phase}, mirror ${cluster.mirror}, writer ${writer ?? NONE}, position ${position}`;
  const doubts = [
    ...(cluster.refusal === null ? [] : [`refused: ${printable(cluster.refusal)}`]),
    ...(cluster.staleCount === 0 ? [] : [`${cluster.staleCount} regions in doubt`]),
    ...(cluster.givenUpCount === 0 ? [] : [`${cluster.givenUpCount} regions given up`]),
    ...(needReload.length === 0 ? [] : [`reload the tables of nodes ${needReload.join(', ')}`]),
  ];
  const members = formatTable([
    ['NODE', 'PRESENCE', 'MARKS', 'LEASES', 'BOOT'],
    ...cluster.members.map(({ nodeId: id, presence, marks, leases, bootId }) =>
      [id, presence, marks, leases, bootId].map((cell) => printable(String(cell))),
    ),
  ]);
  return [
    '',
    `${printable(log.uuid)} ${log.luid}: ${[place, ...doubts].join('; ')}`,
    ...(cluster.members.length === 0 ? [] : members.map((line) => `  ${line}`)),
  ];
}

/** Lines of a table, one per row; cells of a column are as wide as its widest, two spaces apart. */
export function formatTable(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] as string).length)),
  );
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] as number))
      .join('  ')
      .trimEnd(),
  );
}

/** `3d 4h`, `5m 6s`: the two largest units. */
export function formatUptime(seconds: number): string {
  const whole = Math.floor(seconds);
  const parts: readonly (readonly [number, string])[] = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'm'],
    [whole % 60, 's'],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return '0s';
  return parts
    .slice(first, first + 2)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ');
}

/** A uuid comes from a table that anybody with rights wrote: no escape sequence may reach the terminal. */
export function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?');
}
