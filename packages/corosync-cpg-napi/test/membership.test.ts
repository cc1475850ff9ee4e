import { expect, it } from 'vitest';
import { CpgReason } from '../src/index.js';
import { type Member, type MemberEvent, ofKind, textsOf } from './member-client.js';
import { describeCluster, useCluster } from './support.js';

const rig = useCluster({ nodes: 3, tokenMs: 1000 });

const confchgs = (member: Member) => ofKind(member.events, 'confchg');
const withMessages = (count: number) => (events: readonly MemberEvent[]) =>
  ofKind(events, 'message').length >= count;
const withMembers = (count: number) => (events: readonly MemberEvent[]) =>
  ofKind(events, 'confchg').at(-1)?.members.length === count;

describeCluster('joining', () => {
  it('tells the own confchg first, then the ring with its quorum', async () => {
    const member = await rig.join(2);
    expect(member.events.slice(0, 2)).toEqual([
      {
        kind: 'confchg',
        members: [{ nodeId: 2, pid: member.pid }],
        left: [],
        joined: [{ nodeId: 2, pid: member.pid, reason: CpgReason.JOIN }],
      },
      expect.objectContaining({ kind: 'ring', nodes: [1, 2, 3], quorate: true }),
    ]);
    expect(await member.request('ring')).toMatchObject({ nodes: [1, 2, 3], quorate: true });
  });

  it('knows node, pid and sizes', async () => {
    const member = rig.start(3);
    expect(await member.request('open', { group: 'x' })).toEqual({
      nodeId: 3,
      pid: member.pid,
      maxMessageBytes: 1_047_552,
      hasQuorum: true,
    });
  });

  it('lists all members to all, sorted', async () => {
    const members = [await rig.join(3), await rig.join(1), await rig.join(2), await rig.join(1)];
    for (const member of members) await member.until('four members', withMembers(4));
    const expected = members
      .map((member, index) => ({ nodeId: [3, 1, 2, 1][index]!, pid: member.pid }))
      .sort((a, b) => a.nodeId - b.nodeId || a.pid - b.pid);
    for (const member of members) expect(confchgs(member).at(-1)!.members).toEqual(expected);
  });

  it('a second time in the same process, or sending before, is refused', async () => {
    const member = rig.start(1);
    await member.request('open', { group: 'once' });
    await expect(member.request('send', { text: 'early' })).rejects.toMatchObject({ code: 'ERR_CPG_USAGE' });
    await member.request('join');
    await expect(member.request('join')).rejects.toMatchObject({ code: 'ERR_CPG_USAGE' });
  });
});

describeCluster('messages', () => {
  it('come back to their sender, in order, at once', async () => {
    const member = await rig.join(1);
    for (const text of ['one', 'two', '']) await member.request('send', { text });
    await member.until('three messages', withMessages(3));
    expect(textsOf(member)).toEqual(['one', 'two', '']);
    expect(ofKind(member.events, 'message')[0]).toMatchObject({ nodeId: 1, pid: member.pid });
  });

  it('of all senders come in one order for all, together with joins and leaves', async () => {
    const members = [await rig.join(1), await rig.join(2), await rig.join(3)];
    for (const member of members) await member.until('three members', withMembers(3));
    const start = members.map((member) => member.events.length);
    const late: Member[] = [];
    const busy = members.map(async (member, index) => {
      for (let number = 0; number < 150; number++) {
        await member.request('send', { text: `${index}:${number}` });
        if (index === 1 && number === 75) late.push(await rig.join(3));
      }
    });
    await Promise.all(busy);
    await late[0]!.request('leave');
    const complete = (events: readonly MemberEvent[]): boolean =>
      withMessages(450)(events) && withMembers(3)(events);
    for (const member of members) await member.until('all messages', complete);
    const [first, ...others] = members.map((member, index) => member.events.slice(start[index]));
    expect(ofKind(first!, 'confchg').map(({ left, joined }) => left.length - joined.length)).toEqual([-1, 1]);
    for (const events of others) expect(events).toEqual(first);
    // The joiner has what came after its own join, and nothing older.
    const position = first!.findIndex(({ kind }) => kind === 'confchg');
    const seen = late[0]!.events.filter(({ kind }) => kind !== 'ring');
    expect(seen).toEqual(first!.slice(position, position + seen.length));
  });

  it('of the largest size are delivered, larger ones refused', async () => {
    const [sender, receiver] = [await rig.join(1), await rig.join(2)];
    const { maxMessageBytes } = await rig.start(1).request('open', { group: 'x' });
    await sender.request('sendSize', { bytes: maxMessageBytes });
    await expect(sender.request('sendSize', { bytes: maxMessageBytes + 1 })).rejects.toMatchObject({
      code: 'ERR_CPG_TOO_BIG',
    });
    await receiver.until('it arrives', withMessages(1));
    expect(textsOf(receiver)[0]!.length).toBe(maxMessageBytes);
  });
});

describeCluster('the end of a membership', () => {
  const reasonsAt = async (observer: Member, gone: Member): Promise<number[]> => {
    await observer.until('it is gone', withMembers(1));
    return confchgs(observer)
      .flatMap(({ left }) => left)
      .filter(({ pid }) => pid === gone.pid)
      .map(({ reason }) => reason);
  };

  it('by leave: others see LEAVE, and it is the last event of the one who leaves', async () => {
    const [observer, leaver] = [await rig.join(1), await rig.join(2)];
    for (let number = 0; number < 20; number++) await leaver.request('send', { text: `${number}` });
    await leaver.request('leave');
    await observer.request('send', { text: 'after' });
    await observer.until('the message after', (events) => ofKind(events, 'message').length === 21);
    expect(await reasonsAt(observer, leaver)).toEqual([CpgReason.LEAVE]);
    expect(leaver.events.at(-1)).toMatchObject({
      kind: 'confchg',
      left: [{ nodeId: 2, pid: leaver.pid, reason: CpgReason.LEAVE }],
    });
    await expect(leaver.request('send', { text: 'late' })).rejects.toMatchObject({ code: 'ERR_CPG_CLOSED' });
    expect(leaver.over).toBe(false);
  });

  it.each(['close', 'kill -9'])('by %s: others see PROCDOWN, after all it had sent', async (how) => {
    const [observer, gone] = [await rig.join(1), await rig.join(3)];
    for (let number = 0; number < 20; number++) await gone.request('send', { text: `${number}` });
    if (how === 'close') await gone.request('close');
    else await gone.kill();
    expect(await reasonsAt(observer, gone)).toEqual([CpgReason.PROCDOWN]);
    const end = observer.events.findIndex((event) => event.kind === 'confchg' && event.left.length > 0);
    expect(ofKind(observer.events.slice(0, end), 'message').length).toBe(20);
  });

  it('by leave, then open and join again in the same process', async () => {
    const member = await rig.join(1, { group: 'again' });
    for (let round = 0; round < 3; round++) {
      await member.request('leave');
      await member.request('open', { group: 'again' });
      await member.request('join');
    }
    expect(confchgs(member).filter(({ joined }) => joined.length > 0).length).toBe(4);
  });
});
