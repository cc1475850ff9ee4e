import { readdirSync, readFileSync } from 'node:fs';

/** What a process has cost so far. Times are totals, sizes are of now. */
export interface ProcessCost {
  /** utime + stime in clock ticks of 10 ms, /proc/pid/stat. */
  readonly cpuTicks: number;
  /** Time on a processor in ns, all threads, /proc/pid/task/…/schedstat: finer than a tick. */
  readonly cpuNs: number;
  /** Bytes sent to block devices on behalf of the process, /proc/pid/io. tmpfs does not count, the page cache at once. */
  readonly writtenBytes: number;
  /** VmRSS in bytes. */
  readonly rssBytes: number;
  /** VmHWM, the highest VmRSS ever, in bytes. */
  readonly peakRssBytes: number;
}

/** Reads /proc. Throws the file system's error when the process has ended. */
export function processCost(pid: number): ProcessCost {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // Fields 14 and 15; field 2 is the name in parentheses and may hold blanks.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return {
    cpuTicks: Number(fields[11]) + Number(fields[12]),
    cpuNs: threadTimesNs(pid),
    writtenBytes: numberAfter(readFileSync(`/proc/${pid}/io`, 'utf8'), 'write_bytes:'),
    rssBytes: numberAfter(status, 'VmRSS:') * 1024,
    peakRssBytes: numberAfter(status, 'VmHWM:') * 1024,
  };
}

function threadTimesNs(pid: number): number {
  let total = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    total += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
  }
  return total;
}

function numberAfter(text: string, key: string): number {
  const at = text.indexOf(key);
  return at < 0 ? Number.NaN : Number.parseInt(text.slice(at + key.length), 10);
}
