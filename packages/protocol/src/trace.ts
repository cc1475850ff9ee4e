/** Reads recorded conversations in the format `dm-ulog-trace/1`: JSON lines, a header first, then one datagram per line. */

export const TRACE_FORMAT = 'dm-ulog-trace/1';

export interface TraceHeader {
  readonly format: string;
  /** Release of the recorded kernel. */
  readonly kernel: string;
  readonly arch: string;
  readonly scenario: string;
  /** What happens, in a sentence; empty if the recording has none. */
  readonly note: string;
}

export interface TraceRecord {
  /** Microseconds since the recording began. */
  readonly us: number;
  readonly dir: 'from-kernel' | 'to-kernel';
  /** The whole datagram; from the kernel padded to 4 bytes. */
  readonly frame: Uint8Array;
}

export interface Trace {
  readonly header: TraceHeader;
  readonly records: TraceRecord[];
}

/** The text is no trace. */
export class TraceError extends Error {
  override readonly name = 'TraceError';
  /** Stable: renaming it is a breaking change. */
  readonly code = 'ERR_TRACE';
  /** 1-based line of the text. */
  readonly line: number;

  constructor(line: number, problem: string, options?: ErrorOptions) {
    super(`line ${line} of the trace: ${problem}`, options);
    this.line = line;
  }
}

/** Throws {@link TraceError}, which names the line. Empty lines are skipped. */
export function parseTrace(text: string): Trace {
  let header: TraceHeader | undefined;
  const records: TraceRecord[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const fields = parseLine(line, index + 1);
    if (header === undefined) header = headerOf(fields, index + 1);
    else records.push(recordOf(fields, index + 1));
  }
  if (header === undefined)
    throw new TraceError(1, `no header; expected a line with "format":"${TRACE_FORMAT}"`);
  return { header, records };
}

type Fields = Readonly<Record<string, unknown>>;

function parseLine(line: string, number: number): Fields {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new TraceError(number, 'not JSON', { cause });
  }
  if (typeof value !== 'object' || value === null) throw new TraceError(number, 'not a JSON object');
  return value as Fields;
}

function headerOf(fields: Fields, line: number): TraceHeader {
  const { format } = fields as { format?: unknown };
  if (format !== TRACE_FORMAT) {
    throw new TraceError(line, `format is ${JSON.stringify(format)}, expected "${TRACE_FORMAT}"`);
  }
  const text = (key: string): string => {
    const value = fields[key];
    return typeof value === 'string' ? value : '';
  };
  return {
    format: TRACE_FORMAT,
    kernel: text('kernel'),
    arch: text('arch'),
    scenario: text('scenario'),
    note: text('note'),
  };
}

function recordOf(fields: Fields, line: number): TraceRecord {
  const { us, dir, hex } = fields as { us?: unknown; dir?: unknown; hex?: unknown };
  if (typeof us !== 'number' || !Number.isFinite(us)) throw new TraceError(line, 'us is not a number');
  if (dir !== 'from-kernel' && dir !== 'to-kernel') {
    throw new TraceError(line, 'dir is neither from-kernel nor to-kernel');
  }
  if (typeof hex !== 'string' || !/^(?:[0-9a-f]{2})*$/i.test(hex)) {
    throw new TraceError(line, 'hex is not a string of hexadecimal byte pairs');
  }
  const frame = new Uint8Array(hex.length / 2);
  for (let i = 0; i < frame.length; i++) frame[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return { us, dir, frame };
}
