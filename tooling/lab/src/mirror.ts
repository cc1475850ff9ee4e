import { LabError } from './errors.js';

/** Where a mirror keeps its dirty log. `userspace` is answered by a daemon; `disk` and `core` are the kernel's own (dm-log.c). */
export type MirrorLog =
  | {
      readonly kind: 'userspace';
      readonly uuid: string;
      /** The daemon's log type: `core`, `disk`, `clustered-disk`, … */
      readonly type: string;
      /** What follows the type: for `disk` the log device, then the region size in sectors, then `sync` or `nosync`. */
      readonly args: readonly (string | number)[];
      readonly integratedFlush?: boolean;
    }
  | { readonly kind: 'disk' | 'core'; readonly args: readonly (string | number)[] };

export interface MirrorTable {
  readonly lengthSectors: number;
  readonly log: MirrorLog;
  /** Device paths, or a device with the sector it starts at. */
  readonly legs: readonly (string | { readonly device: string; readonly offsetSectors: number })[];
  readonly features?: readonly ('handle_errors' | 'keep_log')[];
}

/** `0 <length> mirror <log> <n> <log arguments> <legs> <device> <offset> … [<features> …]` (drivers/md/dm-raid1.c, mirror_ctr). */
export function mirrorTable(table: MirrorTable): string {
  const { log } = table;
  const args =
    log.kind === 'userspace'
      ? [log.uuid, ...(log.integratedFlush === true ? ['integrated_flush'] : []), log.type, ...log.args]
      : [...log.args];
  const legs = table.legs.flatMap((leg) =>
    typeof leg === 'string' ? [leg, 0] : [leg.device, leg.offsetSectors],
  );
  const features = table.features === undefined ? [] : [table.features.length, ...table.features];
  return [
    0,
    table.lengthSectors,
    'mirror',
    log.kind,
    args.length,
    ...args,
    table.legs.length,
    ...legs,
    ...features,
  ].join(' ');
}

export interface MirrorStatus {
  readonly devices: readonly string[];
  readonly inSyncCount: number;
  readonly regionCount: number;
  /** One letter per leg: A alive, D dead (write failed), S out of sync, R read failed, U unknown. */
  readonly legHealth: string;
  /** The log's own words: `core`, `disk 254:3 A`. */
  readonly log: string;
}

/**
 * Reads `dmsetup status` of one mirror: `0 32768 mirror 2 98:0 98:16 32/32 1 AA 3 disk 98:32 A` (mirror_status in dm-raid1.c).
 * @throws LabError ERR_LAB_USAGE when the text is not a mirror's status.
 */
export function parseMirrorStatus(text: string): MirrorStatus {
  const words = text.trim().split(/\s+/);
  const legCount = Number(words[3]);
  const devices = words.slice(4, 4 + legCount);
  const counts = /^(\d+)\/(\d+)$/.exec(words[4 + legCount] ?? '');
  if (words[2] !== 'mirror' || counts === null) {
    throw new LabError('ERR_LAB_USAGE', `not the status of a mirror: "${text.trim()}"`);
  }
  return {
    devices,
    inSyncCount: Number(counts[1]),
    regionCount: Number(counts[2]),
    legHealth: words[6 + legCount] ?? '',
    log: words.slice(8 + legCount).join(' '),
  };
}
