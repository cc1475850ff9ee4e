import { RequestType } from '@dmlog/protocol';
import { expect, it } from 'vitest';
import { ClusterNodes, clusterOf, replyTo, until } from './cluster-nodes.js';
import { errnoOf, log, u64s } from './kernel.js';

const CORE = log('LVM-core', 1);
const TEXT = '20480 clustered-core 1024';
const WARNING = 40;

it('messages that are none of the log are counted, logged once, and have no effect', async () => {
  const nodes = new ClusterNodes([1, 2]);
  const kernel = await nodes.start(1);
  await kernel.resume(CORE, TEXT);
  const before = clusterOf(kernel, CORE).position;
  const warnings = () => kernel.lines.filter(({ level }) => level === WARNING).map(({ msg }) => msg);
  const [earlier] = [warnings().length];
  const ignore = () => {};
  const intruder = nodes.network.join(2, 'dmlog:LVM-core', {
    deliver: ignore,
    confchg: ignore,
    ring: ignore,
    drain: ignore,
    died: ignore,
  });
  for (let length = 0; length < 50; length++) intruder.send(new Uint8Array(length).fill(0x44));
  await until(
    () => clusterOf(kernel, CORE).counters['unreadable'] === 50,
    () => JSON.stringify(clusterOf(kernel, CORE)),
  );
  expect(warnings().slice(earlier)).toEqual([expect.stringContaining('it is ignored')]);
  expect(clusterOf(kernel, CORE).position).toBe(before);
  intruder.leaveNow();
  expect(errnoOf(await replyTo(kernel, kernel.send(CORE, RequestType.FLUSH, u64s([]))))).toBe(0);
});
