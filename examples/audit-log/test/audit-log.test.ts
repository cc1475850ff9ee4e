import { RequestType as R } from '@dmlog/protocol';
import { expect, it } from 'vitest';
import { describeDirtyLog } from '../../../packages/log/test/compliance.js';
import { resumed, TestHost } from '../../../packages/log/test/host.js';
import { AUDIT_ENTRIES_MAX, AuditLog } from '../src/index.js';

const host = (syncMode = '', keeps = false): TestHost =>
  new TestHost(`16384 audit 1024${syncMode}`, {
    keeps,
    make: { typeName: 'audit', log: (parameters, home) => new AuditLog({ parameters, home }) },
  });
const audit = (one: TestHost): AuditLog => {
  if (one.log instanceof AuditLog) return one.log;
  throw new Error('not an audit log');
};

describeDirtyLog(
  'audit',
  () => host(),
  () => host(' nosync'),
);

it('notes each region that turns dirty or clean, once', () => {
  const one = resumed(host(' nosync'));
  one.ask(R.MARK_REGION, 3, 4);
  one.ask(R.MARK_REGION, 3);
  one.later(R.FLUSH);
  one.ask(R.CLEAR_REGION, 3);
  one.ask(R.CLEAR_REGION, 3);
  one.ask(R.SET_REGION_SYNC, 7, 0);
  expect(audit(one).entries).toEqual([
    { number: 1, event: 'dirtied', region: 3 },
    { number: 2, event: 'dirtied', region: 4 },
    { number: 3, event: 'cleaned', region: 3 },
    { number: 4, event: 'dirtied', region: 7 },
  ]);
});

it('keeps the latest entries only', () => {
  const one = resumed(host(' nosync'));
  for (let i = 0; i < AUDIT_ENTRIES_MAX; i++) {
    one.ask(R.MARK_REGION, 3);
    one.ask(R.CLEAR_REGION, 3);
  }
  const { entries } = audit(one);
  expect(entries).toHaveLength(AUDIT_ENTRIES_MAX);
  expect(entries.at(-1)?.number).toBe(2 * AUDIT_ENTRIES_MAX);
});

it('is found again by the process that comes next, as a core log is', () => {
  const one = resumed(host(' nosync', true));
  one.ask(R.MARK_REGION, 3);
  expect(one.restart()).toBeNull();
  expect(one.ask(R.IS_CLEAN, 3).first).toBe(0);
  expect(one.ask(R.GET_SYNC_COUNT).first).toBe(16);
});
