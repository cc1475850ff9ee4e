import type { LabNode, LineClient } from '@dmlog/corosync-lab';
import type { CpgConfchg, CpgRing, CpgStats } from '../src/index.js';

export type MemberEvent =
  /** `ring`: the one current at delivery. */
  | { kind: 'message'; nodeId: number; pid: number; text: string; ring: number }
  | ({ kind: 'confchg' } & CpgConfchg)
  | ({ kind: 'ring' } & CpgRing)
  | ({ kind: 'quorum' } & CpgRing)
  | { kind: 'died'; code: string };

export interface OpenParameters {
  group: string;
  /** Count messages (each begins with a number) and check each sender's order, instead of reporting them. */
  quiet?: boolean;
  quorum?: boolean;
  maxInFlightMessages?: number;
  maxInFlightBytes?: number;
  timeoutMs?: number;
  libraries?: { cpg?: string; quorum?: string };
}

// A type, not an interface: it must fit LineMethods' index signature.
export type MemberMethods = {
  open(parameters: OpenParameters): Promise<{
    nodeId: number;
    pid: number;
    maxMessageBytes: number;
    hasQuorum: boolean;
  }>;
  join(): Promise<void>;
  send(parameters: { text: string }): boolean;
  sendSize(parameters: { bytes: number }): boolean;
  /** Resolves when all are taken. */
  flood(parameters: { count: number; size: number }): Promise<{ refused: number }>;
  received(): { count: number; inOrder: boolean; bytes: number };
  stats(): CpgStats;
  ring(): CpgRing | null;
  /** Runs of a timer of 5 ms: whether the event loop turns. */
  ticks(): number;
  leave(): Promise<void>;
  close(): Promise<void>;
};

export type Member = LineClient<MemberMethods, MemberEvent>;

export const startMember = (node: LabNode, program: string): Member =>
  node.client<MemberMethods, MemberEvent>(program);

/** A member that has joined. */
export async function joinedMember(
  node: LabNode,
  program: string,
  parameters: OpenParameters,
): Promise<Member> {
  const member = startMember(node, program);
  await member.request('open', parameters);
  await member.request('join');
  return member;
}

export const ofKind = <Kind extends MemberEvent['kind']>(
  events: readonly MemberEvent[],
  kind: Kind,
): Extract<MemberEvent, { kind: Kind }>[] =>
  events.filter((event): event is Extract<MemberEvent, { kind: Kind }> => event.kind === kind);

/** What a member was given, in order, to compare with another's. */
export const textsOf = (member: Member): string[] => ofKind(member.events, 'message').map(({ text }) => text);
