import { describeDirtyLog } from './compliance.js';
import { TestHost } from './host.js';

describeDirtyLog(
  'core',
  () => new TestHost('16384 core 1024'),
  () => new TestHost('16384 core 1024 nosync'),
);
describeDirtyLog(
  'disk',
  () => new TestHost('16384 disk /dev/log 1024'),
  () => new TestHost('16384 disk /dev/log 1024 nosync'),
);
