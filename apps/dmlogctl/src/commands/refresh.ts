import { type LogStatus, mirrorsOf, reloadTable } from '@dmlog/daemon';
import type { Connection } from '../connection.js';
import type { Environment } from '../environment.js';
import { CommandFailure, ExitCode } from '../exit-codes.js';
import type { DryRun } from './mirror.js';
import { isResyncing, pause } from './status.js';

const POLL_MS = 500;

export interface RefreshFlags extends DryRun {
  readonly all?: boolean;
}

/** `refresh`: the tables of these logs, by name or uuid, are loaded again and exchanged for the live ones, while mounted. */
export async function refresh(
  connection: Connection,
  names: readonly string[],
  flags: RefreshFlags,
  { dmsetup, out }: Environment,
): Promise<number> {
  const { status } = await connection.status();
  const chosen = flags.all === true ? status.logs : names.map((name) => find(status.logs, name));
  if (chosen.length === 0)
    throw new CommandFailure(ExitCode.USAGE, 'name the logs to refresh, or give --all');
  const tables = await dmsetup(['table', '--target', 'mirror']);
  for (const uuid of new Set(chosen.map((log) => log.uuid))) {
    const mirrors = mirrorsOf(uuid, tables);
    if (mirrors.length === 0)
      throw new CommandFailure(ExitCode.NO_INPUT, `no mirror of this machine has the log ${uuid}`);
    for (const mirror of mirrors) {
      if (flags.dryRun === true) {
        out(`dmsetup load ${mirror.name} --table '${mirror.table}'\ndmsetup resume ${mirror.name}\n`);
      } else if (await reloadTable(dmsetup, mirror)) {
        out(`${mirror.name} (${uuid}): table reloaded\n`);
      } else {
        throw new CommandFailure(
          ExitCode.NOT_DONE,
          `${mirror.name} (${uuid}) is suspended, or another table waits in it: somebody is at work on it; then try again`,
        );
      }
    }
  }
  return ExitCode.OK;
}

/** `recover`: refreshes the logs that have regions no kernel asks for any more, and waits until all is in sync. */
export async function recover(
  connection: Connection,
  names: readonly string[],
  flags: DryRun & { readonly timeout: number },
  environment: Environment,
): Promise<number> {
  const { status } = await connection.status();
  const chosen = names.length === 0 ? status.logs : names.map((name) => find(status.logs, name));
  const broken = chosen.filter((log) => log.state === 'live' && needsReload(log));
  if (broken.length > 0)
    await refresh(
      connection,
      broken.map(({ uuid }) => uuid),
      flags,
      environment,
    );
  else environment.out('no log needs a reload\n');
  if (flags.dryRun === true) return ExitCode.OK;
  const uuids = new Set(chosen.map(({ uuid }) => uuid));
  const until = performance.now() + flags.timeout * 1000;
  while (!environment.signal.aborted) {
    const { logs } = (await connection.status()).status;
    const left = logs.filter((log) => uuids.has(log.uuid) && (isResyncing(log) || inDoubt(log) > 0));
    if (left.length === 0) break;
    if (performance.now() > until) {
      const what = left.map(
        (log) => `${log.dmName ?? '?'} (${log.uuid}): ${log.inSyncCount} of ${log.regionCount} in sync`,
      );
      throw new CommandFailure(ExitCode.NOT_DONE, `not in sync after ${flags.timeout} s: ${what.join('; ')}`);
    }
    await pause(POLL_MS, environment.signal);
  }
  environment.out('all regions are in sync\n');
  return ExitCode.OK;
}

function inDoubt({ cluster }: LogStatus): number {
  return cluster === undefined ? 0 : cluster.staleCount + cluster.givenUpCount;
}

/** A kernel asks for work only from RESUME until all was in sync, so what falls out of sync later waits for a reload; so do regions in doubt. */
function needsReload(log: LogStatus): boolean {
  return inDoubt(log) > 0 || (isResyncing(log) && log.recovering === null);
}

function find(logs: readonly LogStatus[], name: string): LogStatus {
  const found = logs.find(({ uuid, dmName }) => uuid === name || dmName === name);
  if (found !== undefined) return found;
  throw new CommandFailure(
    ExitCode.NO_INPUT,
    `no log has the uuid or name ${JSON.stringify(name)}: see dmlogctl status`,
  );
}
