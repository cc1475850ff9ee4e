import { Errno } from '@dmlog/protocol';

/** Regions are counted in 32 bits: 2^32 − 1 is the most the kernel's region type can name (dm-log-userspace, region_t use). */
export const REGION_COUNT_MAX = 2 ** 32 - 1;

/** The least region size in sectors: `_check_region_size`, drivers/md/dm-log.c. */
export const REGION_SIZE_SECTORS_MIN = 2;

/** `-EOPNOTSUPP`, asm-generic/errno.h: the type exists, but not in this daemon. */
const EOPNOTSUPP = 95;

/** How RESUME treats what the image says. `default` believes it; `sync` and `nosync` overrule it (dm-log.c, `read_header`). */
export type SyncMode = 'default' | 'sync' | 'nosync';

/** The arguments of a log, validated. Made by {@link parseConstructor} only. */
export interface LogParameters {
  /** The type's name as the table line wrote it. */
  readonly typeName: string;
  readonly kind: 'core' | 'disk';
  /** `clustered-…` and `clustered_…` types. */
  readonly clustered: boolean;
  /** Log device as the table line wrote it: a path or `major:minor`. Null for core logs. */
  readonly device: string | null;
  readonly targetSectors: number;
  readonly regionSizeSectors: number;
  /** Regions of the target, the last one possibly short: 1 … {@link REGION_COUNT_MAX}. */
  readonly regionCount: number;
  readonly syncMode: SyncMode;
  /** Everything after the target length, for STATUS_TABLE and for messages. */
  readonly argumentText: string;
}

/** A table line that no log can be made from. `errno` (positive) goes to the kernel; `argument` names the culprit. */
export class ConstructorError extends Error {
  override readonly name = 'ConstructorError';
  readonly code = 'ERR_CONSTRUCTOR';
  readonly errno: number;
  readonly argument: string;

  constructor(argument: string, problem: string, errno: number = Errno.EINVAL) {
    super(`log argument "${argument}": ${problem}`);
    this.argument = argument;
    this.errno = errno;
  }
}

const KINDS: Readonly<Record<string, { kind: 'core' | 'disk'; clustered: boolean }>> = {
  core: { kind: 'core', clustered: false },
  disk: { kind: 'disk', clustered: false },
  'clustered-core': { kind: 'core', clustered: true },
  clustered_core: { kind: 'core', clustered: true },
  'clustered-disk': { kind: 'disk', clustered: true },
  clustered_disk: { kind: 'disk', clustered: true },
};

export interface ConstructorOptions {
  /** Whether `clustered-…` types can be served. Default false: they are refused with a message that says so. */
  readonly clustered?: boolean;
  /** Further types that live in memory and take the arguments of `core`: whoever serves them brings their logs. Default: none. */
  readonly memoryTypes?: readonly string[];
}

const MEMORY_TYPE = { kind: 'core', clustered: false } as const;

/**
 * Reads CTR's payload: `<target length in sectors> <log type> <args…>`, dm-log-userspace-base.c `build_constructor_string`.
 *
 * Types and arguments: `core <region_size> [sync|nosync]`, `disk <dev> <region_size> [sync|nosync]`, the same with `clustered-` or
 * `clustered_` in front, each with an optional last `block_on_error` (LVM wrote it once; it has no effect). The checks are those of
 * `create_log_context`, drivers/md/dm-log.c. Types of one's own: `memoryTypes`.
 *
 * @throws ConstructorError naming the argument that is wrong.
 */
export function parseConstructor(text: string, options: ConstructorOptions = {}): LogParameters {
  const words = text.trim().split(/[ \t\n]+/);
  const [length = '', typeName = '', ...rest] = words;
  const targetSectors = parseTargetLength(length);
  const further = options.memoryTypes?.includes(typeName) ? MEMORY_TYPE : undefined;
  const known = Object.hasOwn(KINDS, typeName) ? KINDS[typeName] : further;
  if (known === undefined) {
    throw new ConstructorError(typeName, 'unknown log type: expected core or disk');
  }
  if (known.clustered && options.clustered !== true) {
    throw new ConstructorError(
      typeName,
      'clustered logs are served by clusterd, not by this daemon: stop it and start clusterd, or use core or disk',
      EOPNOTSUPP,
    );
  }
  const args = rest.at(-1) === 'block_on_error' ? rest.slice(0, -1) : [...rest];
  const device = known.kind === 'disk' ? args.shift() : null;
  if (device === undefined || args.length < 1 || args.length > 2) {
    const form =
      known.kind === 'disk' ? '<device> <region size> [sync|nosync]' : '<region size> [sync|nosync]';
    throw new ConstructorError(rest.join(' '), `wrong number of arguments: ${typeName} takes ${form}`);
  }
  const regionSizeSectors = parseRegionSize(args[0] as string, targetSectors);
  const regionCount = Math.ceil(targetSectors / regionSizeSectors);
  if (regionCount > REGION_COUNT_MAX) {
    throw new ConstructorError(
      args[0] as string,
      `${regionCount} regions are more than ${REGION_COUNT_MAX}: choose a larger region size`,
    );
  }
  return {
    typeName,
    kind: known.kind,
    clustered: known.clustered,
    device,
    targetSectors,
    regionSizeSectors,
    regionCount,
    syncMode: parseSyncMode(args[1]),
    argumentText: [typeName, ...rest].join(' '),
  };
}

function parseTargetLength(word: string): number {
  const sectors = decimal(word);
  if (sectors === null || sectors < 1 || !Number.isSafeInteger(sectors)) {
    throw new ConstructorError(word, 'the target length must be a number of sectors, at least 1');
  }
  return sectors;
}

function parseRegionSize(word: string, targetSectors: number): number {
  const sectors = decimal(word);
  if (sectors === null || sectors > 0xffff_ffff) {
    throw new ConstructorError(word, 'the region size must be a number of sectors below 2^32');
  }
  if (sectors < REGION_SIZE_SECTORS_MIN || sectors > targetSectors) {
    throw new ConstructorError(
      word,
      `the region size must lie between ${REGION_SIZE_SECTORS_MIN} and the target's length of ${targetSectors} sectors`,
    );
  }
  if (!isPowerOfTwo(sectors)) {
    throw new ConstructorError(word, 'the region size must be a power of two');
  }
  return sectors;
}

function parseSyncMode(word: string | undefined): SyncMode {
  if (word === undefined) return 'default';
  if (word === 'sync' || word === 'nosync') return word;
  throw new ConstructorError(word, 'unrecognised: expected sync, nosync or nothing');
}

/** The value of a word of decimal digits, else null. Signs, spaces, exponents and hexadecimal are refused. */
function decimal(word: string): number | null {
  return /^[0-9]{1,20}$/.test(word) ? Number(word) : null;
}

function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(Math.log2(value));
}
