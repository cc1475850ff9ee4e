import { fileURLToPath } from 'node:url';
import {
  buildProgram,
  type Cluster,
  type ClusterOptions,
  clusterUsable,
  startCluster,
} from '@dmlog/corosync-lab';
import { afterAll, afterEach, beforeAll, describe } from 'vitest';
import { joinedMember, type Member, type OpenParameters, startMember } from './member-client.js';

const path = (relative: string): string => fileURLToPath(new URL(`../${relative}`, import.meta.url));

export interface Rig {
  readonly cluster: Cluster;
  /** Path of the program to run in a node. */
  readonly program: string;
  /** A member of a group of this test's own, that has joined. It ends with the test. */
  join(nodeId: number, parameters?: Partial<OpenParameters>): Promise<Member>;
  /** A member's process that has not opened anything. */
  start(nodeId: number): Member;
}

const USABLE = clusterUsable();

/** `describe`; skipped loudly without root, failing there under CI=true. */
export const describeCluster = USABLE ? describe : describe.skip;

let groups = 0;

/** A cluster for the tests of a file, and a program (in this folder) built for it. Members end after each test. */
export function useCluster(options: ClusterOptions, entry = 'member.ts'): Rig {
  let cluster: Cluster | undefined;
  let program: { path: string; remove(): void } | undefined;
  let group = '';
  const members: Member[] = [];

  beforeAll(async () => {
    if (!USABLE) return;
    [cluster, program] = await Promise.all([
      startCluster(options),
      // In build/: two levels below the package's root, where loadBinding looks for the addon.
      buildProgram(path(`test/${entry}`), path('build')),
    ]);
  });
  afterEach(async () => {
    await Promise.all(members.splice(0).map((member) => member.kill()));
    group = '';
  });
  afterAll(async () => {
    program?.remove();
    await cluster?.destroy();
  });

  const started = (member: Member): Member => {
    members.push(member);
    return member;
  };
  return {
    get cluster() {
      return cluster!;
    },
    get program() {
      return program!.path;
    },
    start: (nodeId) => started(startMember(cluster!.node(nodeId), program!.path)),
    async join(nodeId, parameters = {}) {
      group ||= `test ${++groups}`;
      return started(await joinedMember(cluster!.node(nodeId), program!.path, { group, ...parameters }));
    },
  };
}
