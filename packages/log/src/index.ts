/**
 * A device-mapper dirty log as a pure state machine: state and request in, state and *effects* out. No I/O, no clock, no randomness: the
 * caller performs the effects and reports their ends.
 *
 * @example
 * ```ts
 * import { CoreLog, Effects, parseConstructor } from '@dmlog/log';
 * import { FrameView } from '@dmlog/protocol';
 *
 * const log = new CoreLog(parseConstructor('16384 core 1024'));
 * const effects = new Effects();
 * const view = new FrameView(arena);
 * if (view.decode(0, length) === 0) {
 *   effects.reset();
 *   log.request(view, port, effects); // effects.reply says how to answer
 * }
 * ```
 * @packageDocumentation
 */

export { CORE_SECTIONS, CoreLog } from './core-log.js';
export type { DirtyLog, LogState, LogSummary } from './dirty-log.js';
export {
  CLEAR_BLOCKS_PER_WRITE_MAX,
  CLEAR_RUNS_PER_WRITE_MAX,
  DiskLog,
  type DiskLogInit,
  LAZY_CLEAR_DEFAULT,
  type LazyClearOptions,
  RETRY_MS,
  SUSPEND_FLUSH_MS_MAX,
} from './disk-log.js';
export { Effects, LateReplies, ReplyKind, WAITING_MAX } from './effects.js';
export {
  adoptBits,
  adoptHeader,
  BITMAP_OFFSET,
  blockOfRegion,
  collectDifferences,
  HEADER_BYTES,
  IMAGE_MAGIC,
  IMAGE_VERSION,
  ImageError,
  type ImageHeader,
  type ImageVerdict,
  imageBytes,
  isCleanIn,
  judgeHeader,
  readHeader,
  stageBlock,
  writeHeader,
} from './image.js';
export { type KeptValues, keepValues, readKeptValues } from './kept-record.js';
export { LazyClears } from './lazy-clears.js';
export {
  bodyBytes,
  CONTROL_BYTES,
  freshControl,
  KeptState,
  type LogMemory,
  type MemoryHome,
  RECORD_VALUES,
  readRecord,
  SECTIONS_MAX,
  type Section,
} from './log-memory.js';
export {
  ConstructorError,
  type ConstructorOptions,
  type LogParameters,
  parseConstructor,
  REGION_COUNT_MAX,
  REGION_SIZE_SECTORS_MIN,
  type SyncMode,
} from './parameters.js';
export { LOGS_MAX, type LogName, LogRegistry } from './registry.js';
export { asksOfRegions, startsWork } from './request-kinds.js';
export { change as digestChange, isWhole, SealedBitmap } from './sealed-bitmap.js';
