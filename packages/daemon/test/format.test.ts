import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ClusterStatus,
  formatBytes,
  formatDirty,
  formatInSync,
  formatStatus,
  formatUptime,
  type LogStatus,
} from '../src/index.js';
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

  it('has a paragraph for a clustered log, which says what is to be done', () => {
    const cluster: ClusterStatus = {
      nodeId: 3,
      ring: { nodeId: 1, seq: 20 },
      quorate: false,
      phase: 'introducing',
      mirror: 'live',
      refusal: null,
      position: 7,
      digest: '0123456789abcdef',
      writer: null,
      committed: null,
      members: [{ nodeId: 3, bootId: 'ab', presence: 'absent', marks: 12, leases: 4 }],
      needReload: [1, 3],
      staleCount: 5,
      givenUpCount: 6,
      keepsImage: false,
      waitingMessages: 0,
      joinSeconds: null,
      snapshotSeconds: null,
      vanished: [],
      counters: {},
    };
    const shown = (of: ClusterStatus) =>
      formatStatus('clusterd', { ...STATUS, logs: [{ ...LOG, cluster: of }] })
        .split('\n')
        .slice(3);
    expect(shown(cluster)).toEqual([
      '',
      'LVM-abc 0xffff888003a1c000: node 3 in ring 1.20, WITHOUT QUORUM, introducing, mirror live, writer -, position 7; 5 regions in doubt; 6 regions given up; reload the tables of nodes 1, 3',
      '  NODE  PRESENCE  MARKS  LEASES  BOOT',
      '  3     absent    12     4       ab',
      '',
    ]);
    // What is not known is not said to be out of sync.
    const unknown = { ...LOG, inSyncCount: 0, dirtyCount: 9, cluster: { ...cluster, digest: null } };
    expect([formatInSync(unknown), formatDirty(unknown)]).toEqual(['-', '-']);
    expect([formatInSync({ ...unknown, cluster }), formatDirty({ ...unknown, cluster })]).toEqual([
      '0.00 %',
      '9',
    ]);
    const away = {
      ...cluster,
      nodeId: null,
      ring: null,
      refusal: 'other\nsize',
      members: [],
      needReload: [],
      staleCount: 0,
      givenUpCount: 0,
    };
    expect(shown(away)).toEqual([
      '',
      'LVM-abc 0xffff888003a1c000: this node is not in its group; refused: other?size',
      '',
    ]);
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
