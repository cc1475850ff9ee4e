import { cpSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { readSharedObject } from '../src/elf.js';
import { run } from '../src/run.js';

const { directory: work, project, tarballs } = inject('packed');
const MACHINES: Readonly<Record<string, number>> = { 'linux-x64': 62, 'linux-arm64': 183 };

/**
 * What an addon may take from the C library: functions that glibc and musl both have, with the same arguments and, on 64-bit machines, the same
 * layouts. Before a name is added, look at both; varargs that differ, `struct stat` by version and `__isoc23_…` are the usual traps.
 */
const IN_BOTH_LIBRARIES = new Set(
  `__errno_location __sched_cpucount __tls_get_addr bind calloc clock_gettime close execve fcntl free getpid getsockname getsockopt madvise
  malloc memcpy memmove memset mmap munmap poll posix_fallocate prctl realloc recvfrom recvmmsg sched_getaffinity sendmmsg sendmsg sendto setsockopt
  snprintf socket strchr strcmp strlen syscall`.split(/\s+/),
);

const withAddons = Object.keys(tarballs).filter((name) =>
  existsSync(join(project, 'node_modules', name, 'native')),
);

it('there are addons to look at', () => {
  expect(withAddons).toEqual(
    expect.arrayContaining(['@dmlog/connector', '@dmlog/daemon', 'corosync-cpg-napi']),
  );
});

describe.each(withAddons)('%s, packed', (name) => {
  const directory = join(project, 'node_modules', name);
  const addon = JSON.parse(readFileSync(join(directory, 'native', 'addon.json'), 'utf8')) as { name: string };

  // Built in a copy: other tests look at what was installed.
  const copy = join(work, 'native', name);
  beforeAll(() => cpSync(join(directory, 'native'), join(copy, 'native'), { recursive: true }));

  it.each(Object.entries(MACHINES))(
    'has a binary for %s that serves glibc and musl alike',
    (target, machine) => {
      const folder = join(directory, 'prebuilds', target);
      expect(readdirSync(folder)).toEqual([`${addon.name}.node`]);
      const object = readSharedObject(readFileSync(join(folder, `${addon.name}.node`)));
      expect(object).toMatchObject({ machine, needed: [], versioned: false });
      const foreign = object.undefinedSymbols.filter((symbol) => !/^(napi|uv)_/.test(symbol));
      expect(foreign.filter((symbol) => !IN_BOTH_LIBRARIES.has(symbol))).toEqual([]);
      expect(object.undefinedSymbols).toContain('napi_create_function');
    },
  );

  it('builds from its tarball where Node has its headers, and else says in one line what is missing', async () => {
    const script = join('native', 'build.mjs');
    const { code, stderr } = await run(process.execPath, [script], { cwd: copy });
    const own = join(dirname(process.execPath), '..', 'include', 'node', 'node_api.h');
    if (code === 0) {
      const built = join(copy, 'build', 'Release', `${addon.name}.node`);
      expect(readSharedObject(readFileSync(built)).needed).toEqual([]);
    } else {
      expect(existsSync(own)).toBe(false);
      expect(stderr).toMatch(/^cannot build .*: no Node headers .*\n$/);
    }
  });

  it('says in one line that there is no compiler', async () => {
    const env = { CC: '/nonexistent/cc', npm_config_nodedir: join(copy, 'headers') };
    const script = join('native', 'build.mjs');
    const { code, stderr } = await run(process.execPath, [script], { cwd: copy, env });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^cannot build .*: (there is no \/nonexistent\/cc: install|no Node headers).*\n$/);
  });
});
