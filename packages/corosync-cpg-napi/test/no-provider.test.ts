import { expect, it } from 'vitest';
import { ofKind } from './member-client.js';
import { describeCluster, useCluster } from './support.js';

const rig = useCluster({ nodes: 2, quorumProvider: false });

describeCluster('without a quorum provider', () => {
  it('rings come at once and do not say whether they are quorate', async () => {
    const members = [await rig.join(1), await rig.join(2)];
    await members[0]!.request('send', { text: 'hello' });
    for (const member of members) {
      await member.until('the message', (events) => ofKind(events, 'message').length === 1);
      expect(ofKind(member.events, 'ring').map(({ quorate }) => quorate)).toEqual([undefined]);
    }
    const member = rig.start(1);
    expect(await member.request('open', { group: 'x' })).toMatchObject({ hasQuorum: false });
    await rig.cluster.cut(2);
    await members[0]!.until('the ring without the other', (events) =>
      ofKind(events, 'ring').some(({ nodes, quorate }) => nodes.join() === '1' && quorate === undefined),
    );
  });
});
