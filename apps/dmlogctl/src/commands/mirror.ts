import { randomUUID } from 'node:crypto';
import type { Dmsetup } from '@dmlog/daemon';
import type { Environment } from '../environment.js';
import { CommandFailure, ExitCode } from '../exit-codes.js';
import {
  formatMirrorTable,
  type MirrorTable,
  parseMirrorStatus,
  parseMirrorTable,
  type TableLog,
  withoutSyncMode,
} from '../mirror-table.js';
import { parseBytes } from '../sizes.js';

const SECTOR_BYTES = 512;
/** What the kernel's tools choose. */
export const REGION_SIZE_DEFAULT = '512K';

export interface DryRun {
  /** Print the commands and change nothing. */
  readonly dryRun?: boolean;
}

export interface CreateFlags extends DryRun {
  readonly leg: readonly string[];
  /** Absent: a log in memory. */
  readonly log?: string;
  readonly regionSize: string;
  readonly uuid?: string;
  readonly size?: string;
  readonly sync?: 'sync' | 'nosync';
  readonly clustered?: boolean;
  readonly integratedFlush?: boolean;
  readonly handleErrors: boolean;
}

/** `mirror create`: the table that current LVM can no longer make. */
export async function createMirror(
  name: string,
  flags: CreateFlags,
  environment: Environment,
): Promise<number> {
  if (flags.leg.length < 2)
    throw new CommandFailure(ExitCode.USAGE, 'a mirror has at least two legs: give --leg twice');
  const regionBytes = parseBytes(flags.regionSize, '--region-size');
  const regionSectors = regionBytes / SECTOR_BYTES;
  if (!Number.isInteger(Math.log2(regionSectors)) || regionSectors < 2) {
    throw new CommandFailure(
      ExitCode.USAGE,
      `--region-size ${flags.regionSize}: a power of two of at least 1K`,
    );
  }
  const bytes =
    flags.size === undefined ? await smallest(flags.leg, environment) : parseBytes(flags.size, '--size');
  const lengthSectors = Math.floor(bytes / SECTOR_BYTES);
  if (lengthSectors < regionSectors) {
    throw new CommandFailure(
      ExitCode.USAGE,
      `the mirror has ${bytes} bytes, less than a region (${flags.regionSize})`,
    );
  }
  const kind = flags.log === undefined ? 'core' : 'disk';
  const table = formatMirrorTable({
    start: '0',
    lengthSectors: String(lengthSectors),
    log: {
      kind: 'userspace',
      uuid: flags.uuid ?? randomUUID(),
      integratedFlush: flags.integratedFlush === true,
      type: flags.clustered === true ? `clustered-${kind}` : kind,
      args: [
        ...(flags.log === undefined ? [] : [flags.log]),
        String(regionSectors),
        ...(flags.sync === undefined ? [] : [flags.sync]),
      ],
    },
    rest: [
      String(flags.leg.length),
      ...flags.leg.flatMap((leg) => [leg, '0']),
      ...(flags.handleErrors ? ['1', 'handle_errors'] : []),
    ],
  });
  await run(environment, flags, [[['create', name, '--table', table]]]);
  return ExitCode.OK;
}

/** `mirror remove`. */
export async function removeMirror(name: string, flags: DryRun, environment: Environment): Promise<number> {
  await tableOf(environment, name);
  await run(environment, flags, [[['remove', name]]]);
  return ExitCode.OK;
}

export interface AttachFlags extends DryRun {
  readonly uuid?: string;
  readonly integratedFlush?: boolean;
}

/** `mirror attach`: from the kernel's own log to the daemon's, mounted. */
export function attachMirror(name: string, flags: AttachFlags, environment: Environment): Promise<number> {
  return exchange(name, flags, environment, (log) => {
    if (log.kind === 'userspace')
      throw new CommandFailure(ExitCode.USAGE, `${name} has a log of the daemon already`);
    return {
      kind: 'userspace',
      uuid: flags.uuid ?? randomUUID(),
      integratedFlush: flags.integratedFlush === true,
      type: log.kind,
      args: withoutSyncMode(log.args),
    };
  });
}

/** `mirror handover`: from the daemon's log back to the kernel's own. */
export function handOverMirror(name: string, flags: DryRun, environment: Environment): Promise<number> {
  return exchange(name, flags, environment, (log) => {
    const { kind, type, args } = log;
    if (kind !== 'userspace')
      throw new CommandFailure(ExitCode.USAGE, `${name} has a log of the kernel already`);
    if (type !== 'core' && type !== 'disk') {
      throw new CommandFailure(
        ExitCode.USAGE,
        `${name} has a log of type ${type}: the kernel has no clustered logs; make it a local one first, on one node, with the mirror removed on all others`,
      );
    }
    return { kind: type, args: withoutSyncMode(args) };
  });
}

/**
 * Another log for a live mirror. A disk log's image is the same for both, so the tables are exchanged in one step of the kernel. What a log in memory knows is lost: the
 * mirror is suspended, and only where everything is in sync the new log begins so.
 */
async function exchange(
  name: string,
  flags: DryRun,
  environment: Environment,
  other: (log: TableLog) => TableLog,
): Promise<number> {
  const { dmsetup, out } = environment;
  const table = await tableOf(environment, name);
  const log = other(table.log);
  const isDisk = log.kind === 'disk' || log.type === 'disk';
  if (isDisk) {
    await run(environment, flags, [
      [
        ['load', name, '--table', formatMirrorTable({ ...table, log })],
        ['resume', name],
      ],
    ]);
    return ExitCode.OK;
  }
  if (flags.dryRun !== true) await dmsetup(['suspend', name]);
  try {
    const { inSync, regions, health } = parseMirrorStatus(await dmsetup(['status', name]));
    const isInSync = inSync === regions && /^A+$/.test(health);
    if (!isInSync)
      out(`${name}: ${inSync} of ${regions} regions are in sync, legs ${health}: all will be copied again\n`);
    const args = isInSync ? [...log.args, 'nosync'] : log.args;
    const load = ['load', name, '--table', formatMirrorTable({ ...table, log: { ...log, args } })];
    if (flags.dryRun === true) out(commandLine(['suspend', name]));
    await run(environment, flags, [[load, ['resume', name]]]);
  } catch (error) {
    // Whatever failed, the mirror must not stay suspended: with the table that it has.
    if (flags.dryRun !== true) await dmsetup(['resume', name]);
    throw error;
  }
  return ExitCode.OK;
}

async function tableOf({ dmsetup }: Environment, name: string): Promise<MirrorTable> {
  let text: string;
  try {
    text = await dmsetup(['table', name]);
  } catch (cause) {
    throw new CommandFailure(ExitCode.NO_INPUT, `there is no device ${name}: ${(cause as Error).message}`, {
      cause,
    });
  }
  return parseMirrorTable(name, text);
}

async function smallest(legs: readonly string[], { deviceBytes }: Environment): Promise<number> {
  return Math.min(...(await Promise.all(legs.map((leg) => deviceBytes(leg)))));
}

/** Runs the commands one after the other, or prints them. */
async function run(
  { dmsetup, out }: Environment,
  { dryRun }: DryRun,
  groups: readonly (readonly string[][])[],
): Promise<void> {
  for (const args of groups.flat()) {
    if (dryRun === true) out(commandLine(args));
    else await asCommand(dmsetup, args);
  }
}

async function asCommand(dmsetup: Dmsetup, args: readonly string[]): Promise<void> {
  try {
    await dmsetup(args);
  } catch (cause) {
    const { message } = cause as Error;
    const advice = /resource busy/.test(message)
      ? 'it is in use: unmount it, or stop what has it open (lsof)'
      : "the kernel's log (dmesg) and the daemon's say why";
    throw new CommandFailure(ExitCode.SYSTEM, `${message}; ${advice}`, { cause });
  }
}

function commandLine(args: readonly string[]): string {
  return `dmsetup ${args.map((word) => (/^[\w/.:=+-]+$/.test(word) ? word : `'${word.replace(/'/g, "'\\''")}'`)).join(' ')}\n`;
}
