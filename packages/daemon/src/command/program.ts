import { endProcess } from '../lifecycle/end.js';
import { becomeIoFlusher } from '../lifecycle/io-path.js';
import type { Serve } from '../serve-types.js';
import { runCommand } from './command.js';
import { sizeThreadPool } from './thread-pool.js';
import { writeAll } from './write-all.js';

/** What tells one daemon's program from the other's. */
export interface Program {
  /** As it is called: `singled`. Names the control socket and the log lines, too. */
  readonly name: string;
  readonly description: string;
  readonly version: string;
  /** Starts to answer the kernel. */
  readonly serve: Serve;
}

/** The whole of a daemon's program: runs the process' command line, then ends the process. To be called first, see {@link sizeThreadPool}. */
export function runProgram(program: Program): void {
  sizeThreadPool();
  runCommand(process.argv.slice(2), {
    ...program,
    out: (text) => writeAll(1, text),
    error: (text) => writeAll(2, text),
    prepare: becomeIoFlusher,
  }).then((exitCode) => {
    process.exitCode = exitCode;
    endProcess(exitCode);
  });
}
