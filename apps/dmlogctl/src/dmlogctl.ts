import { writeSync } from 'node:fs';
import { dmsetup } from '@dmlog/daemon';
import { type Command, CommanderError } from 'commander';
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
    // Synchronous: a reader that is slow slows this down instead of filling memory, and nothing is lost at the end.
    out: (text) => writeAll(1, text),
    error: (text) => writeAll(2, text),
    dmsetup,
    deviceBytes,
    procRoot: '/proc',
    sysfsRoot: '/sys',
    signal,
    terminal: processTerminal(),
  };
}

function writeAll(fd: number, text: string | Uint8Array): void {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  for (let at = 0; at < bytes.byteLength; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      const { code } = error as { code?: string };
      // The other end of a pipe that does not block us: it reads when it can.
      if (code === 'EAGAIN') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
      // It has gone: as for any filter, that ends us without a word.
      else if (code === 'EPIPE') process.exit(141);
      else throw error;
    }
  }
}
