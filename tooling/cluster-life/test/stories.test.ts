import { clusterUsable } from '@dmlog/corosync-lab';
import type { LogEvent } from '@dmlog/daemon';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { buildDaemon, ClusterWorld, type ClusterWorldOptions } from '../src/cluster-world.js';
import type { View } from '../src/daemon-types.js';
import type { Machine } from '../src/machine.js';
import { isCleanOn, type Mirror } from '../src/mirror.js';
import { Operator } from '../src/operator.js';

const CUTS = Number(process.env['DMLOG_LIFE_CUTS'] ?? 1);
const STORY_MS_MAX = 240_000 + CUTS * 30_000;

const describeCluster = clusterUsable() ? describe : describe.skip;

let program: { path: string; remove(): void };
let world: ClusterWorld;
let loads: NodeJS.Timeout[] = [];

beforeAll(async () => {
  program = await buildDaemon();
});

afterEach(async () => {
  for (const load of loads) clearInterval(load);
  loads = [];
  await world?.destroy();
});

afterAll(() => program?.remove());

const viewOf = (machine: Machine, { uuid }: Mirror): View | null => machine.views.get(uuid) ?? null;

/** All machines up, in all logs, everything in sync. */
async function begin(options: Partial<ClusterWorldOptions> = {}): Promise<Machine[]> {
  world = await ClusterWorld.start(program.path, {
    seed: 1,
    nodes: 3,
    regions: 97,
    kinds: ['core', 'disk'],
    tokenMs: 500,
    lazyClearMs: 200,
    ...options,
  });
  for (const machine of world.machines) machine.startDaemon();
  await Promise.all(world.machines.flatMap(({ tables }) => tables.map((table) => table.join())));
  await world.until('all is in sync', () => world.isAtRest());
  return [...world.machines];
}

/** The machine writes every third region, one after the other, but the last one of the mirror. */
function load(machine: Machine, first: number): void {
  let next = first;
  loads.push(
    setInterval(() => {
      next += 3;
      for (const { mirror, kernel, state } of machine.tables) {
        const region = next % (mirror.regions - 1);
        if (state !== 'live' || kernel.wantSuspend || mirror.legs.busy.has(region)) continue;
        kernel.write(region);
      }
    }, 5),
  );
}

const takesPart = (machine: Machine): boolean =>
  world.mirrors.every((mirror) => {
    const view = viewOf(machine, mirror);
    return view?.operational === true && view.mirror === 'live';
  });

/** Writes that have ended, of all mirrors. */
const acknowledged = (): number[] => world.mirrors.map(({ legs }) => Math.max(...legs.acknowledged));

/** Each mirror acknowledges writes that begin from now on. */
async function writesEnd(what: string): Promise<void> {
  const issued = world.mirrors.map(({ legs }) => legs.writes);
  await world.until(what, () => acknowledged().every((newest, i) => newest > (issued[i] as number)));
}

/** One node after the other, as daemons do it. */
async function reloadWhereNeeded(): Promise<void> {
  for (const machine of world.machines) {
    await world.inspect();
    const tables = machine.tables.filter(({ mirror }) =>
      viewOf(machine, mirror)?.needReload.includes(machine.id),
    );
    await Promise.all(tables.map((table) => table.reload()));
  }
}

const nameOf = ({ event, nodeId }: LogEvent): string => (nodeId === undefined ? event : `${event} ${nodeId}`);

/** The line of a log in `dmlogctl status`, by the titles of its columns. */
function columnsOf(table: string, log: string): Record<string, string> {
  const [titles = '', ...rows] = table.split('\n').slice(1);
  const row = rows.find((line) => line.startsWith(`LVM-life-${log} `)) ?? '';
  const starts = [...titles.matchAll(/\S+( \S+)*/g)].map(({ 0: title, index }) => [title, index] as const);
  return Object.fromEntries(
    starts.map(([title, at], i) => [title, row.slice(at, starts[i + 1]?.[1]).trim()] as const),
  );
}

async function rest(): Promise<void> {
  for (const one of loads) clearInterval(one);
  await world.until('what was under way ends', () => world.machines.every(takesPart));
  await reloadWhereNeeded();
  await world.until('all is in sync again', () => world.isAtRest());
  world.agreement.finish();
}

describeCluster('a busy node that is cut off while it marks and flushes', () => {
  it(
    `lets no write go that the others, or the image, do not know (${CUTS} times)`,
    async () => {
      const [busy, ...others] = (await begin({ reload: 'off', seed: 2 })) as [Machine, ...Machine[]];
      for (const [i, machine] of world.machines.entries()) load(machine, i);
      for (let cut = 0; cut < CUTS; cut++) {
        await writesEnd('the nodes are busy');
        const rings = new Map(
          world.mirrors.map((mirror) => [mirror, viewOf(busy, mirror)?.agreedRing?.seq ?? 0]),
        );
        // Data takes its time, so that there are always writes on their way; what is let go when the cable is pulled reaches no leg before it is back.
        for (const table of busy.tables) table.speed = 0.05;
        await world.until('writes are on their way', () =>
          busy.tables.every(({ kernel }) => kernel.issued.length > 2),
        );
        await world.cut(busy);
        for (const { mirror, kernel } of busy.tables) kernel.write(mirror.regions - 1);
        for (const table of busy.tables) table.speed = 0;
        await world.until('the others go on without it', () =>
          others.every(
            (one) =>
              takesPart(one) &&
              world.mirrors.every(
                (mirror) => (viewOf(one, mirror)?.agreedRing?.seq ?? 0) > (rings.get(mirror) ?? 0),
              ),
          ),
        );
        for (const { mirror, kernel } of busy.tables) {
          const image = mirror.readImage();
          for (const region of kernel.issued) {
            const known = others.some((one) => viewOf(one, mirror)?.dirty.includes(region));
            const written = image !== null && !isCleanOn(image, region);
            expect(known || written, mirror.historyOf(region)).toBe(true);
          }
        }
        expect(busy.tables.reduce((sum, { kernel }) => sum + kernel.issued.length, 0)).toBeGreaterThan(0);
        await writesEnd('the others write');
        await world.until('it waits', () => busy.tables.every(({ kernel }) => kernel.asking !== null));
        await world.heal(busy);
        for (const table of busy.tables) table.speed = 0.5;
        await world.until('it is back', () => world.machines.every(takesPart));
        await reloadWhereNeeded();
      }
      await rest();
    },
    STORY_MS_MAX,
  );
});

describeCluster('corosync', () => {
  it(
    'that dies on one node, stands still on another, then on all but one, costs time and nothing else',
    async () => {
      const [one, two, three] = (await begin({ seed: 3, reload: 'off' })) as [Machine, Machine, Machine];
      for (const [i, machine] of world.machines.entries()) load(machine, i);

      // What whoever looks after node 1 is shown of all this.
      const operator = new Operator(one);
      const { events, stop } = operator.watch();
      const told = (disk: string) => events.filter(({ uuid }) => uuid.endsWith(disk)).map(nameOf);
      await world.until('the watch has begun', () => events.length >= world.mirrors.length);
      expect(columnsOf((await operator.run(['status', '--no-rate'])).out, 'disk')).toMatchObject({
        NODE: '1',
        LIVE: '1,2,3',
        QUORUM: 'yes',
        PHASE: 'active',
        WRITER: '1',
        'IN DOUBT': '0',
        RELOAD: '-',
      });
      // Who marks what: all of them, all the time.
      await operator.top(/clustered-disk .* [123]:[1-9]/);

      two.isWithoutCorosync = true;
      await world.lab.kill(two.id);
      await world.until('it has noticed', () => world.mirrors.every((m) => viewOf(two, m)?.phase === 'none'));
      await writesEnd('the others write');
      await world.until('node 1 is shown its death', () => told('disk').includes('member-died 2'));
      await two.startCorosync();
      await world.until('it is back', () => takesPart(two));
      await writesEnd('all write');

      world.pause(three);
      await world.lab.membership([one.id, two.id]);
      await world.until('the others go on', () => takesPart(one) && takesPart(two));
      await writesEnd('the others write');
      world.goOn(three);
      await world.until('it is back', () => world.machines.every(takesPart));

      await reloadWhereNeeded();
      world.pause(two);
      world.pause(three);
      await world.until('there is no quorum', () =>
        world.mirrors.every((m) => viewOf(one, m)?.quorate === false),
      );
      await world.until(
        'node 1 is shown that',
        () => told('core').includes('quorum-lost') && told('disk').includes('quorum-lost'),
      );
      expect(columnsOf((await operator.run(['status', '--no-rate'])).out, 'disk')).toMatchObject({
        QUORUM: 'NO',
      });
      for (const { mirror, kernel } of one.tables) kernel.write(mirror.regions - 1);
      await world.until('the last one waits', () => one.tables.every(({ kernel }) => kernel.asking !== null));
      const before = acknowledged();
      world.goOn(two);
      world.goOn(three);
      await world.until('all are back', () => world.machines.every(takesPart));
      await world.until('it goes on', () =>
        acknowledged().every((newest, i) => newest > (before[i] as number)),
      );
      await rest();
      for (const kind of ['core', 'disk']) {
        const inOrder = ['present', 'member-died 2', 'orphan', 'member-joined 2', 'recovered'];
        await world.until('all of it is told', () =>
          [...inOrder, 'quorum-regained'].every((name) => told(kind).includes(name)),
        );
        const at = inOrder.map((name) => told(kind).indexOf(name));
        expect(at, told(kind).join(', ')).toEqual([...at].sort((a, b) => a - b));
      }
      await stop();
    },
    STORY_MS_MAX,
  );
});
