import { fileURLToPath } from 'node:url';
import { buildProgram, type Cluster, type LineClient, startCluster, waitUntil } from '@dmlog/corosync-lab';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { JoinReason, LeaveReason } from '../src/group/contract.js';
import type { ChildMethods } from './group-child.js';
import { describeOrderedGroup } from './group-compliance.js';
import {
  checkStream,
  has,
  inRing,
  type Participant,
  seesAll,
  type TestCluster,
  whyJoined,
  whyLeft,
} from './group-participants.js';
import type { RecordedEvent } from './group-recorder.js';

type Child = LineClient<ChildMethods, RecordedEvent>;

/** Long enough that a busy host does not make rings break by itself; a dead node is noticed after 2.2 times this. */
const TOKEN_MS = 2000;
const UNTIL_MS = 60_000;
const START_MS = 180_000;
const NODES = [1, 2, 3];

let lab: Cluster;
let program: { path: string; remove(): void };
const children = new Set<Child>();

beforeAll(async () => {
  const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
  program = await buildProgram(here('group-child.ts'), here('../.cache'));
  lab = await startCluster({ nodes: NODES.length, tokenMs: TOKEN_MS });
}, START_MS);

afterAll(async () => {
  await Promise.all([...children].map((child) => child.kill()));
  await lab?.destroy();
  program?.remove();
}, START_MS);

const corosync: TestCluster = {
  async join(nodeId, group): Promise<Participant> {
    const child: Child = lab.node(nodeId).client(program.path);
    children.add(child);
    void child.exited.then(() => children.delete(child));
    try {
      const self = await child.request('join', group);
      return {
        nodeId,
        self,
        events: child.events,
        // The next thing that a test waits for tells whether it was done.
        do: (command) => void child.request('do', command).catch(() => {}),
        kill: () => void child.kill(),
      };
    } catch (error) {
      await child.kill();
      throw error;
    }
  },
  until: (what, condition) => waitUntil(what, condition, UNTIL_MS),
  partition: (parts) => lab.partition(parts),
  heal: () => lab.healAll(),
  killEngine: (nodeId) => lab.kill(nodeId),
  startEngine: (nodeId) => lab.restart(nodeId),
};

describeOrderedGroup('corosync', async () => corosync);

it('corosync: shows a node whose engine stood still the others as gone and back', async () => {
  const members = [await corosync.join(1, 'paused'), await corosync.join(2, 'paused')];
  const [a, b] = members as [Participant, Participant];
  await corosync.until('both are in', () =>
    members.every((one) => seesAll(one, members) && inRing(one, NODES)),
  );
  const from = a.events.length;
  lab.pauseCorosync(1);
  await corosync.until('b sees it gone', () => seesAll(b, [b]) && inRing(b, [2, 3]));
  b.do({ op: 'send', texts: ['missed'] });
  await corosync.until('b has its message', () => has(b, 'missed'));
  lab.resumeCorosync(1);
  await corosync.until('all is whole', () =>
    members.every((one) => seesAll(one, members) && inRing(one, NODES)),
  );
  b.do({ op: 'send', texts: ['seen'] });
  await corosync.until('a gets messages again', () => has(a, 'seen'));
  expect(has(a, 'missed')).toBe(false);
  expect(whyLeft(a, b, from)).toBe(LeaveReason.NODEDOWN);
  expect(whyJoined(a, b, from)).toBe(JoinReason.NODEUP);
  expect(whyLeft(a, a, from)).toBe(undefined);
  for (const one of members) checkStream(one.self, one.events);
  for (const one of members) one.kill();
});
