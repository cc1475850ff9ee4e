import { Presence } from '@dmlog/cluster';
import { reason } from '../device/errors.js';
import type { Logger } from '../logging.js';
import { type Dmsetup, mirrorsOf, reloadTable } from './dmsetup.js';
import type { ReplicaHost } from './replica-host.js';

/** So long after the wish: what belongs together (several logs, several nodes that die) has happened by then. */
export const RELOAD_DELAY_MS = 1000;
/** After a reload that failed, or could not be made, the next attempt comes this much later. */
export const RELOAD_RETRY_MS = 30_000;

/**
 * Reloads this node's mirrors where that does good: where their groups wait for it (design rule 19), as the regions that a dead node was writing are not resynced before;
 * and after a restart of the daemon, as nobody knows what the kernel has marked, so that every region would be resynced after a crash. One at a time, in
 * the background: the reload itself makes the kernel ask this very process. The nodes of a log take turns, the lowest first.
 */
export class Reloader {
  readonly #run: Dmsetup;
  readonly #logger: Logger;
  readonly #notBefore = new WeakMap<ReplicaHost, number>();
  readonly #wanted = new Set<ReplicaHost>();
  #timer: NodeJS.Timeout | null = null;
  #busy = false;
  #closed = false;

  constructor(run: Dmsetup, logger: Logger) {
    this.#run = run;
    this.#logger = logger;
  }

  /** This node's table of the log is to be reloaded. Cheap. */
  want(host: ReplicaHost): void {
    if (this.#wanted.has(host) || this.#closed) return;
    this.#wanted.add(host);
    this.#schedule();
  }

  close(): void {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #schedule(): void {
    if (this.#timer !== null || this.#busy || this.#closed || this.#wanted.size === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#busy = true;
      this.#reloadAll().finally(() => {
        this.#busy = false;
        this.#schedule();
      });
    }, RELOAD_DELAY_MS);
    this.#timer.unref();
  }

  async #reloadAll(): Promise<void> {
    for (const host of [...this.#wanted]) {
      if (!isTurnOf(host)) {
        // Whatever changes that comes with a message of the group, which asks again.
        this.#wanted.delete(host);
        continue;
      }
      if (performance.now() < (this.#notBefore.get(host) ?? 0)) continue;
      this.#wanted.delete(host);
      this.#notBefore.set(host, performance.now() + RELOAD_RETRY_MS);
      await this.#reload(host);
      if (isTurnOf(host)) this.#wanted.add(host);
    }
  }

  async #reload({ uuid }: ReplicaHost): Promise<void> {
    try {
      const mirrors = mirrorsOf(uuid, await this.#run(['table', '--target', 'mirror']));
      if (mirrors.length === 0) throw new Error(`no mirror has a log of this uuid`);
      for (const mirror of mirrors) {
        const about = { uuid, mirror: mirror.name };
        const done = await reloadTable(this.#run, mirror);
        if (done) this.#logger.info(about, 'table reloaded');
        else this.#logger.warn(about, 'table not reloaded: another command is at work on the mirror');
      }
    } catch (error) {
      this.#logger.error(
        { uuid, err: error },
        `the table of a mirror has to be reloaded, which failed: ${reason(error)}; reload it (dmsetup load, dmsetup resume)`,
      );
    }
  }
}

/** Whether this node's table is to be reloaded, and no participant's before it. */
function isTurnOf(host: ReplicaHost): boolean {
  const { member, state } = host.replica;
  if (!host.wantsReload || member === null || state === null) return false;
  const { nodeId } = member.self;
  if (!state.needReload.has(nodeId)) return true;
  for (const node of state.nodes.values()) {
    if (node.nodeId < nodeId && node.presence === Presence.LIVE && state.needReload.has(node.nodeId))
      return false;
  }
  return true;
}
