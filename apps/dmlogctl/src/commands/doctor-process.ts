import type { DaemonStatus } from '@dmlog/daemon';
import { names, read } from './system-files.js';

/** What is to be said of the daemon's process: level, what, advice. */
export type ProcessFinding = readonly [level: 'ok' | 'note' | 'problem', what: string, advice: string];

/** Bits of a capability set (linux/capability.h), and what is lost without them. */
const NEEDED = { CAP_NET_ADMIN: 12, CAP_SYS_ADMIN: 21 } as const;
const WANTED = { CAP_IPC_LOCK: 14, CAP_SYS_RESOURCE: 24 } as const;
const OOM_SCORE_SPARED = -1000;

/** Looks at the process of a daemon that answers: its rights, its memory, its unit, and corosync beside it. */
export function processFindings(
  procRoot: string,
  { pid, program }: { pid: DaemonStatus['pid']; program: string },
): ProcessFinding[] {
  const status = read(`${procRoot}/${pid}/status`);
  if (status === '')
    return [['note', `the process of the daemon (${pid}) cannot be seen`, 'run this as root']];
  return [
    ...rights(status),
    ...memory(status, read(`${procRoot}/${pid}/oom_score_adj`)),
    ...unit(program, read(`${procRoot}/${pid}/cgroup`)),
    ...corosync(program, procRoot),
  ];
}

function rights(status: string): ProcessFinding[] {
  const has = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  const without = (set: Readonly<Record<string, number>>): string =>
    Object.keys(set)
      .filter((name) => ((has >> BigInt(set[name] as number)) & 1n) === 0n)
      .join(', ');
  const [needed, wanted] = [without(NEEDED), without(WANTED)];
  if (needed !== '')
    return [
      [
        'problem',
        `the daemon lacks ${needed}: the kernel ignores its answers`,
        'start it as root, or by its unit',
      ],
    ];
  if (wanted !== '')
    return [
      [
        'note',
        `the daemon lacks ${wanted}: under memory pressure it may wait for a disk that waits for it`,
        'start it as root, or by its unit',
      ],
    ];
  return [['ok', 'the daemon has the rights that it needs', '']];
}

function memory(status: string, oomScore: string): ProcessFinding[] {
  const found: ProcessFinding[] = [];
  const swapped = Number(/^VmSwap:\s*(\d+) kB$/m.exec(status)?.[1] ?? 0);
  if (swapped > 0)
    found.push([
      'problem',
      `${swapped} KiB of the daemon are in swap: writes wait until they are back, and a swap on one of its mirrors never answers`,
      'give its unit MemorySwapMax=0',
    ]);
  if (oomScore !== '' && Number(oomScore) !== OOM_SCORE_SPARED)
    found.push([
      'note',
      `the daemon may be killed when memory runs out (oom_score_adj ${oomScore})`,
      'start it by its unit (OOMScoreAdjust=-1000)',
    ]);
  return found;
}

/** Whether the daemon runs in the unit of its name. */
export function isInItsUnit(procRoot: string, { pid, program }: { pid: number; program: string }): boolean {
  return serviceOf(read(`${procRoot}/${pid}/cgroup`)) === `${program}.service`;
}

/** The service of a `/proc/<pid>/cgroup`. */
function serviceOf(cgroup: string): string | undefined {
  return /\/([^/\n]+\.service)$/m.exec(cgroup)?.[1];
}

/** The units order the daemon before file systems are mounted and keep it until they are unmounted. */
function unit(program: string, cgroup: string): ProcessFinding[] {
  const service = serviceOf(cgroup);
  if (service === `${program}.service`) return [['ok', `the daemon runs in its unit (${service})`, '']];
  const where = service === undefined ? 'is not run by a unit' : `runs in ${service}`;
  return [
    [
      'note',
      `the daemon ${where}: nothing starts it before file systems are mounted, or keeps it until they are unmounted`,
      'install the units (docs/operations.md): systemctl enable --now singled, or clusterd',
    ],
  ];
}

function corosync(program: string, procRoot: string): ProcessFinding[] {
  if (program !== 'clusterd') return [];
  const runs = names(procRoot).some(
    (name) => /^[0-9]+$/.test(name) && read(`${procRoot}/${name}/comm`) === 'corosync',
  );
  if (runs) return [['ok', 'corosync runs', '']];
  return [['problem', 'corosync does not run: clustered logs wait', 'systemctl start corosync; see its log']];
}
