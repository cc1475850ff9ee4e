import { execFile } from 'node:child_process';
import type { ProcessFinding } from './doctor-process.js';

/** What systemd knows of a unit (`systemctl show`, one `Name=value` per line); empty where it does not run, or does not know the unit. */
export type UnitProperties = (unit: string) => Promise<string>;

/** Read by {@link unitOrderFindings}. */
const PROPERTIES = [
  'LoadState',
  'NeedDaemonReload',
  'DefaultDependencies',
  'IgnoreOnIsolate',
  'Conflicts',
  'Before',
  'After',
  'Wants',
  'Requires',
  'ExecStart',
  'SurviveFinalKillSignal',
] as const;

/** It answers at once or, where its bus hangs, after minutes. */
const SYSTEMCTL_MS_MAX = 10_000;

export const unitProperties: UnitProperties = (unit) =>
  new Promise((resolve) => {
    const args = ['show', '--no-pager', '--property', PROPERTIES.join(','), '--', unit];
    const options = { timeout: SYSTEMCTL_MS_MAX, killSignal: 'SIGKILL' } as const;
    // Whatever goes wrong: this machine may be run by something else, and then there is no order to look at.
    execFile('systemctl', args, options, (error, stdout) => resolve(error === null ? stdout : ''));
  });

/** Reached before file systems are mounted that may be on a mirror of the daemon. */
const MOUNTS = {
  singled: ['local-fs-pre.target', 'file systems'],
  clusterd: ['remote-fs-pre.target', 'file systems with _netdev'],
} as const;

/**
 * Whether systemd starts the daemon before what needs it, and keeps it until nothing does, from what it says of the unit ({@link UnitProperties}). The units of this
 * project do; drop-ins, copies and distributions change units. Nothing is found where systemd does not know the unit.
 */
export function unitOrderFindings(program: string, shown: string): ProcessFinding[] {
  const unit = new Map<string, string>();
  for (const line of shown.split('\n')) {
    const at = line.indexOf('=');
    if (at > 0) unit.set(line.slice(0, at), line.slice(at + 1));
  }
  if (unit.get('LoadState') !== 'loaded' || !Object.hasOwn(MOUNTS, program)) return [];
  const service = `${program}.service`;
  const found: ProcessFinding[] = [];
  const add = (level: 'note' | 'problem', what: string, lines: string): void => {
    found.push([
      level,
      `${service}: ${what}`,
      lines.startsWith('systemctl') ? lines : `systemctl edit ${service}: ${lines}`,
    ]);
  };
  const names = (property: string): string[] => (unit.get(property) ?? '').split(' ');
  const [target, what] = MOUNTS[program as keyof typeof MOUNTS];

  if (unit.get('NeedDaemonReload') === 'yes')
    add('note', 'its file has changed since systemd read it', 'systemctl daemon-reload');
  const stops = ['shutdown.target', 'umount.target'].filter((name) => names('Conflicts').includes(name));
  if (unit.get('DefaultDependencies') === 'yes' || stops.length > 0)
    add(
      'problem',
      'a shutdown stops it while file systems on its mirrors are still mounted, and their last writes wait for ever',
      unit.get('DefaultDependencies') === 'yes'
        ? 'DefaultDependencies=no in [Unit]'
        : `no Conflicts=${stops.join(' ')} in [Unit]`,
    );
  if (unit.get('IgnoreOnIsolate') === 'no')
    add(
      'problem',
      '"systemctl isolate", and so a change to rescue mode, stops it under mounted file systems',
      'IgnoreOnIsolate=yes in [Unit]',
    );
  if (!names('Before').includes(target))
    add(
      'problem',
      `${what} on its mirrors may be mounted before it answers, and unmounted after it has ended`,
      `Before=${target} and Wants=${target} in [Unit]`,
    );
  else if (![...names('Wants'), ...names('Requires')].includes(target))
    add(
      'note',
      `it is ordered before ${target}, which it does not ask for: where no other unit does, that order is none`,
      `Wants=${target} in [Unit]`,
    );
  if (program === 'clusterd' && !names('After').includes('corosync.service'))
    add(
      'note',
      'it may start before corosync and end after it: clustered logs wait meanwhile',
      'After=corosync.service in [Unit]',
    );
  const isSpared =
    unit.get('SurviveFinalKillSignal') === 'yes' || /\bargv\[\]=@/.test(unit.get('ExecStart') ?? '');
  if (!isSpared)
    add(
      'problem',
      'the end of a shutdown kills it before the last file systems are unmounted',
      `ExecStart=@/usr/bin/node @${program} … in [Service], the first letter of its name an @`,
    );
  return found.length > 0
    ? found
    : [['ok', `${service} starts before ${what} are mounted and stays until they are unmounted`, '']];
}
