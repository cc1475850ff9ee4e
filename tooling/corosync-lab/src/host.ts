import { execFile, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { CorosyncLabError } from './errors.js';

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A caller's PATH may lack sbin. */
export const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const COMMAND_TIMEOUT_MS = 60_000;
const INSTALL_TIMEOUT_MS = 300_000;
const POLL_MS = 20;

export function hostEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env['PATH'] ?? ''}:${SYSTEM_PATH}`, LC_ALL: 'C' };
}

/** Runs a program without a shell. A status other than 0 is returned; not being able to run it is an error. */
export function runCommand(
  file: string,
  args: readonly string[],
  timeoutMs = COMMAND_TIMEOUT_MS,
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    execFile(
      file,
      [...args],
      { timeout: timeoutMs, env: hostEnvironment(), maxBuffer: 64 << 20 },
      (error, stdout, stderr) => {
        if (error === null || typeof error.code === 'number') {
          resolve({ code: error === null ? 0 : (error.code as number), stdout, stderr });
          return;
        }
        const why = error.killed === true ? `no end after ${timeoutMs} ms` : error.message;
        reject(
          new CorosyncLabError('ERR_COROSYNC_LAB_COMMAND', `${file} ${args.join(' ')}: ${why}\n${stderr}`, {
            cause: error,
          }),
        );
      },
    );
  });
}

/** `ip` with these arguments; a failure is an error. */
export async function ip(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runCommand('ip', args);
  if (code === 0) return stdout;
  throw new CorosyncLabError('ERR_COROSYNC_LAB_COMMAND', `ip ${args.join(' ')}: status ${code}\n${stderr}`);
}

/** Where no promise can be awaited: at the process's exit. Errors are ignored, what is gone is gone. */
export function ipNow(...args: string[]): void {
  spawnSync('ip', args, { env: hostEnvironment(), stdio: 'ignore', timeout: COMMAND_TIMEOUT_MS });
}

/** Waits for a condition, looking every 20 ms. `what` and the text of `detail` are in the error. */
export async function waitUntil(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs: number,
  detail: () => string = () => '',
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) {
      throw new CorosyncLabError(
        'ERR_COROSYNC_LAB_TIMEOUT',
        `${what}: not within ${timeoutMs} ms\n${detail()}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Fields of /proc/<pid>/stat from the third (state) on, or undefined when there is no such process. A name may hold spaces. */
function statOf(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

/** A zombie is dead. */
export function isAlive(pid: number): boolean {
  const state = statOf(pid)?.[0];
  return state !== undefined && state !== 'Z' && state !== 'X';
}

/** Clock ticks after boot at which a process started: with its pid an identity. Undefined when it is gone. */
export function startTimeOf(pid: number): string | undefined {
  return isAlive(pid) ? statOf(pid)?.[19] : undefined;
}

const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  corosync: ['corosync', 'libcpg4', 'libquorum5'],
  ip: ['iproute2'],
  unshare: ['util-linux'],
};

const has = (program: string): boolean =>
  hostEnvironment()
    ['PATH']!.split(':')
    .some((directory) => directory !== '' && existsSync(`${directory}/${program}`));

const missingPackages = (): string[] =>
  Object.entries(PROGRAMS).flatMap(([program, packages]) => (has(program) ? [] : packages));

/**
 * Whether a cluster can be had here (what is missing is installed by {@link requireCorosync}). Says so loudly when not; under CI=true it throws instead, so that
 * nothing is skipped there.
 */
export function clusterUsable(): boolean {
  if (process.platform === 'linux' && process.getuid?.() === 0) return true;
  const text = 'tests on a real corosync cluster need Linux and root';
  if (process.env['CI'] === 'true') throw new CorosyncLabError('ERR_COROSYNC_LAB_HOST', text);
  console.warn(`SKIPPED: ${text}`);
  return false;
}

/**
 * Makes sure that corosync, its libraries and `ip` are here, and that namespaces can be made. As root it installs what is missing (the package's own service
 * is not needed, and need not start); otherwise it throws and says what to type.
 */
export async function requireCorosync(): Promise<void> {
  const missing = missingPackages();
  const isRoot = process.getuid?.() === 0;
  if (missing.length > 0) {
    const line = `apt-get install -y --no-install-recommends ${missing.join(' ')}`;
    if (!isRoot || !has('apt-get')) {
      throw new CorosyncLabError('ERR_COROSYNC_LAB_HOST', `a corosync cluster needs, as root: ${line}`);
    }
    await install(missing, line);
  }
  if (!isRoot) {
    throw new CorosyncLabError('ERR_COROSYNC_LAB_HOST', 'network and mount namespaces need root here');
  }
}

async function install(packages: readonly string[], line: string): Promise<void> {
  const apt = (...args: string[]): Promise<CommandResult> =>
    runCommand('env', ['DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', ...args], INSTALL_TIMEOUT_MS);
  const attempt = (): Promise<CommandResult> =>
    apt('-o', 'DPkg::Lock::Timeout=120', 'install', '-y', '--no-install-recommends', ...packages);
  let result = await attempt();
  if (missingPackages().length > 0) {
    await apt('update');
    result = await attempt();
  }
  // Judged by what is there: where no service manager runs, a package's script may complain for no harm.
  if (missingPackages().length === 0) return;
  throw new CorosyncLabError('ERR_COROSYNC_LAB_HOST', `${line}: status ${result.code}\n${result.stderr}`);
}
