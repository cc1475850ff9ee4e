import { Presence } from '@dmlog/cluster';
import type { ClusterStatus } from '../serve-types.js';
import type { ReplicaHost } from './replica-host.js';

const PRESENCE_NAMES = {
  [Presence.LIVE]: 'live',
  [Presence.SUSPENDED]: 'suspended',
  [Presence.ABSENT]: 'absent',
} as const;

/** What an operator sees of a node's share in a clustered log. */
export function clusterStatusOf({
  replica,
  waitingMessages,
  joinSeconds,
  snapshotSeconds,
  vanished,
}: ReplicaHost): ClusterStatus {
  const { member, state, image } = replica;
  const nodes = [...(state?.nodes.values() ?? [])].sort((a, b) => a.nodeId - b.nodeId);
  return {
    nodeId: member?.self.nodeId ?? null,
    ring: member === null ? null : { nodeId: member.ring.nodeId, seq: member.ring.seq },
    quorate: member?.quorate === true,
    phase: member?.phase ?? 'none',
    mirror: replica.mirror,
    refusal: replica.refusal,
    position: state?.position ?? 0,
    digest: state === null ? null : hex(state.hash.high) + hex(state.hash.low),
    writer: member === null || member.writer === 0 ? null : member.writer,
    // Infinite: alone in the group, where everything is committed at once.
    committed: member === null || !Number.isFinite(member.committed) ? null : member.committed,
    members: nodes.map(({ nodeId, bootId, presence, marks, leases }) => ({
      nodeId,
      bootId,
      presence: PRESENCE_NAMES[presence],
      marks: marks.count,
      leases: leases.length,
    })),
    needReload: [...(state?.needReload ?? [])].sort((a, b) => a - b),
    staleCount: state?.stale.count ?? 0,
    givenUpCount: state?.givenUp.count ?? 0,
    keepsImage: image?.keeper != null,
    waitingMessages,
    joinSeconds,
    snapshotSeconds,
    vanished,
    counters: { ...(member?.counters ?? {}) },
  };
}

function hex(word: number): string {
  return word.toString(16).padStart(8, '0');
}
