import type { DaemonStatus, LogStatus } from '../../src/index.js';

export const LOG: LogStatus = {
  uuid: 'LVM-abc',
  luid: '0xffff888003a1c000',
  dmName: 'm',
  type: 'disk',
  state: 'live',
  targetSectors: 20_971_520,
  regionSizeSectors: 1024,
  regionCount: 20_480,
  inSyncCount: 20_479,
  dirtyCount: 3,
  recovering: 0,
  logDevice: '/dev/log',
  deviceStatus: 'A',
  lazyCount: 0,
  requests: 1,
  writes: 1,
  bytesWritten: 4096,
  legFlushes: 0,
  legFlushFailures: 0,
  lazyHits: 0,
};
export const STATUS: DaemonStatus = {
  version: '1.2.3',
  pid: 42,
  uptimeSeconds: 3700,
  transport: { name: 'batch' },
  logs: [LOG],
};
