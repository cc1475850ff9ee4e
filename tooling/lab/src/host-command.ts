import { execFile } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { LabError, lastLines } from './errors.js';

export interface HostResult {
  readonly code: number;
  readonly output: string;
}

/** Runs a host program without a shell. A missing program is ERR_LAB_HOST; a status other than 0 is returned, not thrown. */
export function hostCommand(
  file: string,
  args: readonly string[],
  options: { cwd?: string; timeoutMs?: number; env?: NodeJS.ProcessEnv } = {},
): Promise<HostResult> {
  return new Promise((resolve, reject) => {
    execFile(
      file,
      [...args],
      {
        cwd: options.cwd,
        timeout: options.timeoutMs ?? 60_000,
        env: options.env ?? { ...process.env, LC_ALL: 'C' },
        maxBuffer: 64 << 20,
      },
      (error, stdout, stderr) => {
        const output = stdout + stderr;
        if (error === null) return resolve({ code: 0, output });
        if (typeof error.code === 'number') return resolve({ code: error.code, output });
        const why = error.killed === true ? `timed out\n${lastLines(output, 10)}` : error.message;
        reject(
          new LabError('ERR_LAB_HOST', `cannot run ${file} ${args.join(' ')}: ${why}`, { cause: error }),
        );
      },
    );
  });
}

/** Where programs are looked for, on the host and in guests: not the caller's PATH, which may lack sbin and hold wrappers of its own. */
export const SYSTEM_PATH = [
  '/usr/local/sbin',
  '/usr/local/bin',
  '/usr/sbin',
  '/usr/bin',
  '/sbin',
  '/bin',
] as const;

/** Full path of an installed program, or undefined. */
export function findHostProgram(name: string): string | undefined {
  for (const directory of SYSTEM_PATH) {
    const path = `${directory}/${name}`;
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // Not here: the next directory may have it.
    }
  }
  return undefined;
}
