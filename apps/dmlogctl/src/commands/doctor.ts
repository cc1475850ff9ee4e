import { existsSync, readlinkSync } from 'node:fs';
import type { DaemonStatus } from '@dmlog/daemon';
import type { Connection } from '../connection.js';
import type { Environment } from '../environment.js';
import { ExitCode } from '../exit-codes.js';
import { isInItsUnit, processFindings } from './doctor-process.js';
import { unitOrderFindings } from './doctor-unit.js';
import { names, read } from './system-files.js';

export interface Finding {
  readonly level: 'ok' | 'note' | 'problem';
  readonly what: string;
  /** What to do; empty where nothing has to be done. */
  readonly advice: string;
}

type Check = (environment: Environment, status: DaemonStatus | null) => Finding[];

/** `doctor`: each finding with what to do. Exit code 1 where there is a problem. */
export async function doctor(
  connection: Connection,
  { json }: { json?: boolean },
  environment: Environment,
): Promise<number> {
  const findings: Finding[] = [];
  let status: DaemonStatus | null = null;
  try {
    status = (await connection.status()).status;
    findings.push(
      ok(`${connection.program} ${status.version} answers (pid ${status.pid}), ${status.logs.length} logs`),
    );
  } catch (error) {
    findings.push(
      problem(
        (error as Error).message,
        'start singled or clusterd; writes to mirrors with its logs wait until then',
      ),
    );
  }
  if (status !== null) {
    const { pid } = status;
    const { program } = connection;
    const found = processFindings(environment.procRoot, { pid, program });
    if (isInItsUnit(environment.procRoot, { pid, program }))
      found.push(...unitOrderFindings(program, await environment.unitProperties(`${program}.service`)));
    for (const [level, what, advice] of found) findings.push({ level, what, advice });
  }
  for (const check of CHECKS) findings.push(...check(environment, status));
  const isWell = findings.every(({ level }) => level !== 'problem');
  if (json === true) environment.out(`${JSON.stringify({ findings }, null, 2)}\n`);
  else environment.out(findings.map(lineOf).join(''));
  return isWell ? ExitCode.OK : ExitCode.FOUND;
}

const ok = (what: string): Finding => ({ level: 'ok', what, advice: '' });
const note = (what: string, advice: string): Finding => ({ level: 'note', what, advice });
const problem = (what: string, advice: string): Finding => ({ level: 'problem', what, advice });

function lineOf({ level, what, advice }: Finding): string {
  return `${level.padEnd(7)}  ${what}\n${advice === '' ? '' : `         → ${advice}\n`}`;
}

const CHECKS: readonly Check[] = [modules, namespaces, swap, received, legs, stacked, logDevices, cluster];

function modules({ sysfsRoot }: Environment): Finding[] {
  const missing = ['dm_mirror', 'dm_log_userspace'].filter(
    (name) => !existsSync(`${sysfsRoot}/module/${name}`),
  );
  if (missing.length === 0) return [ok('kernel modules dm-mirror and dm-log-userspace are loaded')];
  const names = missing.map((name) => name.replaceAll('_', '-')).join(' ');
  return [
    problem(
      `kernel modules missing: ${names}`,
      `modprobe -a ${names}; list them in /etc/modules-load.d to have them after a boot`,
    ),
  ];
}

function namespaces({ procRoot }: Environment, status: DaemonStatus | null): Finding[] {
  if (status === null) return [];
  const link = (pid: number): string | null => {
    try {
      return readlinkSync(`${procRoot}/${pid}/ns/net`);
    } catch {
      return null;
    }
  };
  const [init, daemons] = [link(1), link(status.pid)];
  if (init === null || daemons === null)
    return [note('the network namespace of the daemon cannot be seen', 'run this as root')];
  if (init === daemons) return [ok('the daemon is in the initial network namespace')];
  return [
    problem(
      'the daemon is in a network namespace of its own: the kernel speaks in the initial one only',
      'start it outside of containers, or with the host network',
    ),
  ];
}

function swap({ procRoot }: Environment): Finding[] {
  const lines = read(`${procRoot}/swaps`).split('\n').slice(1);
  if (lines.length === 0) return [ok('no swap: memory of the daemon cannot be swapped out')];
  const devices = lines.map((line) => line.split(/\s+/)[0]).join(', ');
  return [
    note(
      `swap is on (${devices})`,
      'never on a mirror that the daemon serves; give its unit MemorySwapMax=0',
    ),
  ];
}

function received(_environment: Environment, status: DaemonStatus | null): Finding[] {
  const count = (field: string): number => Number(status?.transport[field] ?? 0);
  if (status === null) return [];
  const found: Finding[] = [];
  if (count('overruns') > 0) {
    found.push(
      problem(
        `the receive buffer overflowed ${count('overruns')} times: each is a stall of 15 s`,
        'raise receiveBufferBytes in the configuration',
      ),
    );
  }
  if (count('handlerFaults') > 0)
    found.push(
      problem(`${count('handlerFaults')} requests met a bug of the daemon`, 'report it with its log'),
    );
  if (count('sendFailures') > 0)
    found.push(
      note(
        `${count('sendFailures')} answers were refused by the socket`,
        'the kernel asks again after 15 s; if it goes on, see the log',
      ),
    );
  return found.length > 0 ? found : [ok('no request was lost')];
}

/** Disks below a mirror with a volatile cache are flushed by the daemon before clears: that is right, and costs a flush. */
function legs({ sysfsRoot }: Environment, status: DaemonStatus | null): Finding[] {
  const logs = (status?.logs ?? []).flatMap(({ logDevice }) =>
    logDevice === null ? [] : [kernelNameOf(sysfsRoot, logDevice)],
  );
  const cached = mirrorsIn(sysfsRoot).flatMap(({ name, slaves }) =>
    slaves
      .filter((slave) => !logs.includes(slave))
      .filter((slave) => read(`${sysfsRoot}/block/${slave}/queue/write_cache`) === 'write back')
      .map((slave) => `${slave} (${name})`),
  );
  if (cached.length === 0) return [ok('no leg has a volatile write cache')];
  return [
    note(
      `legs with volatile write caches: ${cached.join(', ')}`,
      "nothing: the daemon flushes them before it calls regions clean; the kernel's own userspace log path does not",
    ),
  ];
}

/** The log would wait for itself. */
function stacked({ sysfsRoot }: Environment, status: DaemonStatus | null): Finding[] {
  const found: Finding[] = [];
  for (const log of status?.logs ?? []) {
    if (log.logDevice === null || log.dmName === null) continue;
    const device = kernelNameOf(sysfsRoot, log.logDevice);
    if (device !== null && standsOn(sysfsRoot, device, log.dmName)) {
      found.push(
        problem(
          `the log of ${log.dmName} (${log.uuid}) lies on that very mirror (${log.logDevice})`,
          'move the log to a device outside of it: a write would wait for itself',
        ),
      );
    }
  }
  return found;
}

function logDevices(_environment: Environment, status: DaemonStatus | null): Finding[] {
  return (status?.logs ?? []).flatMap((log) => {
    if (log.deviceStatus !== 'D' && log.deviceStatus !== 'F') return [];
    return [
      problem(
        `log device ${log.logDevice} of ${log.dmName ?? '?'} (${log.uuid}) has failed: the kernel holds writes to the mirror`,
        `repair it, then dmlogctl refresh ${log.dmName ?? log.uuid}`,
      ),
    ];
  });
}

function cluster(_environment: Environment, status: DaemonStatus | null): Finding[] {
  return (status?.logs ?? []).flatMap((log) => {
    if (log.cluster === undefined) return [];
    const who = `${log.dmName ?? '?'} (${log.uuid})`;
    const { quorate, phase, refusal, needReload, nodeId } = log.cluster;
    const found: Finding[] = [];
    if (nodeId === null)
      found.push(
        problem(`${who}: this node is not in the log's group`, 'is corosync running? corosync-cfgtool -s'),
      );
    else if (!quorate)
      found.push(
        problem(
          `${who}: no quorum: writes wait in the kernel`,
          'corosync-quorumtool says which nodes are missing',
        ),
      );
    else if (phase !== 'active') found.push(note(`${who}: not caught up yet (${phase})`, 'wait'));
    if (refusal !== null)
      found.push(problem(`${who}: refused by the group: ${refusal}`, 'give all nodes the same table'));
    if (needReload.length > 0)
      found.push(
        note(`${who}: regions in doubt`, `dmlogctl refresh ${log.uuid} on nodes ${needReload.join(', ')}`),
      );
    return found;
  });
}

interface DmDevice {
  readonly name: string;
  readonly slaves: string[];
}

function mirrorsIn(sysfsRoot: string): DmDevice[] {
  return names(`${sysfsRoot}/block`)
    .filter((device) => device.startsWith('dm-'))
    .map((device) => ({
      name: read(`${sysfsRoot}/block/${device}/dm/name`),
      slaves: names(`${sysfsRoot}/block/${device}/slaves`),
    }))
    .filter(({ slaves }) => slaves.length > 1);
}

/** `dm-3` of `/dev/mapper/log`, or of `254:3`. */
function kernelNameOf(sysfsRoot: string, device: string): string | null {
  for (const name of names(`${sysfsRoot}/block`)) {
    const isIt = read(`${sysfsRoot}/block/${name}/dev`) === device || device === `/dev/${name}`;
    if (isIt || device === `/dev/mapper/${read(`${sysfsRoot}/block/${name}/dm/name`)}`) return name;
  }
  return null;
}

/** Whether the device named `mirror` is below `device`; bounded, as sysfs has no circles but changes under us. */
function standsOn(sysfsRoot: string, device: string, mirror: string, depth = 0): boolean {
  if (depth > 16) return false;
  if (read(`${sysfsRoot}/block/${device}/dm/name`) === mirror) return true;
  return names(`${sysfsRoot}/block/${device}/slaves`).some((slave) =>
    standsOn(sysfsRoot, slave, mirror, depth + 1),
  );
}
