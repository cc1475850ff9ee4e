import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { REPOSITORY, readManifest } from './packages.js';
import { must } from './run.js';

/** Where the packages stand. Not in /usr/lib/node_modules: that is npm's, and the administrator's. */
const LIBRARY = 'usr/lib/dmlog/node_modules';
/** Where the units of packaging/systemd look for them, as `npm install --global` puts them. */
const NPM_LIBRARY = '/usr/lib/node_modules/';
/** Debian's names of architectures, by `process.arch`. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

export interface DebInit {
  /** A node_modules folder in which the public packages and what they need are installed. */
  readonly nodeModules: string;
  /** An empty folder to work in; the package is written into it. */
  readonly directory: string;
  /** By `process.arch`; default: this machine's. */
  readonly arch?: string;
}

/** The programs: whatever public packages are there that have a `bin`. */
function programsIn(nodeModules: string): { name: string; path: string }[] {
  const scope = join(nodeModules, '@dmlog');
  return readdirSync(scope).flatMap((folder) =>
    Object.entries(readManifest(join(scope, folder)).bin ?? {}).map(([name, path]) => ({
      name,
      path: join('@dmlog', folder, path),
    })),
  );
}

/** What a daemon does not need at run time, and binaries for other machines. */
function prune(library: string, arch: string): void {
  for (const entry of readdirSync(library, { recursive: true, encoding: 'utf8' })) {
    const foreign = /(^|\/)prebuilds\/([^/]+)$/.exec(entry)?.[2];
    const other = foreign !== undefined && foreign !== 'manifest.json' && !foreign.includes(`linux-${arch}`);
    if (other || entry.endsWith('.map') || basename(entry) === '.package-lock.json')
      rmSync(join(library, entry), { recursive: true, force: true });
  }
}

function control(version: string, architecture: string, installedKiB: number): string {
  return `Package: dmlog
Version: ${version}
Architecture: ${architecture}
Maintainer: the dmlog maintainers <dmlog@localhost>
Installed-Size: ${installedKiB}
Depends: nodejs (>= 20.19)
Recommends: dmsetup
Suggests: corosync, libcpg4, libquorum5
Section: admin
Priority: optional
Description: dirty logs of device-mapper mirrors in userspace
 The daemons singled (one machine) and clusterd (a cluster on shared storage),
 which tell the kernel's mirror target which regions may differ between its
 legs, and dmlogctl to look after them. No unit is enabled or started by the
 installation.
`;
}

/** Whoever runs goes on: a new version takes the place of the old one while requests wait in the open socket. Nothing is started that did not run. */
const POSTINST = `#!/bin/sh
set -e
if [ "$1" = configure ] && [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
  if [ -n "$2" ]; then
    for unit in singled.service clusterd.service; do
      if systemctl is-active --quiet "$unit"; then systemctl reload "$unit" || true; fi
    done
  fi
fi
`;
/** A daemon that serves is not stopped by a removal: its mirrors would wait. It says so instead. */
const PRERM = `#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  for unit in singled.service clusterd.service; do
    if systemctl is-active --quiet "$unit"; then
      echo "dmlog: $unit is active: stop it first (its mirrors wait until a daemon answers again)" >&2
      exit 1
    fi
  done
fi
`;

/** Man page and completions come from the program itself. */
async function addManuals(
  root: string,
  library: string,
  program: { name: string; path: string },
): Promise<void> {
  const { name } = program;
  const say = (...args: string[]) =>
    must(process.execPath, [join(library, program.path), ...args], { cwd: root });
  const files: [path: string, text: string][] = [
    [`usr/share/bash-completion/completions/${name}`, await say('completion', 'bash')],
    [`usr/share/zsh/vendor-completions/_${name}`, await say('completion', 'zsh')],
    [`usr/share/fish/vendor_completions.d/${name}.fish`, await say('completion', 'fish')],
    [`usr/share/man/man8/${name}.8`, await say('man')],
  ];
  for (const [path, text] of files) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  await must('gzip', ['-9n', join(root, `usr/share/man/man8/${name}.8`)], { cwd: root });
}

function installUnits(root: string): void {
  const from = join(REPOSITORY, 'packaging', 'systemd');
  const to = join(root, 'usr/lib/systemd/system');
  mkdirSync(to, { recursive: true });
  for (const unit of readdirSync(from).filter((name) => /\.(service|slice)$/.test(name))) {
    const text = readFileSync(join(from, unit), 'utf8');
    writeFileSync(join(to, unit), text.replaceAll(NPM_LIBRARY, `/${LIBRARY}/`));
  }
}

/** Builds the Debian package; returns its path. Needs `dpkg-deb`, no network and no rights. */
export async function buildDeb({ nodeModules, directory, arch = process.arch }: DebInit): Promise<string> {
  const architecture = ARCHITECTURES[arch];
  if (architecture === undefined) throw new Error(`no Debian package is made for ${arch}`);
  const root = join(directory, 'root');
  const library = join(root, LIBRARY);
  mkdirSync(library, { recursive: true });
  cpSync(nodeModules, library, { recursive: true, filter: (path) => basename(path) !== '.bin' });
  prune(library, arch);
  mkdirSync(join(root, 'usr/bin'), { recursive: true });
  for (const { name, path } of programsIn(library)) {
    chmodSync(join(library, path), 0o755);
    symlinkSync(join('..', LIBRARY.slice('usr/'.length), path), join(root, 'usr/bin', name));
    await addManuals(root, library, { name, path });
  }
  installUnits(root);
  const documents = join(root, 'usr/share/doc/dmlog');
  mkdirSync(join(documents, 'examples'), { recursive: true });
  copyFileSync(join(REPOSITORY, 'LICENSE'), join(documents, 'copyright'));
  for (const app of ['singled', 'clusterd']) {
    const example = join(REPOSITORY, 'apps', app, 'example', `${app}.toml`);
    if (existsSync(example)) copyFileSync(example, join(documents, 'examples', `${app}.toml`));
  }
  const { version } = readManifest(join(library, '@dmlog', 'singled'));
  const used = await must('du', ['-sk', '--apparent-size', root], { cwd: directory });
  mkdirSync(join(root, 'DEBIAN'));
  const scripts = { postinst: POSTINST, prerm: PRERM };
  for (const [name, text] of Object.entries(scripts))
    writeFileSync(join(root, 'DEBIAN', name), text, { mode: 0o755 });
  writeFileSync(join(root, 'DEBIAN', 'control'), control(version, architecture, Number.parseInt(used, 10)));
  // What the umask of whoever builds this says does not matter to whoever installs it.
  await must('chmod', ['-R', 'u=rwX,go=rX', root], { cwd: directory });
  const output = join(directory, `dmlog_${version}_${architecture}.deb`);
  await must('dpkg-deb', ['--root-owner-group', '-Zxz', '-z1', '--build', root, output], { cwd: directory });
  return output;
}
