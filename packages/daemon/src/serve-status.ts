import { ServedClusteredLog } from './cluster/served-clustered-log.js';
import { clusterStatusOf } from './cluster/status.js';
import { lazyCountOf, lazyHitsOf } from './control/live-settings.js';
import type { LogStatus } from './serve-types.js';
import type { Served } from './served.js';

/** What a daemon tells of one of its logs. */
export function statusOf(served: Served): LogStatus {
  const { log, name, counters } = served;
  const summary = log.summary();
  const hex = (word: number) => word.toString(16).padStart(8, '0');
  return {
    uuid: name.uuid,
    luid: `0x${hex(name.luidHigh)}${hex(name.luidLow)}`,
    dmName: served.dmName,
    type: summary.type,
    state: summary.state,
    targetSectors: log.parameters.targetSectors,
    regionSizeSectors: summary.regionSizeSectors,
    regionCount: summary.regionCount,
    inSyncCount: summary.inSyncCount,
    dirtyCount: summary.dirtyCount,
    lazyCount: lazyCountOf(log),
    recovering: summary.recovering,
    logDevice: served.device,
    deviceStatus: summary.deviceStatus,
    requests: counters.requests,
    writes: counters.writes,
    bytesWritten: counters.bytesWritten,
    legFlushes: counters.legFlushes,
    legFlushFailures: counters.legFlushFailures,
    lazyHits: lazyHitsOf(log),
    ...(served instanceof ServedClusteredLog ? { cluster: clusterStatusOf(served.host) } : {}),
  };
}
