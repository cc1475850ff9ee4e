import { dmsetup, writeAll } from '@dmlog/daemon';
import { type Command, CommanderError } from 'commander';
import { unitProperties } from './commands/doctor-unit.js';
import { deviceBytes, type Environment } from './environment.js';
import { ExitCode, exitCodeFor } from './exit-codes.js';
import { commandLine } from './program.js';
import { processTerminal } from './terminal.js';

/** Runs the command line `args` (without node and script) and resolves with the exit code. Never rejects. */
export async function dmlogctl(args: readonly string[], environment: Environment): Promise<number> {
  let exitCode: number = ExitCode.OK;
  try {
    const program = commandLine(environment, (code) => {
      exitCode = code;
    });
    quietly(program, environment);
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    // Commander has already printed its own errors, and help and version end so too.
    if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.OK : ExitCode.USAGE;
    environment.error(`dmlogctl: ${error instanceof Error ? error.message : String(error)}\n`);
    return exitCodeFor(error);
  }
}

function quietly(command: Command, environment: Environment): void {
  command.exitOverride().configureOutput({ writeOut: environment.out, writeErr: environment.error });
  for (const child of command.commands) quietly(child, environment);
}

/** This machine. */
export function systemEnvironment(signal: AbortSignal): Environment {
  return {
    out: (text) => writeAll(1, text),
    error: (text) => writeAll(2, text),
    dmsetup,
    deviceBytes,
    unitProperties,
    procRoot: '/proc',
    sysfsRoot: '/sys',
    signal,
    terminal: processTerminal(),
  };
}
