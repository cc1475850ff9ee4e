/**
 * What the dmlog daemons share: log devices and legs, control socket, configuration, logging, metrics, start and end.
 *
 * @example
 * ```ts
 * import { alignedBuffer, LogDevice } from '@dmlog/daemon';
 *
 * const device = await LogDevice.open('/dev/vg0/log', { writable: false });
 * const header = alignedBuffer(4096);
 * await device.read(header, 0, 4096, 0);
 * await device.close();
 * ```
 *
 * @packageDocumentation
 */
export type { ClusterAccess } from './cluster/access.js';
export { type Dmsetup, dmsetup, mirrorsOf, reloadTable } from './cluster/dmsetup.js';
export { type CommandEnvironment, runCommand } from './command/command.js';
export { addCompletion } from './command/completion.js';
export {
  formatBytes,
  formatDirty,
  formatInSync,
  formatStatus,
  formatTable,
  formatUptime,
  printable,
} from './command/format.js';
export { type ManualParts, manPage } from './command/man.js';
export { type Program, runProgram } from './command/program.js';
export { sizeThreadPool, THREAD_POOL_THREADS } from './command/thread-pool.js';
export { writeAll } from './command/write-all.js';
export { ConfigError } from './config/errors.js';
export { type ConfigSources, flagName, loadConfig, parseConfig } from './config/load.js';
export {
  CLUSTER_RELOAD_CHOICES,
  CLUSTER_RELOAD_DEFAULT,
  type ClusterConfig,
  type ClusterReload,
  type DaemonConfig,
  type Flags,
  LAZY_CLEAR_MS_DEFAULT,
  LAZY_CLEAR_REGIONS_DEFAULT,
  type LazyClearConfig,
  RUNTIME_DIR,
  TRANSPORT_CHOICES,
  type TransportChoice,
} from './config/schema.js';
export type { LogTypes, MakeLog } from './construct.js';
export {
  CONTROL_TIMEOUT_MS,
  type ControlStreamListener,
  controlRequest,
  controlStream,
} from './control/client.js';
export { ControlError, type ControlErrorCode } from './control/errors.js';
export { EventWatch, LOG_EVENTS, type LogEvent, type LogEventName, WATCH_MS } from './control/events.js';
export type { Settings, SettingsChange } from './control/live-settings.js';
export { FLUSH_MS_DEFAULT, type LogRegions, operatorMethods, type RequestTotals } from './control/methods.js';
export type { Operable } from './control/operable.js';
export { CLIENT_IDLE_MS, CLIENTS_MAX, LINE_BYTES_MAX, RESPONSE_BYTES_MAX } from './control/protocol.js';
export { MAP_CELLS_MAX, type RegionMap } from './control/region-map.js';
export { type ControlMethod, ControlServer, type ControlServerOptions } from './control/server.js';
export { ControlStream, STREAM_BACKLOG_BYTES_MAX } from './control/stream.js';
export { ALIGNED_BUFFER_BYTES_MAX, alignedBuffer } from './device/aligned.js';
export { DEVICE_ERRNO, DeviceError, type DeviceErrorCode } from './device/errors.js';
export { LEGS_MAX, LegFlusher, legsOf } from './device/legs.js';
export { LogDevice, type LogDeviceOptions } from './device/log-device.js';
export {
  type BlockFacts,
  blockFacts,
  deviceNumberOf,
  holderNamesOf,
  holdersOf,
  SECTOR_BYTES,
  SYSTEM_ROOTS,
  type SystemRoots,
} from './device/sysfs.js';
export type { Runs, WriteCallback } from './device/write-job.js';
export { serveHttp } from './http/index.js';
export type { BugSource } from './lifecycle/bugs.js';
export { endProcess, poolIsBusy } from './lifecycle/end.js';
export { LifecycleError } from './lifecycle/errors.js';
export { EXIT_CODE_TEXTS, ExitCode, exitCodeOf } from './lifecycle/exit-codes.js';
export {
  type HandOverChannel,
  HandOverMessage,
  type HandOverStep,
  SUCCESSOR_VARIABLE,
} from './lifecycle/hand-over.js';
export {
  acquireInstanceLock,
  INSTANCE_LOCK_NAME,
  type InstanceLock,
  type InstanceLockOptions,
} from './lifecycle/instance-lock.js';
export { inheritedPredecessor, type Predecessor } from './lifecycle/predecessor.js';
export { type PreflightRoots, preflight } from './lifecycle/preflight.js';
export { type Listener, otherListeners, referenceDaemon } from './lifecycle/rivals.js';
export { type RunOptions, runDaemon } from './lifecycle/run.js';
export { ensureRuntimeDir, type RuntimeDir } from './lifecycle/runtime-dir.js';
export { openServiceManager, ServiceManager, STORED_NAME } from './lifecycle/service-manager.js';
export {
  HAND_OVER_SIGNAL,
  onStopSignals,
  type SignalSource,
  STOP_SIGNALS,
  type StopSignal,
} from './lifecycle/signals.js';
export { giveWayToSuccessor, type SuccessorOptions } from './lifecycle/successor.js';
export {
  createLogger,
  LOG_BACKLOG_BYTES_MAX,
  LOG_LEVELS,
  type Logger,
  type LoggerOptions,
  type Logging,
  type LogLevel,
} from './logging.js';
export { daemonMetrics, Metrics, type ReadSamples, type ReadValue, type Sample } from './metrics.js';
export type { OpenedStore } from './opened-store.js';
export { openRuntimeState, RESTORE_MS_MAX, type ServeParts, serve, TICK_MS } from './serve.js';
export {
  ClusterStatus,
  type DaemonHandOver,
  DaemonStatus,
  LogStatus,
  type PreviousDaemon,
  type RunningDaemon,
  type Serve,
  type ServeStart,
  TransportStatus,
} from './serve-types.js';
export type { ImageStore, Legs, Served } from './served.js';
export type { KeptLog } from './served-log.js';
export { loadMappingBinding, type MappingBinding } from './state/binding.js';
export {
  type DecodedIdentity,
  decodeIdentity,
  encodeIdentity,
  HEAD_BYTES,
  IDENTITY_AREA_BYTES,
  type LogIdentity,
  STATE_VERSION,
} from './state/format.js';
export { RuntimeState, type RuntimeStateOptions } from './state/runtime-state.js';
export { StateFile } from './state/state-file.js';
export { allocateImage, openStore } from './store.js';
