import { freshControl, type LogMemory } from '@dmlog/log';
import { expect, it } from 'vitest';
import { ClusteredLog } from '../src/clustered-log.js';
import { Presence, ReplicatedState } from '../src/state.js';
import { LoneDaemon } from './lone-daemon.js';

const memory = (): LogMemory => ({ control: freshControl(), body: new Uint8Array(0) });

/** A daemon whose kernel writes region 5 on one leg, and its table, suspended. */
function suspended() {
  const daemon = new LoneDaemon();
  const kept = memory();
  const table = new ClusteredLog(daemon.replica, false, kept);
  daemon.ask(table, 'RESUME');
  daemon.ask(table, 'SET_REGION_SYNC', 5, 0);
  expect(daemon.replica.state?.givenUp.get(5)).toBe(true);
  daemon.ask(table, 'PRESUSPEND');
  daemon.ask(table, 'POSTSUSPEND');
  return { daemon, table, kept };
}

it('a mirror that is resumed with the table it had is not taken for reloaded', () => {
  const { daemon, table } = suspended();
  expect(daemon.ask(table, 'RESUME')).toBe(0);
  const { state } = daemon.replica;
  expect(state?.nodes.get(1)?.presence).toBe(Presence.LIVE);
  expect([state?.givenUp.get(5), state?.work.get(5), daemon.needReload]).toEqual([true, false, [1]]);
});

it('… nor is it when the daemon has found the table in its memory', () => {
  const { daemon, kept } = suspended();
  const found = new ClusteredLog(daemon.replica, false);
  expect(found.restore(kept)).toBeNull();
  daemon.ask(found, 'RESUME');
  expect([daemon.replica.state?.work.get(5), daemon.needReload]).toEqual([false, [1]]);
});

it('… and is with another one', () => {
  const { daemon, table } = suspended();
  const other = new ClusteredLog(daemon.replica, false, memory());
  daemon.ask(other, 'RESUME');
  daemon.ask(table, 'DTR');
  expect([daemon.replica.state?.work.get(5), daemon.needReload]).toEqual([true, []]);
});

it('… and is with the same one, if nothing was written on one leg', () => {
  const daemon = new LoneDaemon();
  const table = new ClusteredLog(daemon.replica, false, memory());
  for (const type of ['RESUME', 'PRESUSPEND', 'POSTSUSPEND', 'RESUME'] as const)
    expect(daemon.ask(table, type)).toBe(0);
  expect([daemon.needReload, daemon.replica.state?.nodes.get(1)?.presence]).toEqual([[], Presence.LIVE]);
});

it('what is in doubt is in sync to a kernel that was told so, and to one that was reloaded since it is not', () => {
  const daemon = new LoneDaemon();
  const table = new ClusteredLog(daemon.replica, false);
  daemon.ask(table, 'RESUME');
  const { replica } = daemon;
  const state = replica.state as ReplicatedState;
  state.begin(new ReplicatedState(8).work);
  for (const id of [2, 3]) {
    const other = state.meet(id, String(id).padStart(32, '0'));
    state.ready(other);
    state.resumed(other);
    if (id === 2) state.mark(other, [5]);
  }
  state.nodeDown(2);
  expect([state.stale.get(5), daemon.needReload]).toEqual([true, [1, 3]]);
  expect([replica.isInSync(5), replica.mustWait(5)]).toEqual([true, false]);
  for (const type of ['PRESUSPEND', 'POSTSUSPEND'] as const) daemon.ask(table, type);
  daemon.ask(new ClusteredLog(replica, false), 'RESUME');
  expect([state.stale.get(5), daemon.needReload]).toEqual([true, [3]]);
  expect([replica.isInSync(5), replica.mustWait(5)]).toEqual([false, true]);
  expect(replica.isInSync(4)).toBe(true);
});
