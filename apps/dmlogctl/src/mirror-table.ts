import { CommandFailure, ExitCode } from './exit-codes.js';

/** Where a mirror keeps its dirty log: `userspace` is a daemon's, the others are the kernel's own (dm-log.c). */
export interface TableLog {
  readonly kind: 'core' | 'disk' | 'userspace';
  /** Of `userspace`. */
  readonly uuid?: string;
  readonly integratedFlush?: boolean;
  /** Of `userspace`: the daemon's log type. */
  readonly type?: string;
  /** What follows the type: the log device of disk logs, the region size in sectors, options. */
  readonly args: readonly string[];
}

/** `<start> <length> mirror <log> <n> <log arguments> <legs> <device> <offset> … [<features> …]` (drivers/md/dm-raid1.c, mirror_ctr). */
export interface MirrorTable {
  readonly start: string;
  readonly lengthSectors: string;
  readonly log: TableLog;
  /** From the number of legs on, word by word. */
  readonly rest: readonly string[];
}

/** @throws CommandFailure where it is no table of one mirror target. */
export function parseMirrorTable(name: string, table: string): MirrorTable {
  const lines = table.trim().split('\n');
  const words = (lines[0] ?? '').split(/\s+/);
  const [start, lengthSectors, target, kind, count] = words;
  const n = Number(count);
  if (
    lines.length !== 1 ||
    target !== 'mirror' ||
    start === undefined ||
    lengthSectors === undefined ||
    !(n >= 1)
  ) {
    throw new CommandFailure(
      ExitCode.NO_INPUT,
      `${name} is not one mirror: its table is ${JSON.stringify(table.trim())}`,
    );
  }
  const args = words.slice(5, 5 + n);
  const rest = words.slice(5 + n);
  if (kind === 'core' || kind === 'disk') return { start, lengthSectors, log: { kind, args }, rest };
  if (kind !== 'userspace') {
    throw new CommandFailure(
      ExitCode.DATA,
      `${name} has a log of kind ${kind}: only core, disk and userspace can be moved`,
    );
  }
  const [uuid, ...more] = args;
  const integratedFlush = more[0] === 'integrated_flush';
  const [type, ...typeArgs] = integratedFlush ? more.slice(1) : more;
  return {
    start,
    lengthSectors,
    log: {
      kind,
      integratedFlush,
      args: typeArgs,
      ...(uuid === undefined ? {} : { uuid }),
      ...(type === undefined ? {} : { type }),
    },
    rest,
  };
}

export function formatMirrorTable({ start, lengthSectors, log, rest }: MirrorTable): string {
  const args =
    log.kind === 'userspace'
      ? [
          log.uuid ?? '',
          ...(log.integratedFlush === true ? ['integrated_flush'] : []),
          log.type ?? '',
          ...log.args,
        ]
      : log.args;
  return [start, lengthSectors, 'mirror', log.kind, args.length, ...args, ...rest].join(' ');
}

/** Without `sync` and `nosync`: they say how a new log begins, and a log that moves is not new. */
export function withoutSyncMode(args: readonly string[]): string[] {
  return args.filter((word) => word !== 'sync' && word !== 'nosync');
}

/** `0 32768 mirror 2 98:0 98:16 32/32 1 AA 3 disk 98:32 A` (mirror_status in dm-raid1.c). */
export function parseMirrorStatus(text: string): { inSync: number; regions: number; health: string } {
  const words = text.trim().split(/\s+/);
  const legs = Number(words[3]);
  const [, inSync, regions] = /^(\d+)\/(\d+)$/.exec(words[4 + legs] ?? '') ?? [];
  if (words[2] !== 'mirror' || inSync === undefined || regions === undefined) {
    throw new CommandFailure(
      ExitCode.SYSTEM,
      `dmsetup status says ${JSON.stringify(text.trim())}, which is no mirror's`,
    );
  }
  return { inSync: Number(inSync), regions: Number(regions), health: words[6 + legs] ?? '' };
}
