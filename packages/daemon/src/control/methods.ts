import { type DirtyLog, DiskLog } from '@dmlog/log';
import { RequestType, requestTypeName } from '@dmlog/protocol';
import { z } from 'zod';
import type { DaemonStatus } from '../serve-types.js';
import type { Served } from '../served.js';
import { ControlError } from './errors.js';
import { EventWatch } from './events.js';
import { LATENCY_BOUNDS_SECONDS } from './latency.js';
import { lazyCountOf, SettingsChange, setLazyClear } from './live-settings.js';
import { luidOf } from './luid.js';
import type { Operable } from './operable.js';
import { MAP_CELLS_MAX, type RegionMap, regionMap } from './region-map.js';
import type { ControlMethod } from './server.js';
import { ControlStream } from './stream.js';

/** A flush waits so long for the legs and the log device, unless it is told otherwise. */
export const FLUSH_MS_DEFAULT = 10_000;
const FLUSH_POLL_MS = 50;

/** A log by uuid, luid or device-mapper name. */
const LogRef = z.string().min(1).max(256);
const RegionsParams = z.strictObject({
  log: LogRef,
  from: z.number().int().min(0).default(0),
  to: z.number().int().min(0).optional(),
  cells: z.number().int().min(1).max(MAP_CELLS_MAX).default(1024),
});
const FlushParams = z.strictObject({
  log: LogRef.optional(),
  timeoutMs: z.number().int().min(1).max(600_000).default(FLUSH_MS_DEFAULT),
});
const TypeName = z.enum(Object.keys(RequestType) as [keyof typeof RequestType]);
const TraceParams = z.strictObject({ log: LogRef.optional(), types: z.array(TypeName).min(1).optional() });

/** What `regions` answers. */
export interface LogRegions extends RegionMap {
  readonly uuid: string;
  readonly luid: string;
  readonly regionCount: number;
  /** The region handed out for recovery; null where there is none. */
  readonly recovering: number | null;
}

/** What `requests` answers: counters of one request type. */
export interface RequestTotals {
  readonly type: string;
  readonly requests: number;
  readonly errors: number;
  /** Of the answers that were timed: all late ones, and a sample of the others. */
  readonly timed: number;
  readonly timedSeconds: number;
  /** Timed answers by upper bound, see `boundsSeconds`; the last one has no bound. Not cumulative. */
  readonly buckets: readonly number[];
}

/** The methods of the control socket besides `status` and `metrics`. */
export function operatorMethods(daemon: Operable, status: () => DaemonStatus): Record<string, ControlMethod> {
  return {
    requests: () => ({ boundsSeconds: LATENCY_BOUNDS_SECONDS, types: requestTotals(daemon) }),
    regions: (params) => {
      const { log, ...range } = checked(RegionsParams, params);
      return regionsOf(daemon, log, range);
    },
    settings: (params) =>
      params === undefined || params === null ? daemon.settings.read() : changeSettings(daemon, params),
    flush: (params) => flush(daemon, checked(FlushParams, params ?? {})),
    watch: () => new ControlStream((emit) => new EventWatch(status, emit).start()),
    trace: (params) => trace(daemon, checked(TraceParams, params ?? {})),
  };
}

/** Request types that were asked at all. */
export function requestTotals({ counters, observer }: Operable): RequestTotals[] {
  return Object.values(RequestType).flatMap((type) => {
    const requests = counters.requests[type] as number;
    if (requests === 0) return [];
    const buckets = observer.latencies.counts(type);
    return [
      {
        type: requestTypeName(type),
        requests,
        errors: counters.errors[type] as number,
        timed: buckets.reduce((sum, count) => sum + count, 0),
        timedSeconds: observer.latencies.sumSeconds(type),
        buckets,
      },
    ];
  });
}

/** @throws ControlError `ERR_CONTROL_UNKNOWN_LOG`, or `ERR_CONTROL_BAD_REQUEST` for a range outside the log. */
export async function regionsOf(
  daemon: Operable,
  ref: string,
  range: { from: number; to?: number | undefined; cells: number },
): Promise<LogRegions> {
  const { name } = theLog(daemon, ref);
  const find = (): DirtyLog | null => daemon.logs.get(name)?.log ?? null;
  const { regionCount } = (find() as DirtyLog).parameters;
  const to = range.to ?? regionCount;
  if (range.from > to || to > regionCount) {
    throw new ControlError(
      'ERR_CONTROL_BAD_REQUEST',
      `regions ${range.from}..${to} are not all of the log: it has ${regionCount}`,
    );
  }
  const map = await regionMap(find, { from: range.from, to, cells: range.cells });
  if (map === null) throw unknownLog(ref);
  const { recovering } = (find() as DirtyLog | null)?.summary() ?? { recovering: null };
  return { uuid: name.uuid, luid: luidOf(name), regionCount, recovering, ...map };
}

function changeSettings(daemon: Operable, params: unknown): unknown {
  const change = checked(SettingsChange, params);
  const before = daemon.settings.read();
  const after = daemon.settings.change(change, logsOf(daemon));
  daemon.logger.info({ before, after }, 'settings changed by an operator, until the end of this daemon');
  return after;
}

/**
 * Gives up what lazy clear holds, and waits until the image says so: afterwards only what is being written, or is out of sync, is dirty. For all logs, or one.
 */
async function flush(daemon: Operable, { log, timeoutMs }: z.infer<typeof FlushParams>): Promise<unknown> {
  const chosen =
    log === undefined ? [...daemon.logs.entries()].map(([, served]) => served) : [theLog(daemon, log)];
  const before = chosen.map((served) => lazyCountOf(served.log));
  const deadline = performance.now() + timeoutMs;
  const waiting = (): Served[] =>
    chosen.filter((served) => daemon.logs.get(served.name) === served && isWaiting(served.log));
  for (const { log: dirtyLog } of chosen)
    setLazyClear(dirtyLog, { ...daemon.settings.lazyClear, milliseconds: 0 });
  try {
    while (waiting().length > 0) {
      if (performance.now() > deadline) throw notFlushed(waiting(), timeoutMs);
      await new Promise((resolve) => setTimeout(resolve, FLUSH_POLL_MS));
    }
  } finally {
    for (const { log: dirtyLog } of chosen) setLazyClear(dirtyLog, daemon.settings.lazyClear);
  }
  return {
    logs: chosen.map((served, i) => ({
      uuid: served.name.uuid,
      luid: luidOf(served.name),
      released: before[i],
    })),
  };
}

/** A suspended log holds what it has: its image may be another's. */
function isWaiting(log: DirtyLog): boolean {
  if (log.state !== 'live') return false;
  // Given up, and written.
  return log instanceof DiskLog ? log.needsTick : lazyCountOf(log) > 0;
}

function notFlushed(logs: readonly Served[], timeoutMs: number): ControlError {
  const names = logs.map(({ name, dmName }) => `${dmName ?? '?'} (${name.uuid})`).join(', ');
  return new ControlError(
    'ERR_CONTROL_NOT_DONE',
    `after ${timeoutMs / 1000} s regions are still kept dirty in ${names}: it is being written all the time, or its legs cannot be flushed (the daemon's log says so). Nothing is lost: such regions are resynced after a crash`,
  );
}

function trace(daemon: Operable, { log, types }: z.infer<typeof TraceParams>): ControlStream {
  const uuid = log === undefined ? undefined : uuidOf(daemon, log);
  return new ControlStream((emit) =>
    daemon.observer.tap({
      ...(uuid === undefined ? {} : { uuid }),
      ...(types === undefined ? {} : { types: new Set<number>(types.map((type) => RequestType[type])) }),
      onFrame: ({ us, dir, port, bytes }) => {
        const hex = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
        emit(dir === 'from-kernel' ? { us, dir, port, hex } : { us, dir, hex });
      },
    }),
  );
}

/** A uuid that no log has yet may be traced: to see a log being created. */
function uuidOf(daemon: Operable, ref: string): string {
  return findLog(daemon, ref)?.name.uuid ?? ref;
}

/** The log of this uuid, luid or device-mapper name; of several tables of one uuid the live one. */
function findLog({ logs }: Operable, ref: string): Served | null {
  const found = [...logs.entries()]
    .map(([, served]) => served)
    .filter(({ name, dmName }) => name.uuid === ref || dmName === ref || luidOf(name) === ref);
  return found.find(({ log }) => log.state !== 'constructed') ?? found[0] ?? null;
}

function theLog(daemon: Operable, ref: string): Served {
  const found = findLog(daemon, ref);
  if (found === null) throw unknownLog(ref);
  return found;
}

function unknownLog(ref: string): ControlError {
  return new ControlError(
    'ERR_CONTROL_UNKNOWN_LOG',
    `no log has the uuid, luid or name ${JSON.stringify(ref)}: see the daemon's status`,
  );
}

function* logsOf({ logs }: Operable): Iterable<DirtyLog> {
  for (const [, { log }] of logs.entries()) yield log;
}

function checked<T>(schema: z.ZodType<T>, params: unknown): T {
  const parsed = schema.safeParse(params);
  if (parsed.success) return parsed.data;
  const what = parsed.error.issues.map(({ path, message }) => `${path.join('.') || 'params'}: ${message}`);
  throw new ControlError('ERR_CONTROL_BAD_REQUEST', what.join('; '));
}
