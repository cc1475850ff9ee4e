import { LabError } from './errors.js';

/** The three disks that guest/recorder.pl serves. */
export type TracedDisk = 'leg0' | 'leg1' | 'log';

/** A request of one of the disks; `arrived` and `ended` of two requests tell which came first. */
export interface TracedRequest {
  readonly id: number;
  readonly disk: TracedDisk;
  readonly kind: 'write' | 'flush';
  /** On media when it ends, whatever the cache does. */
  readonly fua: boolean;
  readonly sector: number;
  readonly sectors: number;
  /** Of the log all bytes, of a leg the first 8 of each sector; hex. */
  readonly data: string;
}

/** One line of a trace. */
export interface TraceEvent {
  /** `arrival`: from now on the data may be on media. `end`: about to be answered. */
  readonly what: 'arrival' | 'end';
  readonly request: TracedRequest;
}

const DISKS: readonly string[] = ['leg0', 'leg1', 'log'] satisfies TracedDisk[];

/** Reads what guest/recorder.pl has written; its head explains the lines. @throws LabError ERR_LAB_USAGE for a line that makes no sense. */
export function parseTrace(text: string): TraceEvent[] {
  const requests = new Map<number, TracedRequest>();
  const events: TraceEvent[] = [];
  for (const [index, line] of text.trimEnd().split('\n').entries()) {
    const request = line.startsWith('R ') ? requestOf(line) : requests.get(Number(line.slice(2)));
    if (request === undefined || !/^[RC] /.test(line))
      throw new LabError('ERR_LAB_USAGE', `line ${index + 1} of the trace is "${line.slice(0, 60)}"`);
    if (line.startsWith('R ')) requests.set(request.id, request);
    events.push({ what: line.startsWith('R ') ? 'arrival' : 'end', request });
  }
  return events;
}

function requestOf(line: string): TracedRequest | undefined {
  const [, id, disk, kind, fua, sector, sectors, data] = line.split(' ');
  if (data === undefined || !DISKS.includes(disk!) || (kind !== 'W' && kind !== 'F')) return undefined;
  return {
    id: Number(id),
    disk: disk as TracedDisk,
    kind: kind === 'W' ? 'write' : 'flush',
    fua: fua === '1',
    sector: Number(sector),
    sectors: Number(sectors),
    data: kind === 'W' ? data : '',
  };
}

/** Every sector of a disk that was written, with all that was ever written to it, sorted: comparable with `recordedSectors` of dm-log-writes. */
export function tracedSectors(events: readonly TraceEvent[], disk: TracedDisk): Map<number, string[]> {
  const found = new Map<number, string[]>();
  for (const { what, request } of events) {
    if (what !== 'end' || request.disk !== disk || request.kind !== 'write') continue;
    const digits = request.data.length / request.sectors;
    for (let index = 0; index < request.sectors; index++) {
      const contents = request.data.slice(index * digits, (index + 1) * digits);
      const sector = request.sector + index;
      found.set(sector, [...(found.get(sector) ?? []), contents].sort());
    }
  }
  return found;
}
