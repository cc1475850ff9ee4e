import {
  type DaemonStatus,
  formatBytes,
  formatDirty,
  formatInSync,
  formatTable,
  formatUptime,
  type LogStatus,
  printable,
  SECTOR_BYTES,
} from '@dmlog/daemon';
import type { Connection } from '../connection.js';
import type { Environment } from '../environment.js';
import { ExitCode } from '../exit-codes.js';
import { formatDuration } from '../sizes.js';

/** Between the two looks that tell the rate of a resync. */
export const RATE_MS = 1000;

/** How fast a log's regions come to be in sync. */
export interface Progress {
  readonly bytesPerSecond: number;
  /** Infinity while nothing moves. */
  readonly secondsLeft: number;
}

const NONE = '-';
type Row = { readonly log: LogStatus; readonly progress: Progress | null };
/** The columns of `status`: part of the interface, see the manual. New ones come at the end. */
export const STATUS_COLUMNS: readonly (readonly [title: string, cell: (row: Row) => string])[] = [
  ['UUID', ({ log }) => log.uuid],
  ['NAME', ({ log }) => log.dmName ?? NONE],
  ['TYPE', ({ log }) => log.type],
  ['STATE', ({ log }) => log.state],
  ['SIZE', ({ log }) => formatBytes(log.targetSectors * SECTOR_BYTES)],
  ['REGION', ({ log }) => formatBytes(log.regionSizeSectors * SECTOR_BYTES)],
  ['IN SYNC', ({ log }) => formatInSync(log)],
  ['DIRTY', ({ log }) => formatDirty(log)],
  ['RECOVERING', ({ log }) => (log.recovering === null ? NONE : String(log.recovering))],
  [
    'RATE',
    ({ progress }) => (progress === null ? NONE : `${formatBytes(Math.round(progress.bytesPerSecond))}/s`),
  ],
  ['LEFT', ({ progress }) => (progress === null ? NONE : formatDuration(progress.secondsLeft))],
  ['LOG DEVICE', ({ log }) => log.logDevice ?? NONE],
  ['HEALTH', ({ log }) => log.deviceStatus ?? NONE],
];
/** Added where a log is clustered. */
export const CLUSTER_COLUMNS: typeof STATUS_COLUMNS = [
  ['NODE', ({ log }) => String(log.cluster?.nodeId ?? NONE)],
  ['LIVE', ({ log }) => (log.cluster === undefined ? NONE : liveNodes(log.cluster.members))],
  ['QUORUM', ({ log }) => (log.cluster === undefined ? NONE : log.cluster.quorate ? 'yes' : 'NO')],
  ['PHASE', ({ log }) => log.cluster?.phase ?? NONE],
  ['WRITER', ({ log }) => String(log.cluster?.writer ?? NONE)],
  [
    'IN DOUBT',
    ({ log }) =>
      log.cluster === undefined ? NONE : String(log.cluster.staleCount + log.cluster.givenUpCount),
  ],
  ['RELOAD', ({ log }) => log.cluster?.needReload.join(',') || NONE],
];

function liveNodes(members: readonly { nodeId: number; presence: string }[]): string {
  return (
    members
      .filter(({ presence }) => presence === 'live')
      .map(({ nodeId }) => nodeId)
      .join(',') || NONE
  );
}

export interface StatusFlags {
  readonly json?: boolean;
  readonly rate: boolean;
}

export async function status(
  connection: Connection,
  flags: StatusFlags,
  { out, signal }: Environment,
): Promise<number> {
  const first = await connection.status();
  const firstAt = performance.now();
  let { raw, status: now } = first;
  let progress = new Map<string, Progress>();
  if (flags.rate && first.status.logs.some(isResyncing)) {
    await pause(RATE_MS, signal);
    ({ raw, status: now } = await connection.status());
    progress = progressOf(first.status, now, (performance.now() - firstAt) / 1000);
  }
  out(flags.json === true ? toJson(raw, progress) : formatStatusTable(connection.program, now, progress));
  return ExitCode.OK;
}

export function isResyncing({ state, inSyncCount, regionCount }: LogStatus): boolean {
  return state === 'live' && inSyncCount < regionCount;
}

export const keyOf = ({ uuid, luid }: { uuid: string; luid: string }): string => `${uuid} ${luid}`;

/** Of the logs that are being resynced. */
export function progressOf(before: DaemonStatus, now: DaemonStatus, seconds: number): Map<string, Progress> {
  const old = new Map(before.logs.map((log) => [keyOf(log), log]));
  return new Map(
    now.logs.filter(isResyncing).map((log) => {
      const done = Math.max(0, log.inSyncCount - (old.get(keyOf(log))?.inSyncCount ?? log.inSyncCount));
      const bytesPerSecond = (done * log.regionSizeSectors * SECTOR_BYTES) / seconds;
      const left = (log.regionCount - log.inSyncCount) * log.regionSizeSectors * SECTOR_BYTES;
      return [keyOf(log), { bytesPerSecond, secondsLeft: left / bytesPerSecond }];
    }),
  );
}

function toJson(raw: unknown, progress: ReadonlyMap<string, Progress>): string {
  const { logs, ...rest } = raw as { logs: { uuid: string; luid: string }[] };
  const withProgress = logs.map((log) => {
    const { bytesPerSecond, secondsLeft } = progress.get(keyOf(log)) ?? {
      bytesPerSecond: null,
      secondsLeft: null,
    };
    return {
      ...log,
      resyncBytesPerSecond: bytesPerSecond,
      resyncSecondsLeft: Number.isFinite(secondsLeft) ? secondsLeft : null,
    };
  });
  return `${JSON.stringify({ ...rest, logs: withProgress }, null, 2)}\n`;
}

export function formatStatusTable(
  program: string,
  { version, pid, uptimeSeconds, transport, logs }: DaemonStatus,
  progress: ReadonlyMap<string, Progress>,
): string {
  const head = `${program} ${version}, pid ${pid}, up ${formatUptime(uptimeSeconds)}, transport ${transport.name}`;
  if (logs.length === 0) return `${head}\nno logs\n`;
  const columns = logs.some(({ cluster }) => cluster !== undefined)
    ? [...STATUS_COLUMNS, ...CLUSTER_COLUMNS]
    : STATUS_COLUMNS;
  const rows = logs.map((log) => ({ log, progress: progress.get(keyOf(log)) ?? null }));
  const lines = formatTable([
    columns.map(([title]) => title),
    ...rows.map((row) => columns.map(([, cell]) => printable(cell(row)))),
  ]);
  return `${[head, ...lines].join('\n')}\n`;
}

/** Ends early, without an error, when `signal` says so. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
    if (signal.aborted) done();
  });
}
