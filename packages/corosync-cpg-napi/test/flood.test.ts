import { waitUntil } from '@dmlog/corosync-lab';
import { expect, it } from 'vitest';
import { describeCluster, useCluster } from './support.js';

const rig = useCluster({ nodes: 2, tokenMs: 1000 });

describeCluster('more than fits', () => {
  it.each([
    ['small', 20_000, 300, 256, 1 << 20],
    ['large', 100, 200_000, 1000, 1 << 20],
  ])(
    '%s messages are held back, and none is lost or out of order',
    async (_name, count, size, maxInFlightMessages, maxInFlightBytes) => {
      const parameters = { quiet: true, maxInFlightMessages, maxInFlightBytes };
      const members = [await rig.join(1, parameters), await rig.join(2, parameters)];
      const floods = await Promise.all(members.map((member) => member.request('flood', { count, size })));
      for (const { refused } of floods) expect(refused).toBeGreaterThan(0);
      for (const member of members) {
        await waitUntil(
          'everything arrives',
          async () => (await member.request('received')).count === 2 * count,
          100_000,
        );
        expect(await member.request('received')).toEqual({
          count: 2 * count,
          bytes: 2 * count * size,
          inOrder: true,
        });
        const stats = await member.request('stats');
        expect(stats).toMatchObject({
          inFlightMessages: 0,
          inFlightBytes: 0,
          queuedMessages: 0,
          sentMessages: count,
        });
        // In batches, not one by one.
        if (size < 1000) expect(stats.batches).toBeLessThan(stats.deliveredMessages);
      }
    },
  );

  it('messages above the allowance travel alone', async () => {
    const member = await rig.join(1, { quiet: true, maxInFlightBytes: 1000 });
    const { refused } = await member.request('flood', { count: 20, size: 5000 });
    expect(refused).toBe(19);
    await waitUntil('all arrive', async () => (await member.request('received')).count === 20, 100_000);
  });
});
