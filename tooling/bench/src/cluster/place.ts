import { execFileSync } from 'node:child_process';
import type { Cluster } from '@dmlog/corosync-lab';
import { allowedCpus } from '../native.js';

/** Least real-time priority, of what is measured against each other. */
const PRIORITY = 1;

function run(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: 'ignore' });
}

/** The process goes before whatever else the machine is doing. In a container that may not do that, numbers are as quiet as the machine. */
export function goFirst(pid: number, priority = PRIORITY): void {
  try {
    run('chrt', '-a', '-r', '-p', String(priority), String(pid));
  } catch {
    // As said.
  }
}

/**
 * Corosync of all nodes on one processor, all their members on another, if there are two. Corosync runs with real-time priority and passes the token round without a
 * pause for a while after each message: three of them on two processors leave the members next to nothing, which no cluster of real machines does.
 *
 * Members, C and ours alike, go before other work, and those of the node that measures before the others', which in a cluster of machines would not be in its way
 * either. `members`: pids by node.
 */
export function place(cluster: Cluster, members: readonly (readonly number[])[]): void {
  for (const [rank, pids] of members.entries())
    for (const pid of pids) goFirst(pid, rank === 0 ? PRIORITY + 1 : PRIORITY);
  const [first, second] = allowedCpus();
  if (second === undefined) return;
  const pin = (cpu: number, pid: number) => run('taskset', '-a', '-p', '-c', String(cpu), String(pid));
  for (const { pid } of cluster.nodes) if (pid !== undefined) pin(first!, pid);
  for (const pid of members.flat()) pin(second, pid);
}
