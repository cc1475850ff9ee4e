import { execFile } from 'node:child_process';

export interface RunResult {
  /** Exit code; −1 where a signal ended the program. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Longer than anything here takes, on a busy machine too: a program that hangs must not hang the tests. */
const RUN_MS_MAX = 240_000;

export interface RunOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a program to its end. Never rejects: what went wrong is in the result. */
export function run(program: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  return new Promise((resolve) => {
    const env = { ...process.env, NODE_OPTIONS: '', npm_config_update_notifier: 'false', ...options.env };
    const limits = { timeout: RUN_MS_MAX, maxBuffer: 64 << 20 };
    execFile(program, [...args], { cwd: options.cwd, env, ...limits }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, stdout, stderr: code === -1 ? `${stderr}${error?.message}` : stderr });
    });
  });
}

/** The same, for what must succeed. @throws Error with all that the program said. */
export async function must(program: string, args: readonly string[], options: RunOptions): Promise<string> {
  const { code, stdout, stderr } = await run(program, args, options);
  if (code === 0) return stdout;
  throw new Error(`${program} ${args.join(' ')} ended with ${code}:\n${stdout}${stderr}`);
}
