import { serveLines } from '@dmlog/corosync-lab';
import { BenchKernel, type PlayedLog } from './cluster/kernel.js';
import {
  playDisk,
  playFlushes,
  playLocal,
  playMarks,
  playResync,
  playWork,
  playWrites,
} from './cluster/plays.js';

/*
 * One node of the cluster bench, driven over its standard input: clusterd's insides on this node's corosync, and the kernel that asks them. See
 * `cluster/kernel.ts` for what is real.
 *
 *   node cluster-node.js RUNTIME_DIR
 */

/** Regions that a node writes to begin here, past those that stay marked. */
const FIRST_FRESH = 65_536;

interface OpenLog extends PlayedLog {
  readonly regions: number;
  /** Of the next region that nobody has marked; nodes do not meet. */
  next: number;
}

/** How to name a log: nodes that open the same name share it. */
export interface OpenRequest {
  readonly name: string;
  /** From the log type on: `clustered-core nosync`. */
  readonly args: string;
  readonly regions: number;
  /** Of this node, and how many there are: each writes to regions of its own. */
  readonly rank: number;
  readonly nodes: number;
}

export type NodeMethods = typeof methods;

const kernel = await BenchKernel.start(process.argv[2]!);
const logs = new Map<string, OpenLog>();
let lastLuid = 0;

function logOf(name: string): OpenLog {
  const log = logs.get(name);
  if (log === undefined) throw new Error(`no log ${name} is open`);
  return log;
}

/** Regions of this node's share, in order, over and over. */
function fresh(log: OpenLog): () => number {
  return () => {
    log.next = log.next + 1 < log.regions ? log.next + 1 : FIRST_FRESH;
    return log.next;
  };
}

const methods = {
  /** Returns how long RESUME took, in ns. */
  open({ name, args, regions, rank, nodes }: OpenRequest): Promise<number> {
    const share = Math.floor((regions - FIRST_FRESH) / nodes);
    const next = regions > FIRST_FRESH ? FIRST_FRESH + rank * share : 0;
    const log: OpenLog = { uuid: name, luid: { low: ++lastLuid, high: 1 }, regions, next };
    logs.set(name, log);
    return kernel.open(log, args, regions);
  },
  async close({ name }: { name: string }): Promise<void> {
    await kernel.close(logOf(name));
    logs.delete(name);
  },
  play({ what, name, ms }: { what: 'writes' | 'flushes' | 'work' | 'local'; name: string; ms: number }) {
    const log = logOf(name);
    switch (what) {
      case 'writes':
        return playWrites(kernel, log, ms, fresh(log));
      case 'flushes':
        return playFlushes(kernel, log, ms, fresh(log));
      case 'work':
        return playWork(kernel, log, ms, fresh(log));
      case 'local':
        return playLocal(kernel, log, ms, 0);
    }
  },
  /** One block after the other to this file. */
  disk({ path, ms }: { path: string; ms: number }) {
    return playDisk(path, ms);
  },
  resync({ name, copyMs }: { name: string; copyMs: number }) {
    const log = logOf(name);
    return playResync(kernel, log, log.regions, copyMs);
  },
  marks({ name, from, count, step }: { name: string; from: number; count: number; step: number }) {
    return playMarks(
      kernel,
      logOf(name),
      Array.from({ length: count }, (_, i) => from + i * step),
    );
  },
  /** Messages that this node gave to the log's group so far. */
  sent({ name }: { name: string }): number {
    return kernel.sent(logOf(name));
  },
};

serveLines(methods);
