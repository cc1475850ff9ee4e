import { addCompletion, LOG_EVENTS, LOG_LEVELS, manPage } from '@dmlog/daemon';
import { RequestType } from '@dmlog/protocol';
import { Command, InvalidArgumentError, Option } from 'commander';
import manifest from '../package.json' with { type: 'json' };
import { flush, settings, trace, watch } from './commands/daemon-commands.js';
import { doctor } from './commands/doctor.js';
import { inspect, verify } from './commands/inspect.js';
import {
  attachMirror,
  createMirror,
  handOverMirror,
  REGION_SIZE_DEFAULT,
  removeMirror,
} from './commands/mirror.js';
import { recover, refresh } from './commands/refresh.js';
import { repair } from './commands/repair.js';
import { replay } from './commands/replay.js';
import { CLUSTER_COLUMNS, STATUS_COLUMNS, status } from './commands/status.js';
import { top } from './commands/top.js';
import { Connection } from './connection.js';
import type { Environment } from './environment.js';
import { EXIT_CODE_TEXTS } from './exit-codes.js';

/** What a command does, with its arguments and options as commander gives them. */
type Action = (
  args: readonly [never, ...never[]],
  flags: never,
  connection: () => Connection,
  environment: Environment,
) => Promise<number>;

export const EXIT_CODES_HELP = `\nExit codes:\n${EXIT_CODE_TEXTS.map(([code, text]) => `  ${String(code).padEnd(4)} ${text}`).join('\n')}`;

const titles = (columns: typeof STATUS_COLUMNS): string => columns.map(([title]) => title).join(', ');
const MANUAL: Parameters<typeof manPage>[1] = {
  exitCodes: EXIT_CODE_TEXTS,
  sections: [
    [
      'COLUMNS',
      `Of status, in this order; new ones come at the end: ${titles(STATUS_COLUMNS)}. Where a log is clustered, also: ${titles(CLUSTER_COLUMNS)}.`,
    ],
  ],
  seeAlso: ['singled', 'clusterd', 'dmsetup'],
};

/** The command line: help, manual and completion are made from it. `done` is told the exit code. */
export function commandLine(environment: Environment, done: (exitCode: number) => void): Command {
  const program = new Command('dmlogctl')
    .description('Looks after device-mapper userspace dirty logs.')
    .version(manifest.version)
    .option(
      '--runtime-dir <directory>',
      'where the daemon keeps its state and control socket (default: /run/dmlog)',
    )
    .option(
      '--control-socket <path>',
      'control socket of the daemon (default: singled.sock or clusterd.sock in the runtime directory)',
    )
    .addHelpText('after', EXIT_CODES_HELP);
  const connection = (): Connection => new Connection(program.opts());
  const does = (command: Command, action: Action): Command =>
    command.allowExcessArguments(false).action(async (...given: unknown[]) => {
      const flags = given[given.length - 2];
      done(
        await action(
          given.slice(0, -2) as unknown as readonly [never],
          flags as never,
          connection,
          environment,
        ),
      );
    });
  const add = (parent: Command, name: string, description: string, action: Action): Command =>
    does(parent.command(name).description(description), action);

  does(program.command('status', { isDefault: true }), (_args, flags, to) => status(to(), flags, environment))
    .description('show the logs: how much is in sync, how fast the rest comes, the cluster')
    .option('--json', 'print what the daemon answers, with rates, as JSON')
    .option('--no-rate', 'answer at once: do not look twice while something is resynced');
  add(
    program,
    'watch',
    'print events as they happen, one JSON line each, until interrupted',
    (_args, flags: { event?: string[] }, to) =>
      watch(to(), flags.event === undefined ? {} : { events: flags.event }, environment),
  ).addOption(new Option('--event <name...>', 'only these events').choices([...LOG_EVENTS]));
  add(program, 'top', 'live view of the logs: region maps, rates, latencies; q ends it', (_args, flags, to) =>
    top(to(), flags, environment),
  ).option('--interval <seconds>', 'between two looks', number, 1);
  add(program, 'trace [log]', 'show requests and replies as they pass', ([log], flags, to) =>
    trace(to(), log, flags, environment),
  )
    .addOption(
      new Option('--type <name...>', 'only these requests')
        .choices(Object.keys(RequestType))
        .argParser(upperCase),
    )
    .option('--write <file>', 'write them to a file in the trace format instead')
    .option('--count <n>', 'end after so many requests', wholeNumber);
  add(
    program,
    'inspect <image>',
    'show the on-disk image of a log: counts, map, differences',
    ([image], flags) => inspect(image, flags, environment),
  )
    .option('--map', 'draw a map of its regions')
    .option('--png <file>', 'draw it into a PNG file')
    .option('--difference <other>', 'compare with another image; exit code 1 where they differ')
    .option('--json', 'print JSON');
  add(
    program,
    'verify <image>',
    'check the on-disk image of a log; exit code 1 where something is wrong',
    ([image], flags) => verify(image, flags, environment),
  )
    .option('--regions <n>', 'it must have so many regions', wholeNumber)
    .option('--clean', 'all regions must be clean')
    .option('--json', 'print JSON');
  add(
    program,
    'repair <image>',
    'show what would make a damaged image one that is accepted, or do it; never makes a region clean',
    ([image], flags) => repair(image, flags, environment),
  )
    .option('--tentative', 'show it and write nothing: so it is without --write, too')
    .addOption(new Option('--write', 'do it, after it was shown').conflicts('tentative'))
    .option(
      '--regions <n>',
      'the mirror has so many regions; needed where the header is damaged',
      wholeNumber,
    )
    .option('--dirty <region...>', 'make these dirty, too: 7 or 3-9')
    .option('--all-dirty', 'make all dirty: everything is copied')
    .option(
      '--backup <file>',
      'keep the bytes as they were there (default: <image>.<time>.before-repair, in this folder)',
    )
    .addOption(new Option('--json', 'print JSON').conflicts('write'));
  add(
    program,
    'flush [log]',
    'give up what lazy clear keeps dirty, and wait until the log device says so',
    ([log], flags, to) => flush(to(), log, flags, environment),
  )
    .option('--timeout <seconds>', 'wait so long at most', number, 10)
    .option('--json', 'print JSON');
  add(
    program,
    'refresh [logs...]',
    'load the tables of mirrors again, while they are in use',
    ([logs], flags, to) => refresh(to(), logs, flags, environment),
  )
    .option('--all', 'of all logs')
    .option('--dry-run', 'print the dmsetup commands and do nothing');
  add(
    program,
    'recover [logs...]',
    'refresh logs with regions that nobody resyncs, and wait until all is in sync',
    ([logs], flags, to) => recover(to(), logs, flags, environment),
  )
    .option('--timeout <seconds>', 'wait so long at most', number, 3600)
    .option('--dry-run', 'print the dmsetup commands and do nothing');
  add(program, 'settings', 'show settings of the daemon, or change them until its end', (_args, flags, to) =>
    settings(to(), flags, environment),
  )
    .option('--lazy-clear-ms <n>', 'keep cleared regions dirty so long; 0 is off', wholeNumber)
    .option('--lazy-clear-regions-max <n>', 'regions of a log that may wait so', wholeNumber)
    .addOption(new Option('--log-level <level>', 'lines that the daemon writes').choices([...LOG_LEVELS]))
    .option('--json', 'print JSON');
  addMirrorCommands(program, add);
  add(program, 'doctor', 'look for what is wrong on this machine, and say what to do', (_args, flags, to) =>
    doctor(to(), flags, environment),
  ).option('--json', 'print JSON');
  add(
    program,
    'replay <trace>',
    'ask a fresh log what a recorded kernel asked, without a kernel, and compare the answers',
    ([file], flags) => replay(file, flags, environment),
  ).option('--verbose', 'show every request');
  addCompletion(program, environment.out);
  add(program, 'man', 'print the manual page (man -l -)', async () => {
    environment.out(manPage(program, MANUAL));
    return 0;
  });
  return program;
}

function addMirrorCommands(
  program: Command,
  add: (parent: Command, name: string, description: string, action: Action) => Command,
): void {
  const mirror = program
    .command('mirror')
    .description("make mirrors with logs of the daemon, and move mirrors between its logs and the kernel's");
  const dryRun = ['--dry-run', 'print the dmsetup commands and do nothing'] as const;
  add(mirror, 'create <name>', 'make a mirror', ([name], flags, _to, environment) =>
    createMirror(name, flags, environment),
  )
    .requiredOption('--leg <device...>', 'its legs, the first one holds the data')
    .option('--log <device>', "the log's device; without it the log is in memory only")
    .option('--region-size <size>', 'unit in which it is resynced', REGION_SIZE_DEFAULT)
    .option('--size <size>', 'of the mirror (default: of its smallest leg)')
    .option('--uuid <uuid>', 'of the log (default: a new one)')
    .addOption(
      new Option('--sync <mode>', 'sync: copy everything; nosync: the legs are equal already').choices([
        'sync',
        'nosync',
      ]),
    )
    .option('--clustered', 'a log of clusterd, the same on all nodes')
    .option('--integrated-flush', 'marks ride in flushes')
    .option('--no-handle-errors', 'a failed leg or log lets writes through instead of holding them')
    .option(...dryRun);
  add(
    mirror,
    'attach <name>',
    "move a live mirror from the kernel's own log to the daemon's",
    ([name], flags, _to, environment) => attachMirror(name, flags, environment),
  )
    .option('--uuid <uuid>', 'of the log (default: a new one)')
    .option('--integrated-flush', 'marks ride in flushes')
    .option(...dryRun);
  add(
    mirror,
    'handover <name>',
    "move a live mirror from the daemon's log to the kernel's own",
    ([name], flags, _to, environment) => handOverMirror(name, flags, environment),
  ).option(...dryRun);
  add(
    mirror,
    'remove <name>',
    'remove a mirror; its legs and log stay as they are',
    ([name], flags, _to, environment) => removeMirror(name, flags, environment),
  ).option(...dryRun);
}

function number(text: string): number {
  if (/^[0-9]{1,12}(\.[0-9]+)?$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be a number.');
}

function wholeNumber(text: string): number {
  if (/^[0-9]{1,12}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be a whole number.');
}

function upperCase(text: string, before: string[] | undefined): string[] {
  const name = text.toUpperCase();
  if (!Object.hasOwn(RequestType, name))
    throw new InvalidArgumentError(`Known are ${Object.keys(RequestType).join(', ')}.`);
  return [...(before ?? []), name];
}
