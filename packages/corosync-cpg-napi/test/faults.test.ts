import { waitUntil } from '@dmlog/corosync-lab';
import { afterEach, expect, it } from 'vitest';
import { CpgReason } from '../src/index.js';
import { type Member, type MemberEvent, ofKind } from './member-client.js';
import { describeCluster, useCluster } from './support.js';

const rig = useCluster({ nodes: 3 });

afterEach(async () => {
  for (const { id, pid } of rig.cluster.nodes) if (pid !== undefined) rig.cluster.resumeCorosync(id);
  await rig.cluster.healAll();
  for (const { id, pid } of rig.cluster.nodes) if (pid === undefined) await rig.cluster.restart(id);
  await rig.cluster.membership([1, 2, 3]);
});

const onAllNodes = (): Promise<Member[]> => Promise.all([1, 2, 3].map((nodeId) => rig.join(nodeId)));
const ringOf = (nodes: string, quorate: boolean) => (events: readonly MemberEvent[]) => {
  const ring = ofKind(events, 'ring').at(-1);
  return ring?.nodes.join() === nodes && ring.quorate === quorate;
};
const membersAre = (count: number) => (events: readonly MemberEvent[]) =>
  ofKind(events, 'confchg').at(-1)?.members.length === count;

describeCluster('a network that is cut', () => {
  it('tells both sides that the other is down, and both who has quorum; then merges', async () => {
    const members = await onAllNodes();
    const [a, b, c] = members as [Member, Member, Member];
    for (const member of members) await member.until('all members', membersAre(3));
    await rig.cluster.cut(3);
    await a.until('the majority', ringOf('1,2', true));
    await b.until('the majority', ringOf('1,2', true));
    await c.until('the minority', ringOf('3', false));
    for (const member of members) {
      const change = ofKind(member.events, 'confchg').find(({ left }) => left.length > 0)!;
      expect(new Set(change.left.map(({ reason }) => reason))).toEqual(new Set([CpgReason.NODEDOWN]));
    }
    await c.request('send', { text: 'alone' });
    await c.until('a minority delivers to itself', (events) => events.at(-1)?.kind === 'message');
    const minority = ofKind(c.events, 'ring').at(-1)!.seq;
    expect(ofKind(c.events, 'message').at(-1)).toMatchObject({ text: 'alone', ring: minority });

    await rig.cluster.heal(3);
    // On the way there may be other rings: sides can meet in steps, and a node can be alone for a moment.
    for (const member of members) {
      await member.until('the merged ring', ringOf('1,2,3', true));
      await member.until('all members again', membersAre(3));
      const up = ofKind(member.events, 'confchg').flatMap(({ joined }) => joined);
      const comers = new Set(up.filter(({ reason }) => reason === CpgReason.NODEUP).map(({ pid }) => pid));
      for (const comer of member === c ? [a, b] : [c]) expect(comers).toContain(comer.pid);
      expect(comers).not.toContain(member.pid);
    }
    const together = (events: readonly MemberEvent[]): boolean =>
      ofKind(events, 'message').some(({ text }) => text === 'together');
    await waitUntil(
      'a message for all',
      async () => {
        await a.request('send', { text: 'together' });
        return members.every(({ events }) => together(events));
      },
      60_000,
    );
    expect(ofKind(a.events, 'message').some(({ text }) => text === 'alone')).toBe(false);
  });

  it('tells the ring and its quorum before every message of it, under load', async () => {
    const members = await onAllNodes();
    for (const member of members) await member.until('all members', membersAre(3));
    let stop = false;
    const load = members.map(async (member) => {
      while (!stop) await member.request('send', { text: 'x' });
    });
    try {
      for (let round = 0; round < 3; round++) {
        await rig.cluster.cut(2);
        await members[1]!.until('the minority', ringOf('2', false));
        await members[0]!.until('the majority', ringOf('1,3', true));
        await rig.cluster.heal(2);
        for (const member of members) await member.until('the merged ring', ringOf('1,2,3', true));
      }
    } finally {
      stop = true;
      await Promise.all(load);
    }
    for (const member of members) {
      // Between a change of members and the ring there is no message, and quorum is true on the larger side only.
      let settled = true;
      for (const event of member.events) {
        if (event.kind === 'confchg') settled = event.joined.some(({ reason }) => reason === CpgReason.JOIN);
        if (event.kind === 'ring') {
          settled = true;
          // A ring that the next one overtook may pass as not quorate; one of a single node never has quorum.
          if (event.nodes.length === 1) expect(event.quorate).toBe(false);
        }
        if (event.kind === 'message') expect(settled).toBe(true);
      }
    }
  });

  it('takes quorum away with the second node, and gives it back', async () => {
    const member = await rig.join(1);
    await rig.cluster.kill(2);
    await member.until('two of three', ringOf('1,3', true));
    await rig.cluster.kill(3);
    await member.until('one of three', ringOf('1', false));
    const alone = (await member.request('ring'))!;
    expect(alone.quorate).toBe(false);
    // Whoever is alone may be told that this is enough: quorum within the same ring.
    expect(await rig.cluster.node(1).exec('corosync-quorumtool', ['-e', '1'])).toMatchObject({ code: 0 });
    await member.until('quorum', (events) => ofKind(events, 'quorum').length > 0);
    expect(ofKind(member.events, 'quorum')).toEqual([{ kind: 'quorum', ...alone, quorate: true }]);
    await rig.cluster.restart(2);
    await member.until('two of three', ringOf('1,2', true));
  });
});

describeCluster('a corosync that is killed', () => {
  it('is told by died; what follows is refused; after its restart one can join as new', async () => {
    const [member, other] = [await rig.join(1), await rig.join(2)];
    await member.until('both', membersAre(2));
    await rig.cluster.kill(1);
    await member.until('died', (events) => events.at(-1)?.kind === 'died');
    expect(member.events.at(-1)).toEqual({ kind: 'died', code: 'ERR_CPG_DIED' });
    await expect(member.request('send', { text: 'late' })).rejects.toMatchObject({ code: 'ERR_CPG_DIED' });
    await member.request('close');
    await expect(member.request('open', { group: 'x' })).rejects.toMatchObject({
      code: 'ERR_CPG_NOT_RUNNING',
    });
    await other.until('it is down', membersAre(1));

    await rig.cluster.restart(1);
    await member.request('open', { group: 'reborn' });
    await member.request('join');
    await member.request('send', { text: 'back' });
    await member.until('back', (events) => events.at(-1)?.kind === 'message');
  });

  it('rejects a leave that is under way', async () => {
    const member = await rig.join(1);
    rig.cluster.pauseCorosync(1);
    const leave = member.request('leave');
    leave.catch(() => {});
    await rig.cluster.kill(1);
    await expect(leave).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_CPG_/) });
  });
});

describeCluster('a corosync that is stopped', () => {
  it('does not hold the event loop, and loses nothing that was taken', async () => {
    const member = await rig.join(1, { quiet: true, maxInFlightMessages: 100_000 });
    rig.cluster.pauseCorosync(1);
    const before = await member.request('ticks');
    const { refused } = await member.request('flood', { count: 20_000, size: 200 });
    expect(refused).toBe(0);
    await waitUntil('the loop turns', async () => (await member.request('ticks')) > before + 20, 60_000);
    const { queuedMessages, sentMessages, tryAgains } = await member.request('stats');
    expect(queuedMessages).toBeGreaterThan(0);
    expect(queuedMessages + sentMessages).toBe(20_000);
    expect(tryAgains).toBeGreaterThan(0);
    rig.cluster.resumeCorosync(1);
    await waitUntil('all come back', async () => (await member.request('received')).count === 20_000, 60_000);
    expect(await member.request('received')).toMatchObject({ inOrder: true });
    expect(await member.request('stats')).toMatchObject({
      inFlightMessages: 0,
      inFlightBytes: 0,
      queuedMessages: 0,
    });
  });

  it('makes the others NODEDOWN and NODEUP at once when it goes on', async () => {
    const [member, other] = [await rig.join(1), await rig.join(2)];
    await member.until('both', membersAre(2));
    rig.cluster.pauseCorosync(1);
    await other.until('it is down', membersAre(1));
    rig.cluster.resumeCorosync(1);
    await other.until('it is back', membersAre(2));
    await member.until('the other was down, and is back', (events) => {
      const reasons = ofKind(events, 'confchg').flatMap(({ left, joined }) => [...left, ...joined]);
      return reasons.some(({ pid, reason }) => pid === other.pid && reason === CpgReason.NODEUP);
    });
  });

  it('does not keep open, join, leave or close waiting for ever', async () => {
    const [opening, joining, leaving] = [rig.start(1), rig.start(1), await rig.join(1)];
    await joining.request('open', { group: 'y', timeoutMs: 500 });
    rig.cluster.pauseCorosync(1);
    await expect(opening.request('open', { group: 'y', timeoutMs: 500 })).rejects.toMatchObject({
      code: 'ERR_CPG_TIMEOUT',
    });
    await expect(joining.request('join')).rejects.toMatchObject({ code: 'ERR_CPG_TIMEOUT' });
    await joining.request('close');
    const leave = leaving.request('leave');
    leave.catch(() => {});
    await leaving.request('close');
    await expect(leave).rejects.toMatchObject({ code: 'ERR_CPG_CLOSED' });
    // And their processes can end.
    for (const member of [opening, joining, leaving]) {
      member.child.stdin!.end();
      expect((await member.exited).code).toBe(0);
    }
  });
});
