import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { loadConfig } from '../config/load.js';
import { type DaemonConfig, TRANSPORT_CHOICES } from '../config/schema.js';
import { controlRequest } from '../control/client.js';
import { ControlError } from '../control/errors.js';
import { endProcess } from '../lifecycle/end.js';
import { EXIT_CODE_TEXTS, ExitCode, exitCodeOf } from '../lifecycle/exit-codes.js';
import { settleInIoPath } from '../lifecycle/io-path.js';
import { runDaemon } from '../lifecycle/run.js';
import { createLogger, LOG_LEVELS } from '../logging.js';
import { DaemonStatus } from '../serve-types.js';
import { addCompletion } from './completion.js';
import { formatStatus } from './format.js';
import { manPage } from './man.js';
import type { Program } from './program.js';

/** How long log lines may take to leave at the end of the process. */
const LOG_CLOSE_MS = 2000;
/** The same where somebody does not want to wait. */
const LAST_LINE_MS = 200;

/** A program and what it touches; tests give their own. */
export interface CommandEnvironment extends Program {
  readonly out: (text: string) => void;
  readonly error: (text: string) => void;
  /** Called before a daemon starts; returns what it could not do for a process in the I/O path. May begin the process anew. Default: nothing is tried. */
  readonly prepare?: () => string | null;
}

const MANUAL = {
  exitCodes: EXIT_CODE_TEXTS,
  sections: [
    [
      'SIGNALS',
      'SIGTERM and SIGINT end it; SIGHUP has the program and configuration on disk take its place.',
    ],
    [
      'FILES',
      '/run/dmlog: runtime state, control socket and lock. An example of a configuration file is in /usr/share/doc/dmlog/examples.',
    ],
  ],
  seeAlso: ['dmlogctl', 'dmsetup'],
} as const;

interface RunFlags {
  config?: string;
  runtimeDir?: string;
  controlSocket?: string;
  logLevel?: string;
  http?: string;
  pollMicroseconds?: number;
  transport?: string;
  lazyClearMs?: number;
  unsafeAcceptUserRequests?: boolean;
}

/**
 * Runs the command line `args` (without node and script) and resolves with the exit code. Never rejects. Without a subcommand it serves, in the
 * foreground, until it is stopped.
 */
export async function runCommand(args: readonly string[], environment: CommandEnvironment): Promise<number> {
  let exitCode: number = ExitCode.OK;
  const program = commandLine(environment);
  program.action(async (flags: RunFlags) => {
    exitCode = await run(flags, environment);
  });
  program
    .command('status')
    .description(`show the logs of a running ${environment.name}`)
    .option('--json', 'print what the daemon answers as JSON')
    .action(async (flags: { json?: boolean }) => {
      await status(flags.json === true, program.opts<RunFlags>(), environment);
    });
  addCompletion(program, environment.out);
  program
    .command('man')
    .description('print the manual page (man -l -)')
    .action(() => environment.out(manPage(program, MANUAL)));
  quietly(program, environment);
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    // Commander has already printed its own errors, and help and version end so too.
    if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.OK : ExitCode.USAGE;
    environment.error(`${environment.name}: ${error instanceof Error ? error.message : String(error)}\n`);
    return exitCodeOf(error);
  }
}

function commandLine({ name, description, version }: CommandEnvironment): Command {
  return new Command(name)
    .description(`${description}. Stays in the foreground.`)
    .version(version)
    .option('--config <file>', 'TOML configuration file; options here win over it')
    .option('--runtime-dir <directory>', 'state that a restarted daemon finds again (default: /run/dmlog)')
    .option('--control-socket <path>', `control socket (default: ${name}.sock in the runtime directory)`)
    .addOption(new Option('--log-level <level>', 'lines to write to standard error').choices([...LOG_LEVELS]))
    .option('--http <address>', 'serve a status page and metrics at 127.0.0.1:<port> or on a unix socket')
    .option('--poll-microseconds <n>', 'look so long for the next request; 0 is off', wholeNumber)
    .addOption(new Option('--transport <name>', 'how to talk to the kernel').choices([...TRANSPORT_CHOICES]))
    .option('--lazy-clear-ms <n>', 'keep cleared regions dirty so long; 0 is off', wholeNumber)
    .option('--unsafe-accept-user-requests', 'serve requests of any local process: tests only')
    .allowExcessArguments(false)
    .addHelpText(
      'after',
      `\nExit codes:\n${EXIT_CODE_TEXTS.map(([code, text]) => `  ${code.padEnd(6)} ${text}`).join('\n')}`,
    );
}

/** Errors are thrown and printed through the environment, by subcommands too. */
function quietly(program: Command, environment: CommandEnvironment): void {
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({ writeOut: environment.out, writeErr: environment.error });
  }
}

function wholeNumber(text: string): number {
  if (/^[0-9]{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be a whole number.');
}

function configOf(flags: RunFlags, { name }: CommandEnvironment): DaemonConfig {
  const { config: file, ...rest } = flags;
  return loadConfig({ program: name, flags: rest, ...(file === undefined ? {} : { file }) });
}

async function run(flags: RunFlags, environment: CommandEnvironment): Promise<number> {
  const config = configOf(flags, environment);
  const flusherProblem = environment.prepare?.() ?? null;
  const logging = createLogger({ name: environment.name, level: config.logLevel });
  const exitCode = await runDaemon({
    config,
    ...(environment.prepare === undefined
      ? {}
      : { onServing: () => settleInIoPath(logging.logger, flusherProblem) }),
    logger: logging.logger,
    serve: environment.serve,
    ...(environment.prepare === undefined ? {} : { bugs: process }),
    endNow: (code) => {
      // The last line says which logs wait: worth a moment.
      void logging.close(LAST_LINE_MS).then(() => endProcess(code, 0));
    },
  });
  await logging.close(LOG_CLOSE_MS);
  return exitCode;
}

async function status(json: boolean, flags: RunFlags, environment: CommandEnvironment): Promise<void> {
  const { controlSocket } = configOf(flags, environment);
  const answer = await controlRequest(controlSocket, 'status');
  const parsed = DaemonStatus.safeParse(answer);
  if (!parsed.success) {
    const what = parsed.error.issues[0];
    const message = `the daemon at ${controlSocket} answers with a status this version does not know (${what?.path.join('.')}: ${what?.message})`;
    throw new ControlError('ERR_CONTROL_PROTOCOL', `${message}; use the ${environment.name} of its version`);
  }
  environment.out(
    json ? `${JSON.stringify(answer, null, 2)}\n` : formatStatus(environment.name, parsed.data),
  );
}
