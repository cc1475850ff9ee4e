import { type GroupHandlers, type JoinGroup, SimulatedNetwork, TAME_NETWORK } from '@dmlog/cluster';
import type { Reply } from '@dmlog/protocol';
import { onTestFinished } from 'vitest';
import type { Dmsetup } from '../src/cluster/dmsetup.js';
import type { ClusterStatus, DaemonConfig, ServeParts } from '../src/index.js';
import { Kernel, type MemoryDevice, type TestLog } from './kernel.js';

/** Turns of the event loop that anything may take; ticks come every 100 ms. */
const WAIT_MS_MAX = 20_000;

/** Daemons of several nodes in one process, over a simulated group. The network goes on by itself, a little in each turn of the event loop. */
export class ClusterNodes {
  readonly network: SimulatedNetwork;
  readonly kernels = new Map<number, Kernel>();
  /** By node, what it sees of the shared disks. */
  readonly #devices: Record<string, MemoryDevice>;
  #running = true;
  readonly #hung = new Map<number, (() => void)[]>();

  constructor(nodes: number[], devices: Record<string, MemoryDevice> = {}) {
    let seed = 1;
    // Park and Miller's generator: any sequence will do, a fixed one repeats.
    const random = () => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed / 2_147_483_647;
    };
    this.network = new SimulatedNetwork({ nodes, random, chances: TAME_NETWORK });
    this.#devices = devices;
    const step = () => {
      this.network.run(200);
      if (this.#running) setImmediate(step);
    };
    setImmediate(step);
    onTestFinished(async () => {
      for (const kernel of this.kernels.values()) await kernel.daemon.stop('test over');
      this.#running = false;
    });
  }

  /** The node's daemon hangs: it hears nothing of its groups until {@link letGo}. Its kernel's requests it still answers. */
  hang(nodeId: number): void {
    this.#hung.set(nodeId, []);
  }

  letGo(nodeId: number): void {
    const events = this.#hung.get(nodeId) ?? [];
    this.#hung.delete(nodeId);
    for (const event of events) event();
  }

  /** Handlers that keep what comes while the node hangs. */
  #hanging(nodeId: number, handlers: GroupHandlers): GroupHandlers {
    const orLater = (event: () => void) => {
      const events = this.#hung.get(nodeId);
      if (events === undefined) event();
      else events.push(event);
    };
    return {
      confchg: (...args) => orLater(() => handlers.confchg(...args)),
      ring: (...args) => orLater(() => handlers.ring(...args)),
      deliver: (sender, bytes) => {
        const copy = bytes.slice();
        orLater(() => handlers.deliver(sender, copy));
      },
      drain: () => orLater(() => handlers.drain()),
      died: (...args) => orLater(() => handlers.died(...args)),
    };
  }

  /** Starts the daemon of a node. */
  async start(
    nodeId: number,
    config: Partial<DaemonConfig> = {},
    dmsetup?: Dmsetup,
    options: Pick<ServeParts, 'openState'> & { firstSeq?: number } = {},
  ): Promise<Kernel> {
    const joinGroup: JoinGroup = async (name, handlers) =>
      this.network.join(nodeId, name, this.#hanging(nodeId, handlers));
    const bootId = String(nodeId).padStart(32, '0');
    const kernel = await Kernel.start(this.#devices, config, {
      ...options,
      cluster: { joinGroup, check: async () => {}, bootId, ...(dmsetup === undefined ? {} : { dmsetup }) },
    });
    this.kernels.set(nodeId, kernel);
    return kernel;
  }
}

/** Waits until `what` is true, or fails with `message`. */
export async function until(what: () => boolean, message: () => string): Promise<void> {
  const deadline = performance.now() + WAIT_MS_MAX;
  while (!what()) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${message()}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The reply to `seq`, however long it takes. */
export async function replyTo(kernel: Kernel, seq: number): Promise<Reply> {
  await until(
    () => kernel.replyTo(seq) !== null,
    () => `no reply to ${seq}; ${JSON.stringify(kernel.daemon.status())}`,
  );
  return kernel.takeReply(seq) as Reply;
}

export function clusterOf(kernel: Kernel, { uuid, luid }: TestLog): ClusterStatus {
  const low = luid.low.toString(16).padStart(8, '0');
  const found = kernel.daemon
    .status()
    .logs.find((log) => log.uuid === uuid && log.luid.endsWith(low))?.cluster;
  if (found === undefined) throw new Error(`no clustered log ${uuid}`);
  return found;
}
