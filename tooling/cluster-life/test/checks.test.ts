import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RequestType } from '@dmlog/protocol';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Agreement } from '../src/agreement.js';
import type { View } from '../src/daemon-types.js';
import { LegsCheck } from '../src/legs-check.js';
import type { Machine } from '../src/machine.js';
import { Mirror } from '../src/mirror.js';
import { QuorumWatch } from '../src/quorum-watch.js';

const VIEW: View = {
  phase: 'active',
  mirror: 'live',
  operational: true,
  quorate: true,
  agreedRing: { nodeId: 1, seq: 8 },
  position: 5,
  hash: '',
  inSync: 0,
  members: 2,
  writer: 1,
  needReload: [],
  unclear: 0,
  dirty: [],
  counters: {},
};

describe('members that are at one position', () => {
  const one = { uuid: 'a', ring: '1.8', position: 5, digest: 'x', isContinued: true };
  const later = { ...one, ring: '1.12', position: 7 };
  const text = 'a after ring 1.8 at position 5: node 1 says x, node 2 says y';

  it('are compared, of other rings and logs they are not', () => {
    const agreement = new Agreement();
    agreement.add('node 1', one);
    agreement.add('node 1', one);
    expect(agreement.compared).toBe(0);
    agreement.add('node 2', one);
    agreement.add('node 3', one);
    expect(agreement.compared).toBe(1);
    agreement.add('node 2', { ...one, ring: '1.12', digest: 'y' });
    agreement.add('node 2', { ...one, uuid: 'b', digest: 'y' });
    agreement.add('node 2', { ...one, ring: '1.12', position: 6, digest: 'y' });
    agreement.finish();
    expect(() => agreement.add('node 1', { ...one, digest: 'y' })).toThrow();
  });

  it('and differ are found when both go on, or are there at the end', () => {
    const agreement = new Agreement();
    agreement.add('node 1', one);
    agreement.add('node 2', { ...one, digest: 'y' });
    expect(() => agreement.finish()).toThrow(text);
    agreement.add('node 1', later);
    expect(() => agreement.add('node 2', { ...later, ring: '2.16' })).toThrow(text);
  });

  it('may differ where the history of one ends', () => {
    const agreement = new Agreement();
    agreement.add('node 1', one);
    agreement.add('node 2', { ...one, digest: 'y' });
    agreement.add('node 1', later);
    agreement.add('node 2', { ...later, isContinued: false });
    agreement.finish();
    expect(agreement.abandoned).toBe(1);
  });
});

function mirrorOf(kind: 'core' | 'disk') {
  const directory = mkdtempSync(join(tmpdir(), 'life-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const imagePath = join(directory, 'image');
  const mirror = new Mirror({ uuid: 'LVM-x', kind, regions: 8, imagePath });
  const clean = (byte: number) => {
    const image = readFileSync(imagePath);
    image[1024] = byte;
    writeFileSync(imagePath, image);
  };
  mirror.legs.values[1].fill(0);
  return { mirror, clean };
}

const machine = (mirror: Mirror, view: Partial<View> | null, opinion: boolean | null = null): Machine =>
  ({
    views: new Map([[mirror.uuid, view === null ? null : { ...VIEW, ...view }]]),
    tableOf: () => ({ state: 'live', kernel: { opinion: () => opinion } }),
  }) as unknown as Machine;

/** Two looks in a row, the legs of region 3 being different. */
function look(mirror: Mirror, machines: Machine[], between = () => {}): void {
  mirror.legs.values[0][3] = 7;
  const check = new LegsCheck(mirror);
  check.end(check.begin(), machines);
  between();
  check.end(check.begin(), machines);
  expect(check.checked).toBe(2);
}

it('a difference between the legs that nobody knows of is found', () => {
  const { mirror } = mirrorOf('core');
  const clean = () => machine(mirror, {});
  const text = 'LVM-x: region 3 differs between the legs (7,0), and nobody knows';
  expect(() => look(mirror, [clean(), clean(), machine(mirror, null)])).toThrow(text);
  // Who is not up to date is no witness for those who are, but may be the one who writes.
  const late = { agreedRing: { nodeId: 1, seq: 4 } };
  expect(() => look(mirror, [clean(), machine(mirror, late)])).toThrow(text);
  look(mirror, [clean(), machine(mirror, { ...late, dirty: [3] })]);
  look(mirror, [clean(), machine(mirror, null, true)]);
  look(mirror, [clean(), machine(mirror, { dirty: [3] })]);
  look(mirror, [clean()], () => {
    mirror.legs.values[0][3] = 8;
  });
});

it('an image that calls the region dirty is a witness, one that calls it clean is not', () => {
  const { mirror, clean } = mirrorOf('disk');
  clean(0xf7);
  look(mirror, [machine(mirror, {})]);
  clean(0xff);
  expect(() => look(mirror, [machine(mirror, {})])).toThrow('nobody knows');
});

it('an answer without quorum is found, where it was asked for without quorum', () => {
  const { mirror } = mirrorOf('core');
  const found: string[] = [];
  const watch = new QuorumWatch((text) => found.push(text));
  const state = { isCut: true, isPaused: false, isWithoutCorosync: false };
  const ask = (type: number) => watch.answered(mirror, type, watch.asked(mirror));
  ask(RequestType.FLUSH);
  watch.look(0, { ...state, views: new Map([['LVM-x', VIEW]]) });
  ask(RequestType.FLUSH);
  const without = new Map([['LVM-x', { ...VIEW, quorate: false }]]);
  const early = watch.asked(mirror);
  watch.look(0, { ...state, views: without });
  watch.answered(mirror, RequestType.FLUSH, early);
  ask(RequestType.GET_REGION_SIZE);
  expect(found).toEqual([]);
  ask(RequestType.FLUSH);
  ask(RequestType.MARK_REGION);
  expect(found).toHaveLength(2);
  const late = watch.asked(mirror);
  watch.heals();
  watch.answered(mirror, RequestType.FLUSH, late);
  watch.look(0, { ...state, views: without });
  ask(RequestType.FLUSH);
  expect(found).toHaveLength(2);
});
