import { freshControl, type LogMemory } from '@dmlog/log';
import { expect, it } from 'vitest';
import { ClusteredLog } from '../src/clustered-log.js';
import { Presence } from '../src/state.js';
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
