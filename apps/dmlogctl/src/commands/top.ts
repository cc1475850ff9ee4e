import {
  type DaemonStatus,
  formatBytes,
  formatDirty,
  formatInSync,
  formatTable,
  formatUptime,
  type LogRegions,
  printable,
  type RequestTotals,
} from '@dmlog/daemon';
import type { Connection } from '../connection.js';
import type { Environment } from '../environment.js';
import { CommandFailure, ExitCode } from '../exit-codes.js';
import { cellCharacter } from '../region-picture.js';
import { formatDuration } from '../sizes.js';
import { Screen } from '../terminal.js';
import { keyOf, type Progress, pause, progressOf } from './status.js';

/** One look at a daemon. */
export interface Look {
  readonly status: DaemonStatus;
  readonly requests: { readonly boundsSeconds: readonly number[]; readonly types: readonly RequestTotals[] };
  /** Of the selected log; null where there is none. */
  readonly regions: LogRegions | null;
  readonly atMs: number;
}

export interface View {
  /** Index of the log whose map is shown. */
  selected: number;
  paused: boolean;
}

/** `top`: a live view, until `q` or an interrupt. */
export async function top(
  connection: Connection,
  { interval }: { interval: number },
  environment: Environment,
): Promise<number> {
  const { terminal, out, signal } = environment;
  if (terminal === null)
    throw new CommandFailure(ExitCode.USAGE, 'top needs a terminal; use dmlogctl status, or dmlogctl watch');
  const view: View = { selected: 0, paused: false };
  const ended = new AbortController();
  const until = AbortSignal.any([signal, ended.signal]);
  let hurry = new AbortController();
  // Before the screen is taken: an error is printed as that of any command.
  let before = await look(connection, view, terminal.columns, null);
  let now = before;
  const screen = new Screen(out);
  const draw = (): void => screen.draw(frame(connection.program, before, now, view, terminal));
  const offKey = terminal.onKey((key) => {
    if (key === 'q' || key === 'interrupt') ended.abort();
    else if (key === 'up' || key === 'k') view.selected--;
    else if (key === 'down' || key === 'j') view.selected++;
    else if (key === ' ') view.paused = !view.paused;
    else return;
    view.selected = Math.max(0, Math.min(view.selected, now.status.logs.length - 1));
    hurry.abort();
  });
  const offResize = terminal.onResize(() => {
    screen.forget();
    draw();
  });
  try {
    draw();
    while (!until.aborted) {
      await pause(interval * 1000, AbortSignal.any([until, hurry.signal]));
      const wasHurried = hurry.signal.aborted;
      hurry = new AbortController();
      if (until.aborted) break;
      if (!view.paused) {
        const next = await look(connection, view, terminal.columns, now);
        // A look that a key has hurried tells no rates: the ones before are kept.
        if (!wasHurried) before = now;
        now = next;
      }
      draw();
    }
  } finally {
    offKey();
    offResize();
    screen.close();
  }
  return ExitCode.OK;
}

async function look(connection: Connection, view: View, columns: number, last: Look | null): Promise<Look> {
  const { status } = await connection.status();
  const requests = (await connection.request('requests')) as Look['requests'];
  const log = status.logs[Math.min(view.selected, status.logs.length - 1)];
  const cells = Math.max(8, columns - 2) * MAP_ROWS;
  const regions =
    log === undefined
      ? null
      : ((await connection
          .request('regions', { log: log.luid, cells })
          .catch(() => last?.regions ?? null)) as LogRegions | null);
  return { status, requests, regions, atMs: performance.now() };
}

const MAP_ROWS = 6;
const REVERSE = '\x1b[7m';
const RESET = '\x1b[0m';

/** What is on the screen: no line longer than the terminal is wide, and no more lines than it has. */
export function frame(
  program: string,
  before: Look,
  now: Look,
  view: View,
  { columns, rows }: { columns: number; rows: number },
): string[] {
  const seconds = Math.max(0.001, (now.atMs - before.atMs) / 1000);
  const { version, uptimeSeconds, logs, pid } = now.status;
  const progress = progressOf(before.status, now.status, seconds);
  const cut = (line: string): string => line.slice(0, columns);
  const lines = [
    cut(
      `${program} ${version}  pid ${pid}  up ${formatUptime(uptimeSeconds)}  ${logs.length} logs${view.paused ? '  PAUSED' : ''}`,
    ),
    cut('q quits, ↑ ↓ choose a log, space pauses'),
    '',
    ...logTable(before, now, progress, seconds).map((line, i) =>
      i === view.selected + 1 ? `${REVERSE}${cut(line)}${RESET}` : cut(line),
    ),
    '',
    ...requestTable(before, now, seconds).map(cut),
    '',
    ...mapLines(now.regions, columns),
  ];
  return lines.slice(0, rows);
}

function logTable(
  before: Look,
  now: Look,
  progress: ReadonlyMap<string, Progress>,
  seconds: number,
): string[] {
  if (now.status.logs.length === 0) return ['no logs'];
  const old = new Map(before.status.logs.map((log) => [keyOf(log), log]));
  return formatTable([
    ['NAME', 'TYPE', 'STATE', 'IN SYNC', 'DIRTY', 'RATE', 'LEFT', 'REQ/S', 'WRITE/S', 'MARKED BY'],
    ...now.status.logs.map((log) => {
      const was = old.get(keyOf(log)) ?? log;
      const resync = progress.get(keyOf(log));
      const marks = (log.cluster?.members ?? [])
        .filter((member) => member.marks > 0)
        .map(({ nodeId, marks: count }) => `${nodeId}:${count}`);
      return [
        log.dmName ?? log.uuid,
        log.type,
        log.state,
        formatInSync(log),
        formatDirty(log),
        resync === undefined ? '-' : `${formatBytes(Math.round(resync.bytesPerSecond))}/s`,
        resync === undefined ? '-' : formatDuration(resync.secondsLeft),
        ((log.requests - was.requests) / seconds).toFixed(0),
        `${formatBytes(Math.round((log.bytesWritten - was.bytesWritten) / seconds))}`,
        marks.join(' ') || '-',
      ].map(printable);
    }),
  ]);
}

function requestTable(before: Look, now: Look, seconds: number): string[] {
  const old = new Map(before.requests.types.map((type) => [type.type, type]));
  const rows = now.requests.types.map((type) => {
    const was = old.get(type.type);
    return [
      type.type,
      ((type.requests - (was?.requests ?? 0)) / seconds).toFixed(0),
      String(type.errors),
      quantile(type.buckets, now.requests.boundsSeconds, 0.5),
      quantile(type.buckets, now.requests.boundsSeconds, 0.99),
    ];
  });
  return formatTable([['REQUEST', 'PER SECOND', 'ERRORS', 'MEDIAN', '99 %'], ...rows]);
}

/** The upper bound of the bucket in which the quantile lies: at most twice too much. */
export function quantile(buckets: readonly number[], bounds: readonly number[], share: number): string {
  const total = buckets.reduce((sum, count) => sum + count, 0);
  if (total === 0) return '-';
  let seen = 0;
  const at = buckets.findIndex((count) => {
    seen += count;
    return seen >= total * share;
  });
  const bound = bounds[at];
  if (bound === undefined) return `> ${formatSeconds(bounds.at(-1) as number)}`;
  return `≤ ${formatSeconds(bound)}`;
}

function formatSeconds(seconds: number): string {
  if (seconds < 1e-3) return `${Math.round(seconds * 1e6)} µs`;
  return seconds < 1 ? `${(seconds * 1e3).toFixed(1)} ms` : `${seconds.toFixed(1)} s`;
}

function mapLines(regions: LogRegions | null, columns: number): string[] {
  if (regions === null) return [];
  const { from, to, regionsPerCell, inSync, clean, regionCount } = regions;
  const cells = inSync.map((inSyncHere, cell) => {
    const size = Math.min(regionsPerCell, to - from - cell * regionsPerCell);
    // Out of sync is dirty, too.
    const character =
      inSyncHere === size
        ? cellCharacter({ regions: size, dirty: size - (clean[cell] as number), outOfSync: 0, differing: 0 })
        : '!';
    return regions.recovering !== null && Math.floor((regions.recovering - from) / regionsPerCell) === cell
      ? 'R'
      : character;
  });
  const width = Math.max(8, columns - 2);
  const rows = Array.from(
    { length: Math.ceil(cells.length / width) },
    (_, row) => `  ${cells.slice(row * width, (row + 1) * width).join('')}`,
  );
  const legend = `${regionCount} regions, ${regionsPerCell} each: █ clean ▓▒░ · dirty ! out of sync R recovering`;
  return [legend.slice(0, columns), ...rows];
}
