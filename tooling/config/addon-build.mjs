/**
 * Compiles the Node-API addon of a package, which native/addon.json describes, with a plain C compiler against the headers of the Node that runs this.
 *
 *   node native/build.mjs              build/Release/<name>.node, for this machine
 *   node native/build.mjs --prebuild   prebuilds/linux-<arch>/<name>.node for every architecture, and the manifest (commit both)
 *
 * Needs a C compiler (CC, else `cc`); for another architecture its cross compiler, as Debian names them. Headers are looked for in
 * npm_config_nodedir, next to the running Node and in /usr/include/node.
 *
 * One binary serves glibc and musl: it names no C library and no symbol versions, so that the dynamic linker takes the C library that node has loaded.
 * What an addon may use is therefore what both have with the same meaning and layout; a test of the packed packages holds the list.
 *
 * The source is tooling/config/addon-build.mjs; each build of a package copies it to native/build.mjs.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
/** In the repository this runs from where it is written, in the package's folder. */
const nativeDirectory = existsSync(join(here, 'addon.json')) ? here : join(process.cwd(), 'native');
const packageDirectory = dirname(nativeDirectory);
/** `sources` are hashed in this order; those that end in .c are compiled. `flags`: for the compiler, besides {@link FLAGS}. */
const { name, sources, flags = [] } = JSON.parse(readFileSync(join(nativeDirectory, 'addon.json'), 'utf8'));
const paths = sources.map((source) => join(nativeDirectory, source));

const FLAGS = ['-std=gnu11', '-O2', '-fPIC', '-shared', '-fvisibility=hidden', '-Wall', '-Wextra', '-s'];
/** No start files and no libraries; a symbol that is missing is missed at load and not in the middle of a request. */
const LINK_FLAGS = ['-nostdlib', '-Wl,-z,now', '-lgcc'];
/** By `process.arch`. The helpers of libgcc for atomics on arm64 use a symbol of glibc's own. */
const TARGETS = {
  x64: { compiler: 'x86_64-linux-gnu-gcc', flags: [] },
  arm64: { compiler: 'aarch64-linux-gnu-gcc', flags: ['-mno-outline-atomics'] },
};

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
  throw new Error(
    `no Node headers (node_api.h, uv.h) in ${candidates.join(', ')}: install them (Debian: libnode-dev, Alpine: nodejs-dev) or set npm_config_nodedir`,
  );
}

/** `strict`: a warning is an error. Not where a user builds, with a compiler that may warn of more than ours. */
function compile(arch, output, strict = false) {
  const compiler = arch === process.arch ? (process.env.CC ?? 'cc') : TARGETS[arch].compiler;
  mkdirSync(dirname(output), { recursive: true });
  const archFlags = [...(TARGETS[arch]?.flags ?? []), ...(strict ? ['-Werror'] : [])];
  const inputs = paths.filter((path) => path.endsWith('.c'));
  try {
    execFileSync(
      compiler,
      [...FLAGS, ...archFlags, ...flags, `-I${findHeaders()}`, ...inputs, '-o', output, ...LINK_FLAGS],
      { stdio: 'inherit' },
    );
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
    throw new Error(
      `there is no ${compiler}: install a C compiler (Debian: ${arch === process.arch ? 'gcc libc6-dev' : `gcc-${compiler.slice(0, -4).replace('_', '-')}`})`,
    );
  }
}

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex');
}

function refreshPrebuild(arch) {
  const directory = join(packageDirectory, 'prebuilds');
  const built = join(packageDirectory, 'build', arch, `${name}.node`);
  compile(arch, built, true);
  const target = `linux-${arch}`;
  mkdirSync(join(directory, target), { recursive: true });
  // In one step: a process that has the old addon mapped must keep its bytes.
  const fresh = join(directory, target, `${name}.node.new`);
  copyFileSync(built, fresh);
  renameSync(fresh, join(directory, target, `${name}.node`));
  return {
    sourceSha256: sha256(Buffer.concat(paths.map((path) => readFileSync(path)))),
    binarySha256: sha256(readFileSync(built)),
  };
}

try {
  if (process.argv.includes('--prebuild')) {
    const manifest = {};
    for (const arch of Object.keys(TARGETS).sort()) manifest[`linux-${arch}`] = refreshPrebuild(arch);
    writeFileSync(
      join(packageDirectory, 'prebuilds', 'manifest.json'),
      `${JSON.stringify(manifest, null, 2)}\n`,
    );
  } else {
    compile(process.arch, join(packageDirectory, 'build', 'Release', `${name}.node`));
  }
} catch (error) {
  // The compiler has said what it minds; a stack of this script would only hide it.
  process.stderr.write(`cannot build ${name}.node: ${error.message.split('\n')[0]}\n`);
  process.exit(1);
}
