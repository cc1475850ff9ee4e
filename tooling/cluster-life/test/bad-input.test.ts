import { clusterUsable, type LineClient } from '@dmlog/corosync-lab';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EntryType, encodeEntries, entry } from '../../../packages/cluster/src/entries.js';
import {
  decodeMessage,
  encodeMessage,
  encodePositions,
  type Message,
  MessageKind,
  NO_POSITIONS,
  stamp,
} from '../../../packages/cluster/src/messages.js';
import { randomFrom } from '../../../packages/cluster/test/group-random.js';
import { buildDaemon, buildIntruder, ClusterWorld } from '../src/cluster-world.js';
import type { IntruderMethods } from '../src/intruder-program.js';
import type { Machine } from '../src/machine.js';

const describeCluster = clusterUsable() ? describe : describe.skip;

type Program = Awaited<ReturnType<typeof buildDaemon>>;
let programs: Program[] = [];
let world: ClusterWorld | undefined;

beforeAll(async () => {
  programs = await Promise.all([buildDaemon(), buildIntruder()]);
});

afterAll(async () => {
  await world?.destroy();
  for (const program of programs) program.remove();
});

const base64 = (all: Iterable<Uint8Array>): string[] =>
  [...all].map((bytes) => Buffer.from(bytes).toString('base64'));

const sum = (machine: Machine, ...names: string[]): number =>
  names.reduce((total, name) => total + (machine.views.get('LVM-life-core')?.counters[name] ?? 0), 0);

describeCluster('another program in the group of a log that is in use', () => {
  it('can say what it wants: it is counted, logged once, and changes nothing', async () => {
    const [daemonProgram, intruderProgram] = programs as [Program, Program];
    world = await ClusterWorld.start(daemonProgram.path, {
      seed: 5,
      nodes: 3,
      regions: 32,
      kinds: ['core'],
      tokenMs: 2000,
      lazyClearMs: 100,
    });
    const { machines, mirrors, lab } = world;
    const [one, two] = machines as [Machine, Machine, Machine];
    const [mirror] = mirrors as [(typeof mirrors)[0]];
    for (const machine of [one, two]) {
      machine.startDaemon();
      await machine.tableOf(mirror).join();
    }
    const view = (machine: Machine) => machine.views.get(mirror.uuid);
    const areAlike = () => view(one)?.hash !== '' && view(one)?.hash === view(two)?.hash;
    await world.until('all is in sync', () =>
      [one, two].every((machine) => view(machine)?.inSync === mirror.regions),
    );

    const intruder: LineClient<IntruderMethods, never> = lab.node(3).client(intruderProgram.path);
    await intruder.request('join', `dmlog:${mirror.uuid}`);
    const write = async (machine: Machine, region: number) => {
      machine.tableOf(mirror).kernel.write(region);
      await world?.until(`region ${region} is written`, () => !mirror.legs.busy.has(region));
    };
    for (let region = 0; region < 8; region++) await write(region % 2 === 0 ? one : two, region);
    const overheard = (await intruder.request('heard')).map((text) => Buffer.from(text, 'base64'));
    const marks = overheard.find((bytes) => (decodeMessage(bytes) as Message).kind === MessageKind.ENTRIES);
    expect(marks).toBeDefined();
    const valid = decodeMessage(marks as Buffer) as Message;
    const { ring } = valid;
    const header = { ring, nonce: 9, number: 1, position: 0 };
    const draw = randomFrom(5);
    const garbage = Array.from({ length: 40 }, (_, length) =>
      Uint8Array.from({ length: 5 * length }, () => Math.floor(draw() * 256)),
    );
    const cut = Array.from({ length: (marks as Buffer).length }, (_, length) =>
      (marks as Buffer).subarray(0, length),
    );
    const damaged = Array.from({ length: (marks as Buffer).length }, (_, at) => {
      const bytes = Uint8Array.from(marks as Buffer);
      bytes[at] = (bytes[at] as number) ^ 0x10;
      return bytes;
    });
    const newer = Uint8Array.from(marks as Buffer);
    new DataView(newer.buffer).setUint16(4, 99, true);
    stamp(newer, ring, 0);
    const unreadable = [...garbage, ...cut, ...damaged, newer];

    const entries = (...all: Parameters<typeof encodeEntries>[0][number][]) =>
      encodeMessage({ ...header, kind: MessageKind.ENTRIES }, encodeEntries(all));
    const short = new Uint8Array(3);
    const malformed = [
      // As of a larger log: one bad entry spoils the good one before it.
      entries(entry(EntryType.UNMARK, [1]), entry(EntryType.MARK, [mirror.regions])),
      entries(entry(EntryType.FOUND_DIRTY, [mirror.regions - 1, 2])),
      entries({ type: 200 as EntryType, words: new Uint32Array(1) }),
      encodeMessage({ ...header, kind: MessageKind.ENTRIES }, short),
      encodeMessage({ ...header, kind: MessageKind.HELLO }, short),
      encodeMessage({ ...header, kind: MessageKind.POSITIONS }, short),
    ];
    const oldRing = { nodeId: 1, seq: ring.seq - 4 };
    const otherRing = [encodeMessage({ ...header, ring: oldRing, kind: MessageKind.ENTRIES }, valid.payload)];
    // What nobody asked for, and what others have said, once more: well-formed, of no effect.
    const idle = [
      encodeMessage({ ...header, kind: MessageKind.POSITIONS }, encodePositions(NO_POSITIONS)),
      ...overheard.filter((bytes) => (decodeMessage(bytes) as Message).kind === MessageKind.ENTRIES),
    ];

    await world.inspect();
    const before = [one, two].map((machine) => ({
      unreadable: sum(machine, 'unreadable'),
      malformed: sum(machine, 'malformed'),
      otherRing: sum(machine, 'otherRing'),
      inSync: view(machine)?.inSync,
      members: view(machine)?.members,
    }));
    await intruder.request('say', base64([...unreadable, ...malformed, ...otherRing, ...idle]));
    const counted = (machine: Machine, i: number) => ({
      unreadable: sum(machine, 'unreadable') - (before[i]?.unreadable ?? 0),
      malformed: sum(machine, 'malformed') - (before[i]?.malformed ?? 0),
      otherRing: sum(machine, 'otherRing') - (before[i]?.otherRing ?? 0),
    });
    const wanted = { unreadable: unreadable.length, malformed: malformed.length, otherRing: 1 };
    await world.until('all was counted', () =>
      [one, two].every((machine, i) => JSON.stringify(counted(machine, i)) === JSON.stringify(wanted)),
    );
    for (const [i, machine] of [one, two].entries()) {
      expect(machine.lines.filter((line) => line.includes('it is ignored'))).toHaveLength(1);
      expect({ inSync: view(machine)?.inSync, members: view(machine)?.members }).toEqual({
        inSync: before[i]?.inSync,
        members: before[i]?.members,
      });
    }

    // A checkpoint that is none, for a joiner: the true one comes all the same.
    await intruder.request('lie');
    await two.killDaemon();
    two.startDaemon();
    await write(two, 9);
    await write(one, 10);
    await world.until('the joiner has the state', areAlike);
    expect(sum(two, 'snapshotsTaken')).toBeGreaterThan(0);

    await intruder.request('leave');
    await write(two, 11);
    await world.until('all is in sync again', () => mirror.areEqual && areAlike());
    world.agreement.finish();
    await intruder.kill();
  }, 180_000);
});
