import { shellQuote } from './channel.js';
import { LabError } from './errors.js';
import type { GuestProcess } from './guest-process.js';
import type { Machine } from './machine.js';

/** A tool of corosync that waits for a stopped daemon waits for ever. */
const TOOL_TIMEOUT_MS = 20_000;
const START_TIMEOUT_MS = 60_000;

export interface CorosyncNode {
  readonly id: number;
  readonly name: string;
  readonly address: string;
  /** Default 1. */
  readonly votes?: number;
}

export interface CorosyncSettings {
  readonly nodes: readonly CorosyncNode[];
  /** A silent node is out after 2.2 times this. */
  readonly tokenMs: number;
  /** Either of two nodes goes on alone (votequorum's `two_node`; both sides of a cut do, as nothing here fences). */
  readonly twoNode: boolean;
}

/** corosync.conf(5) of a lab cluster. Every brace stands at the end of a line or alone on it: its parser wants that. */
export function corosyncConf({ nodes, tokenMs, twoNode }: CorosyncSettings): string {
  const section = (name: string, lines: readonly string[]) => [
    `${name} {`,
    ...lines.map((line) => ` ${line}`),
    '}',
  ];
  const node = ({ id, name, address, votes = 1 }: CorosyncNode) =>
    section('node', [`nodeid: ${id}`, `name: ${name}`, `ring0_addr: ${address}`, `quorum_votes: ${votes}`]);
  const lines = [
    // At real-time priority on one processor it would starve its own clients.
    ...section('system', ['sched_rr: no']),
    ...section('totem', [
      'version: 2',
      'cluster_name: lab',
      'transport: udpu',
      'crypto_cipher: none',
      'crypto_hash: none',
      `token: ${tokenMs}`,
      'token_coefficient: 0',
    ]),
    ...section('nodelist', nodes.flatMap(node)),
    ...section('quorum', ['provider: corosync_votequorum', ...(twoNode ? ['two_node: 1'] : [])]),
    ...section('logging', ['to_stderr: yes', 'to_syslog: no', 'timestamp: hires']),
  ];
  return `${lines.join('\n')}\n`;
}

/** What one node's corosync says of the ring it is in (`corosync-quorumtool`). */
export interface RingState {
  /** `1.8`: the node that formed it and a number that grows, hexadecimal. Equal ids are the same ring. */
  readonly ringId: string;
  readonly quorate: boolean;
  /** Node ids, ascending. */
  readonly members: readonly number[];
}

/** Reads the output of `corosync-quorumtool -s -i`; undefined when it holds no ring (the daemon is starting, or away). */
export function parseRingState(text: string): RingState | undefined {
  const field = (name: string) => new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(text)?.[1];
  const ringId = field('Ring ID');
  const quorate = field('Quorate');
  const heading = /^Membership information$/m.exec(text);
  if (ringId === undefined || quorate === undefined || heading === null) return undefined;
  // One line per member: id, votes, perhaps the state of a quorum device, name.
  const rows = [...text.slice(heading.index).matchAll(/^\s+(\d+)\s+\d+\s/gm)];
  const members = rows.map((row) => Number(row[1])).sort((a, b) => a - b);
  return { ringId, quorate: quorate === 'Yes', members };
}

/** Starts corosync in a machine, with its state kept in `stateDirectory` of the host, and returns when it serves clients. */
export async function startCorosync(
  machine: Machine,
  conf: string,
  stateDirectory: string,
): Promise<GuestProcess> {
  // Of one killed before: rings of 3 MiB for each client, which nobody would free.
  const script = `mkdir -p /etc/corosync /var/lib/corosync && cat >/etc/corosync/corosync.conf && rm -rf /dev/shm/qb-*
    mountpoint -q /var/lib/corosync || mount -t hostfs -o ${shellQuote(stateDirectory)} none /var/lib/corosync`;
  await machine.run(script, { input: conf });
  const corosync = await machine.start('corosync -f');
  await corosync.waitFor('Completed service synchronization', START_TIMEOUT_MS);
  return corosync;
}

/** The ring that this machine's corosync is in, or undefined when it does not answer (away, starting, stopped). */
export async function ringState(machine: Machine): Promise<RingState | undefined> {
  try {
    const result = await machine.run('corosync-quorumtool -s -i', {
      check: false,
      timeoutMs: TOOL_TIMEOUT_MS,
    });
    return parseRingState(result.stdout);
  } catch (error) {
    if (error instanceof LabError && error.code === 'ERR_LAB_TIMEOUT') return undefined;
    throw error;
  }
}
