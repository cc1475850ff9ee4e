#!/usr/bin/env node
/**
 * From a fresh clone to `npm start` or `npm test`, with nothing installed but Node and npm: installs the workspace with the pinned pnpm,
 * fetches the system packages that are missing, builds, and runs. Every step prints what it does; the first failure ends it.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** `succeeded`: what counts; by default the exit status. */
function step(title, command, args, env = {}, succeeded = (status) => status === 0) {
  const started = Date.now();
  console.log(`\n▸ ${title}`);
  const result = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, TURBO_TELEMETRY_DISABLED: '1', ...env },
  });
  if (!succeeded(result.status)) {
    console.error(`✗ ${title}: ${result.error?.message ?? `exit status ${result.status ?? result.signal}`}`);
    process.exit(result.status || 1);
  }
  console.log(`✓ ${title} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
}

const pnpm = (title, ...args) => step(title, 'npx', ['--yes', packageManager, ...args]);
/** Also where the caller's PATH lacks sbin. */
const has = (program) =>
  spawnSync('sh', ['-c', `PATH="$PATH:/usr/sbin:/sbin"; command -v ${program}`]).status === 0;

/** Programs that tests compile or run on this machine, and the Debian packages that bring them. The lab fetches its own. */
const PROGRAMS = {
  cc: ['gcc', 'libc6-dev'],
  taskset: ['util-linux'],
  dpkg: ['dpkg'],
  corosync: ['corosync', 'libcpg4', 'libquorum5'],
  ip: ['iproute2'],
  chromium: ['chromium'],
  'systemd-analyze': ['systemd'],
};
const missingPrograms = () => Object.entries(PROGRAMS).filter(([program]) => !has(program));

function systemPackages() {
  const missing = missingPrograms();
  if (missing.length === 0) return;
  const names = missing.flatMap(([, packages]) => packages);
  if (process.getuid?.() !== 0) {
    console.error(
      `✗ missing: ${missing.map(([p]) => p).join(', ')}. As root: apt-get install ${names.join(' ')}`,
    );
    process.exit(1);
  }
  step('update the package lists', 'apt-get', ['update', '-qq']);
  step(
    `install ${names.join(', ')}`,
    'apt-get',
    ['install', '-y', '-qq', '--no-install-recommends', ...names],
    { DEBIAN_FRONTEND: 'noninteractive' },
    // By what is there: corosync's package starts a service, which nobody here needs and which fails where no service manager runs.
    () => missingPrograms().length === 0,
  );
}

const goal = process.argv[2];
if (goal !== 'start' && goal !== 'test') {
  console.error('usage: bootstrap.mjs start|test');
  process.exit(64);
}
if (goal === 'test') systemPackages();
pnpm('install the workspace', 'install', '--frozen-lockfile');
if (goal === 'start') {
  // JavaScript only: types take most of a build's time, and nobody compiles against these.
  const needed = ['--filter', '@dmlog/lab...', '--filter', '!@dmlog/config'];
  pnpm('build', ...needed, 'exec', 'tsup', '--no-dts', '--no-clean', '--silent');
  step('a mirror on our log, in a real kernel', process.execPath, ['tooling/lab/dist/demo.js']);
} else {
  pnpm('build', 'run', 'build');
  pnpm('lint', 'run', 'lint');
  pnpm('tidy', 'run', 'tidy');
  pnpm('types; unit, property, golden and fuzz tests', 'run', 'check');
  pnpm('real kernel tests', 'run', 'test:lab');
}
