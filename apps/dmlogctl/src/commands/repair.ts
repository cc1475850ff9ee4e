import { closeSync, fsyncSync, openSync, readdirSync, readFileSync, realpathSync, writeSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { RegionBitmap } from '@dmlog/bitmap';
import { deviceNumberOf, holderNamesOf } from '@dmlog/daemon';
import { BITMAP_OFFSET, imageBytes } from '@dmlog/log';
import type { Environment } from '../environment.js';
import { CommandFailure, ExitCode } from '../exit-codes.js';
import { type ImageSource, openSource, readWhatCan } from '../image-source.js';
import {
  judge,
  parseRun,
  planRepair,
  type Repair,
  type RepairWishes,
  WRITE_BYTES_MAX,
} from '../repair-plan.js';
import { RUNS_SHOWN, runsOf, runsText } from '../runs.js';

export interface RepairFlags {
  readonly tentative?: boolean;
  readonly write?: boolean;
  readonly regions?: number;
  readonly dirty?: readonly string[];
  readonly allDirty?: boolean;
  readonly backup?: string;
  readonly json?: boolean;
}

/**
 * Shows what would make the image at `path` one that a daemon takes, and with `--write` does it. Never makes a region clean: what cannot be believed becomes dirty,
 * and is copied from the first leg. The bytes that were there are kept in a file.
 */
export async function repair(path: string, flags: RepairFlags, environment: Environment): Promise<number> {
  const wishes: RepairWishes = {
    regions: flags.regions,
    dirty: (flags.dirty ?? []).map(parseRun),
    allDirty: flags.allDirty === true,
  };
  const source = await openSource(path, { writable: flags.write === true });
  try {
    if (flags.write === true) await refuseInUse(path, source, environment);
    const { before, plan } = await lookAt(path, source, wishes);
    environment.out(
      flags.json === true
        ? `${JSON.stringify(asJson(path, plan), null, 2)}\n`
        : `${describe(path, plan).join('\n')}\n`,
    );
    if (plan.changes.length === 0) return ExitCode.OK;
    if (flags.write !== true) {
      if (flags.json !== true)
        environment.out('nothing was written: --write does this, and keeps the bytes as they are now\n');
      return ExitCode.FOUND;
    }
    const backup = resolve(flags.backup ?? backupName(path));
    keep(backup, before);
    await carryOut(path, source, plan);
    environment.out(`written; to undo it: dd if=${quoted(backup)} of=${quoted(path)} conv=notrunc,fsync\n`);
    return ExitCode.OK;
  } finally {
    await source.close();
  }
}

/** A daemon writes its own bits over whatever is there, and a file below a loop device has another cache. */
async function refuseInUse(path: string, { held }: ImageSource, { sysfsRoot }: Environment): Promise<void> {
  const found = await stat(path);
  if (held) {
    const names = await holderNamesOf(deviceNumberOf(found.rdev)).catch(() => []);
    throw new CommandFailure(
      ExitCode.SYSTEM,
      `${path} is in use by ${names.join(', ') || 'a mirror'}, whose log is in the daemon's or the kernel's memory: what is written here would be overwritten. Take the mirror down first (dmsetup remove)`,
    );
  }
  if (!found.isFile()) return;
  const file = realpathSync(path);
  for (const name of listed(`${sysfsRoot}/block`).filter((device) => device.startsWith('loop'))) {
    if (content(`${sysfsRoot}/block/${name}/loop/backing_file`) !== file) continue;
    throw new CommandFailure(
      ExitCode.SYSTEM,
      `${path} is attached to /dev/${name}: repair that, or detach it first (losetup -d /dev/${name})`,
    );
  }
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function content(file: string): string | null {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return null;
  }
}

async function lookAt(
  path: string,
  source: ImageSource,
  wishes: RepairWishes,
): Promise<{ before: Uint8Array; plan: Repair }> {
  const { blockBytes } = source;
  const unreadable = new Set<number>();
  const head = await readWhatCan(source, 0, Math.ceil(BITMAP_OFFSET / blockBytes) * blockBytes, unreadable);
  const judgement = judge(path, unreadable.has(0) ? null : head, source, wishes);
  for (const [, to] of wishes.dirty) {
    if (to < judgement.regionCount) continue;
    throw new CommandFailure(
      ExitCode.USAGE,
      `--dirty: there is no region ${to}: ${path} has regions 0 to ${judgement.regionCount - 1}`,
    );
  }
  const length = imageBytes(judgement.regionCount, blockBytes);
  const before = new Uint8Array(length);
  for (let at = 0; at < length; at += WRITE_BYTES_MAX) {
    const part = Math.min(WRITE_BYTES_MAX, length - at);
    before.set(await readWhatCan(source, at, part, unreadable), at);
  }
  return { before, plan: planRepair(before, blockBytes, judgement, unreadable, wishes) };
}

/** The header last: a power cut never leaves a count that vouches for bits that are not there yet. */
async function carryOut(path: string, source: ImageSource, { bytes, changes }: Repair): Promise<void> {
  for (const { offset, length } of [...changes].reverse())
    await source.write(bytes.subarray(offset, offset + length), offset);
  for (const { offset, length } of changes) {
    const found = await source.read(length, offset);
    if (Buffer.compare(found, bytes.subarray(offset, offset + length)) === 0) continue;
    throw new CommandFailure(
      ExitCode.SYSTEM,
      `${path} does not keep what was written at byte ${offset}: use another log device, and have everything copied ("sync" behind the region size)`,
    );
  }
}

/** In this folder, as the device's own may be the mirror's. */
function backupName(path: string): string {
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
  return `${basename(path)}.${time}.before-repair`;
}

function keep(file: string, bytes: Uint8Array): void {
  const fd = openSync(file, 'wx', 0o600);
  for (let done = 0; done < bytes.byteLength; ) done += writeSync(fd, bytes, done);
  fsyncSync(fd);
  closeSync(fd);
  const directory = openSync(dirname(file), 'r');
  fsyncSync(directory);
  closeSync(directory);
}

function quoted(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function newlyDirty({ cleanBefore, cleanAfter }: Repair): RegionBitmap {
  const lost = new RegionBitmap(cleanBefore.regionCount);
  lost.copyFrom(cleanBefore);
  lost.andNot(cleanAfter);
  return lost;
}

function describe(path: string, plan: Repair): string[] {
  const lost = newlyDirty(plan);
  const { findings, regionCount, changes, cleanAfter } = plan;
  if (changes.length === 0) return [`${path}: a log of ${regionCount} regions, nothing to repair`];
  const shown = changes.slice(0, RUNS_SHOWN).map(({ offset, length }) => `${length} bytes at byte ${offset}`);
  return [
    ...findings.map((finding) => `${path}: ${finding}`),
    `header      version 2, ${regionCount} regions`,
    `dirty       ${cleanAfter.zeros}, of which ${lost.count} were clean${runsText(lost, true)}`,
    `to write    ${shown.join(', ')}${changes.length > RUNS_SHOWN ? ', …' : ''}`,
  ];
}

function asJson(path: string, plan: Repair): object {
  const lost = newlyDirty(plan);
  return {
    path,
    findings: plan.findings,
    regionCount: plan.regionCount,
    dirtyCount: plan.cleanAfter.zeros,
    newlyDirtyCount: lost.count,
    newlyDirtyRuns: runsOf(lost, true, RUNS_SHOWN),
    changes: plan.changes,
  };
}
