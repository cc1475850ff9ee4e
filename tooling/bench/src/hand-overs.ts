import { setTimeout as sleep } from 'node:timers/promises';
import { controlRequest, DaemonStatus } from '@dmlog/daemon';
import { allowedCpus, compileNative } from './native.js';
import { REGION_COUNTS } from './rounds.js';
import { median } from './statistics.js';
import { type Subject, startSubject } from './subjects.js';
import { renderVerdicts } from './table.js';
import type { Verdict } from './targets.js';

/** What a hand-over must keep to, on a machine that does nothing else: the longest that any request waits. */
export const HAND_OVER_TARGETS = { roundTripNs: 250_000_000 } as const;

/** Mirrors that write at the same time. */
const MIRRORS = 4;
/** Hand-overs come while a run of so many milliseconds plays; then its round trips are looked at. */
const STRETCH_MS = 2000;
const HAND_OVER_MS_MAX = 60_000;
const LOOK_AGAIN_MS = 10;

export interface HandOversOptions {
  readonly count: number;
  /** Further arguments of singled. */
  readonly singledArgs?: readonly string[];
  readonly print?: (text: string) => void;
}

export interface HandOversResult {
  /** Of each hand-over: milliseconds in which nobody read requests, as the new daemon says. */
  readonly gapsMs: readonly number[];
  readonly requests: number;
  /** The longest of all round trips. */
  readonly longestNs: number;
  readonly lost: number;
  readonly verdicts: readonly Verdict[];
}

/** singled is succeeded by another process `count` times, under the writes of some mirrors: what the longest round trip was. Absolute times: see `runSteady`. */
export async function runHandOvers({
  count,
  singledArgs = [],
  print = () => {},
}: HandOversOptions): Promise<HandOversResult> {
  const cpus = allowedCpus().join(',');
  const subject = await startSubject('singled', { programs: compileNative(), cpus, singledArgs });
  let pid = subject.pid;
  const endSuccessor = (): void => {
    if (pid !== subject.pid) process.kill(pid, 'SIGTERM');
  };
  process.once('exit', endSuccessor);
  try {
    for (let log = 0; log < MIRRORS; log++) {
      await subject.driver.open({ log, regions: REGION_COUNTS.small, args: 'core 2 nosync' });
    }
    let over = false;
    const load = underLoad(subject, () => over);
    const gapsMs: number[] = [];
    try {
      for (let i = 0; i < count; i++) {
        const next = await Promise.race([handOver(subject, pid), load.then(() => null)]);
        if (next === null) break;
        pid = next.pid;
        gapsMs.push(next.handOverGapMs ?? Number.NaN);
      }
    } finally {
      over = true;
    }
    const measured = { gapsMs, ...(await load) };
    const result = { ...measured, verdicts: judge(measured, count) };
    print(`${render(result)}\n\n${renderVerdicts(result.verdicts)}\n`);
    return result;
  } finally {
    process.removeListener('exit', endSuccessor);
    await subject.driver.end();
    endSuccessor();
    await subject.stop();
  }
}

async function underLoad(
  subject: Subject,
  isOver: () => boolean,
): Promise<Pick<HandOversResult, 'requests' | 'longestNs' | 'lost'>> {
  let [requests, longestNs, lost] = [0, 0, 0];
  while (!isOver()) {
    const report = await subject.run({
      script: 'write',
      log: 0,
      logs: MIRRORS,
      lanes: MIRRORS,
      ms: STRETCH_MS,
      strict: true,
    });
    requests += report.requests;
    lost += report.lost;
    longestNs = Math.max(longestNs, ...Object.values(report.types).map(({ max }) => max));
  }
  return { requests, longestNs, lost };
}

/** Asks the daemon for a hand-over; resolves with the next one's status once that can be asked. */
async function handOver(subject: Subject, pid: number): Promise<DaemonStatus> {
  process.kill(pid, 'SIGHUP');
  const until = performance.now() + HAND_OVER_MS_MAX;
  for (;;) {
    try {
      const status = DaemonStatus.parse(await controlRequest(subject.controlSocket, 'status'));
      if (status.pid !== pid) return status;
    } catch (error) {
      // Neither of them has the control socket at the moment.
      if (performance.now() >= until) throw error;
    }
    if (performance.now() >= until) throw new Error(`process ${pid} did not hand over`);
    await sleep(LOOK_AGAIN_MS);
  }
}

function judge(
  { longestNs, lost, gapsMs }: Omit<HandOversResult, 'verdicts' | 'requests'>,
  count: number,
): Verdict[] {
  return [
    {
      target: `no request waits longer than ${HAND_OVER_TARGETS.roundTripNs / 1e6} ms`,
      value: `${(longestNs / 1e6).toFixed(1)} ms`,
      passed: longestNs <= HAND_OVER_TARGETS.roundTripNs,
    },
    { target: 'no request without a reply', value: String(lost), passed: lost === 0 },
    {
      target: `${count} hand-overs`,
      value: String(gapsMs.length),
      passed: gapsMs.length === count && gapsMs.every((gap) => gap >= 0),
    },
  ];
}

function render({ gapsMs, requests, longestNs }: HandOversResult): string {
  return [
    `${gapsMs.length} hand-overs of singled under ${MIRRORS} mirrors' writes, ${requests} requests`,
    `nobody read for ${median(gapsMs).toFixed(1)} ms (median), ${Math.max(...gapsMs).toFixed(1)} ms at most; longest round trip ${(longestNs / 1e6).toFixed(1)} ms`,
  ].join('\n');
}
