/**
 * Compiles the C files of this folder with a plain C compiler against the headers of the Node that runs this script.
 *
 *   node native/build.mjs              build/Release/dmlog_connector.node, for this machine
 *   node native/build.mjs --prebuild   the same, and refreshes prebuilds/ and its manifest (commit both)
 *   CC=aarch64-linux-gnu-gcc node native/build.mjs --prebuild --arch=arm64     cross-compiled
 *
 * Needs a C compiler and, to strip, the matching `strip`. Headers are looked for in npm_config_nodedir, next to the
 * running Node and in /usr/include/node.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const packageDirectory = dirname(dirname(fileURLToPath(import.meta.url)));
const nativeDirectory = join(packageDirectory, 'native');
const sources = ['dmlog_connector.c', 'dmlog_connector.h', 'process.c', 'serve.c'].map((name) =>
  join(nativeDirectory, name),
);
const addon = 'dmlog_connector.node';

function findHeaders() {
  const nodedir = process.env.npm_config_nodedir;
  const candidates = [
    ...(nodedir ? [join(nodedir, 'include', 'node')] : []),
    join(dirname(process.execPath), '..', 'include', 'node'),
    '/usr/include/node',
    '/usr/local/include/node',
  ];
  const found = candidates.find(
    (directory) => existsSync(join(directory, 'node_api.h')) && existsSync(join(directory, 'uv.h')),
  );
  if (found) return found;
  throw new Error(`no Node headers (node_api.h, uv.h) in ${candidates.join(', ')}: set npm_config_nodedir`);
}

/** musl has no glibc version in Node's report. */
function libcSuffix() {
  return process.report.getReport().header.glibcVersionRuntime ? '' : '-musl';
}

function compile(output) {
  const compiler = process.env.CC ?? 'cc';
  mkdirSync(dirname(output), { recursive: true });
  const flags = [
    '-std=gnu11',
    '-O2',
    '-fPIC',
    '-shared',
    '-fvisibility=hidden',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-s',
  ];
  execFileSync(
    compiler,
    [...flags, `-I${findHeaders()}`, ...sources.filter((path) => path.endsWith('.c')), '-o', output],
    { stdio: 'inherit' },
  );
}

function refreshPrebuild(built, arch) {
  const directory = join(packageDirectory, 'prebuilds');
  const target = `linux-${arch}${libcSuffix()}`;
  mkdirSync(join(directory, target), { recursive: true });
  // In one step: a process that has the old addon mapped must keep its bytes.
  const fresh = join(directory, target, `${addon}.new`);
  copyFileSync(built, fresh);
  renameSync(fresh, join(directory, target, addon));
  const manifestPath = join(directory, 'manifest.json');
  const manifest = existsSync(manifestPath) ? JSON.parse(readFileSync(manifestPath, 'utf8')) : {};
  manifest[target] = {
    sourceSha256: createHash('sha256')
      .update(Buffer.concat(sources.map((path) => readFileSync(path))))
      .digest('hex'),
    binarySha256: createHash('sha256').update(readFileSync(built)).digest('hex'),
  };
  const sorted = Object.fromEntries(Object.entries(manifest).sort(([a], [b]) => (a < b ? -1 : 1)));
  writeFileSync(manifestPath, `${JSON.stringify(sorted, null, 2)}\n`);
}

const arch =
  process.argv.find((argument) => argument.startsWith('--arch='))?.slice('--arch='.length) ?? process.arch;
const output = join(packageDirectory, 'build', arch === process.arch ? 'Release' : arch, addon);
compile(output);
if (process.argv.includes('--prebuild')) refreshPrebuild(output, arch);
