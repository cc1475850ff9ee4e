import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { clusterUsable } from '@dmlog/corosync-lab';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Browser, browserUsable, picture } from '../../../apps/dmlogctl/test/helpers/browser.js';
import { buildDaemon, ClusterWorld } from '../src/cluster-world.js';
import type { Machine } from '../src/machine.js';

/** The status page of a daemon in a real cluster, in a browser. */
const isUsable = clusterUsable() && browserUsable();

describe.skipIf(!isUsable)('the status page', () => {
  let program: Awaited<ReturnType<typeof buildDaemon>> | undefined;
  let browser: Browser | undefined;
  let world: ClusterWorld | undefined;
  let proxy: Server | undefined;

  beforeAll(async () => {
    [program, browser] = await Promise.all([buildDaemon(), Browser.start()]);
  }, 120_000);

  afterEach(async () => {
    proxy?.close();
    await world?.destroy();
  });

  afterAll(async () => {
    await browser?.close();
    program?.remove();
  });

  /** A port of this network behind which is a machine's page: browsers know no unix sockets. */
  async function portOf(machine: Machine): Promise<number> {
    proxy = createServer((from) => {
      const to = connect(machine.pageSocket);
      for (const [one, other] of [
        [from, to],
        [to, from],
      ] as const) {
        one.pipe(other);
        one.on('error', () => other.destroy());
        one.on('close', () => other.destroy());
      }
    });
    const listening = proxy;
    await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
    return (listening.address() as AddressInfo).port;
  }

  it('shows members and quorum, a node that dies, and one that comes back', async () => {
    const options = {
      seed: 5,
      nodes: 3,
      regions: 97,
      kinds: ['disk'],
      tokenMs: 1000,
      lazyClearMs: 200,
    } as const;
    const here = await ClusterWorld.start(program?.path as string, {
      ...options,
      reload: 'off',
      pages: true,
    });
    world = here;
    const [one, two, three] = here.machines as [Machine, Machine, Machine];
    for (const machine of here.machines) machine.startDaemon();
    for (const { tables } of here.machines) for (const table of tables) void table.join();
    await here.until('all is in sync', () => here.isAtRest());

    const { page, errors } = await (browser as Browser).open(await portOf(one));
    const shows = (selector: string, hasText: RegExp) =>
      page.locator(selector, { hasText }).first().waitFor();
    const member = (node: Machine, presence: string) =>
      shows('#members tbody tr', new RegExp(`^\\s*${node.id}\\s*${presence}`));
    await shows('#place', /^node 1, quorate, active, writer 1, position [1-9]/);
    for (const node of here.machines) await member(node, 'live');
    expect(await page.locator('#members tbody tr').count()).toBe(3);
    // From here on it is told of whatever happens.
    await shows('#events li', /present/);
    await picture(page, 'cluster');

    two.isWithoutCorosync = true;
    await here.lab.kill(two.id);
    // Gone, or absent where it still had marks.
    await page.locator('#members tbody tr', { hasText: /^\s*2\s*live/ }).waitFor({ state: 'detached' });
    await shows('#events li', /member-died .*node 2/);
    await shows('#place', /^node 1, quorate, active/);
    await picture(page, 'cluster-member-died');

    const outOfSync = page.locator('#events li', { hasText: 'out-of-sync' });
    const before = await outOfSync.count();
    here.pause(three);
    await shows('#place', /^node 1, WITHOUT QUORUM/);
    await shows('#events li', /quorum-lost/);
    // What it does not know at the moment is not out of sync.
    await shows('#range', /^not known/);
    expect(await outOfSync.count()).toBe(before);
    await picture(page, 'cluster-without-quorum');

    here.goOn(three);
    await shows('#place', /^node 1, quorate, active/);
    await two.startCorosync();
    await member(two, 'live');
    expect(errors).toEqual([]);
    await page.close();
    await here.inspect();
  }, 240_000);
});
