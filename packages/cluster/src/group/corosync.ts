import type { CpgChange, CpgGroup, CpgHandlers, CpgOptions, CpgRing } from 'corosync-cpg-napi';
import {
  type GroupHandlers,
  type GroupMember,
  type JoinedMember,
  type JoinGroup,
  JoinReason,
  LeaveReason,
  type LeftMember,
  type OrderedGroup,
} from './contract.js';
import { checkGroupName } from './group-name.js';

/** Settings of the binding, but the group's name. */
export type CorosyncGroupOptions = Omit<CpgOptions, 'group' | 'handlers' | 'quorum'>;

const NO_QUORUM =
  'corosync has no quorum provider: add "quorum { provider: corosync_votequorum }" to corosync.conf on every node, and restart it';

/** `cpg_reason_t` (corosync/cpg.h) to the contract's reasons. What corosync does not name counts as the worse of the two. */
const LEFT: Readonly<Record<number, LeaveReason>> = {
  2: LeaveReason.LEAVE,
  3: LeaveReason.NODEDOWN,
  5: LeaveReason.PROCDOWN,
};
const JOINED: Readonly<Record<number, JoinReason>> = { 1: JoinReason.JOIN, 4: JoinReason.NODEUP };

/**
 * Groups of corosync on this host. The binding is loaded at the first join, so that this package works where there is no corosync; then the join rejects
 * with the binding's error, which says what to install or start.
 *
 * @example
 * const join = corosyncGroup();
 * const group = await join('dmlog', handlers);
 */
export function corosyncGroup(options: CorosyncGroupOptions = {}): JoinGroup {
  return async (name, handlers) => {
    checkGroupName(name);
    const { openCpg } = await import('corosync-cpg-napi');
    const membership = new CorosyncMembership(handlers);
    const group = await openCpg({ ...options, group: name, handlers: membership.events });
    try {
      if (!group.hasQuorum) throw new Error(NO_QUORUM);
      await group.join();
    } catch (error) {
      await group.close();
      throw error;
    }
    membership.begin(group);
    return membership;
  };
}

/** What the contract asks for and the binding does not do: nothing before the join is known to the caller, nothing of one's own end, no handler that throws. */
class CorosyncMembership implements OrderedGroup {
  readonly events: CpgHandlers;
  readonly #handlers: GroupHandlers;
  #group: CpgGroup | null = null;
  /** Events from before the caller had the group. Null: it has. */
  #early: (() => void)[] | null = [];
  #leaving: Promise<void> | null = null;
  #ended = false;

  constructor(handlers: GroupHandlers) {
    this.#handlers = handlers;
    const tellRing = (ring: CpgRing) =>
      this.#tell(() =>
        handlers.ring({ nodeId: ring.nodeId, seq: ring.seq }, ring.nodes, ring.quorate === true),
      );
    this.events = {
      deliver: (nodeId, pid, bytes) => this.#tell(() => handlers.deliver({ nodeId, pid }, bytes)),
      confchg: ({ members, left, joined }) => {
        if (left.some((one) => this.#isSelf(one))) return;
        this.#tell(() => handlers.confchg(members, left.map(leftMember), joined.map(joinedMember)));
      },
      ring: tellRing,
      quorum: tellRing,
      drain: () => this.#tell(() => handlers.drain()),
      died: (error) => {
        if (this.#leaving === null) this.#tell(() => this.#die(error));
      },
    };
  }

  /** The caller gets the group in the same turn of the event loop; the events begin with the next. */
  begin(group: CpgGroup): void {
    this.#group = group;
    setImmediate(() => {
      const early = this.#early ?? [];
      this.#early = null;
      for (const event of early) this.#tell(event);
    });
  }

  get self(): GroupMember {
    return this.#joinedGroup.self;
  }

  get maxMessageBytes(): number {
    return this.#joinedGroup.maxMessageBytes;
  }

  send(bytes: Uint8Array): boolean {
    if (this.#ended || this.#leaving !== null) throw new Error('this group was left or closed');
    if (bytes.length > this.maxMessageBytes)
      throw new RangeError(`message of ${bytes.length} bytes: ${this.maxMessageBytes} at most`);
    return this.#joinedGroup.send(bytes);
  }

  leave(): Promise<void> {
    if (this.#leaving !== null) return this.#leaving;
    if (this.#ended) return Promise.resolve();
    const ended = () => {
      this.#ended = true;
    };
    // It rejects only when corosync is gone or was closed meanwhile: the group is left all the same.
    this.#leaving = this.#joinedGroup.leave().then(ended, ended);
    return this.#leaving;
  }

  close(): Promise<void> {
    this.#ended = true;
    return this.#joinedGroup.close();
  }

  get #joinedGroup(): CpgGroup {
    return this.#group!;
  }

  #isSelf(member: GroupMember): boolean {
    return this.#group !== null && member.nodeId === this.self.nodeId && member.pid === this.self.pid;
  }

  #tell(event: () => void): void {
    if (this.#early !== null) {
      this.#early.push(event);
      return;
    }
    if (this.#ended) return;
    try {
      event();
    } catch (thrown) {
      if (this.#ended) return;
      void this.close();
      this.#handlers.died(thrown instanceof Error ? thrown : new Error(String(thrown)));
    }
  }

  #die(error: Error): void {
    this.#ended = true;
    this.#handlers.died(error);
  }
}

function leftMember({ nodeId, pid, reason }: CpgChange): LeftMember {
  return { nodeId, pid, reason: LEFT[reason] ?? LeaveReason.NODEDOWN };
}

function joinedMember({ nodeId, pid, reason }: CpgChange): JoinedMember {
  return { nodeId, pid, reason: JOINED[reason] ?? JoinReason.NODEUP };
}
