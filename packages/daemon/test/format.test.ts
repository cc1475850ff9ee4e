import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatBytes, formatInSync, formatStatus, formatUptime, type LogStatus } from '../src/index.js';
import { LOG, STATUS } from './helpers/status.js';

describe('formatStatus', () => {
  it('is a table with every column', () => {
    const core: LogStatus = {
      ...LOG,
      uuid: 'x\x1b[2J',
      dmName: null,
      type: 'core',
      inSyncCount: 20_480,
      recovering: null,
      logDevice: null,
      deviceStatus: null,
    };
    expect(formatStatus('singled', { ...STATUS, logs: [LOG, core] })).toBe(
      [
        'singled 1.2.3, pid 42, up 1h 1m, transport batch',
        'UUID     LUID                NAME  TYPE  STATE  SIZE    REGION   IN SYNC  DIRTY  RECOVERING  LOG DEVICE  HEALTH',
        'LVM-abc  0xffff888003a1c000  m     disk  live   10 GiB  512 KiB  99.99 %  3      0           /dev/log    A',
        'x?[2J    0xffff888003a1c000  -     core  live   10 GiB  512 KiB  100 %    3      -           -           -',
        '',
      ].join('\n'),
    );
  });

  it('says so where there are no logs', () => {
    expect(formatStatus('singled', { ...STATUS, logs: [] })).toBe(
      'singled 1.2.3, pid 42, up 1h 1m, transport batch\nno logs\n',
    );
  });
});

describe('formatInSync', () => {
  it('says 100 % only where nothing is missing', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2 ** 32 - 1 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (regionCount, part) => {
          const inSyncCount = Math.floor(regionCount * part);
          expect(formatInSync({ regionCount, inSyncCount }) === '100 %').toBe(inSyncCount === regionCount);
        },
      ),
    );
    expect(formatInSync({ regionCount: 2 ** 32 - 1, inSyncCount: 2 ** 32 - 2 })).toBe('99.99 %');
  });
});

describe('units', () => {
  it.each([
    [0, '0 B'],
    [512, '512 B'],
    [1024, '1 KiB'],
    [1536 * 1024, '1.5 MiB'],
    [2 ** 50 * 2000, '2000 PiB'],
  ])('%i bytes are %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it.each([
    [0.4, '0s'],
    [59, '59s'],
    [61, '1m 1s'],
    [86_400, '1d 0h'],
  ])('%d seconds are %s', (seconds, text) => expect(formatUptime(seconds)).toBe(text));
});
