import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { buildDeb } from '../src/deb.js';
import { readManifest } from '../src/packages.js';
import { must, run } from '../src/run.js';

const { directory, project } = inject('packed');
const work = join(directory, 'deb');
const root = join(work, 'unpacked');
const PROGRAMS = ['singled', 'clusterd'];

let deb: string;
beforeAll(async () => {
  mkdirSync(work, { recursive: true });
  deb = await buildDeb({ nodeModules: join(project, 'node_modules'), directory: work });
  await must('dpkg-deb', ['--extract', deb, root], { cwd: work });
});

describe('the Debian package', () => {
  it('depends on a node that is new enough, and belongs to root', async () => {
    const fields = await must('dpkg-deb', ['--field', deb], { cwd: work });
    expect(fields).toMatch(/^Package: dmlog$/m);
    expect(fields).toMatch(/^Depends: nodejs \(>= 20\.19\)$/m);
    const list = await must('dpkg-deb', ['--contents', deb], { cwd: work });
    const owners = new Set(
      list
        .trim()
        .split('\n')
        .map((line) => line.split(/\s+/)[1]),
    );
    expect([...owners]).toEqual(['root/root']);
  });

  it.each(PROGRAMS)('brings %s, which runs from where it is unpacked', async (program) => {
    const { version } = readManifest(join(project, 'node_modules', '@dmlog', program));
    const path = join(root, 'usr/bin', program);
    expect(await must(path, ['--version'], { cwd: root })).toBe(`${version}\n`);
    // It gets as far as to ask a daemon, and says that there is none.
    const { code, stderr } = await run(path, ['status', '--runtime-dir', join(work, 'none')], { cwd: root });
    expect({ code, stderr }).toMatchObject({ code: 69, stderr: expect.stringMatching(/\w/) });
  });

  it('brings a man page and completions of every program', () => {
    for (const name of readdirSync(join(root, 'usr/bin'))) {
      for (const path of [
        `usr/share/man/man8/${name}.8.gz`,
        `usr/share/bash-completion/completions/${name}`,
        `usr/share/zsh/vendor-completions/_${name}`,
        `usr/share/fish/vendor_completions.d/${name}.fish`,
      ])
        expect(existsSync(join(root, path)), path).toBe(true);
    }
  });

  it('starts nothing by itself, and its units start what it brings', () => {
    const units = join(root, 'usr/lib/systemd/system');
    const services = readdirSync(units).filter((name) => name.endsWith('.service'));
    expect(services).toEqual(expect.arrayContaining(['singled.service', 'clusterd.service']));
    for (const service of services) {
      const command = /^ExecStart=.* (\/\S+\.cjs)/m.exec(readFileSync(join(units, service), 'utf8'))?.[1];
      expect(existsSync(join(root, command ?? 'nothing')), `${service}: ${command}`).toBe(true);
    }
    expect(existsSync(join(root, 'etc'))).toBe(false);
  });

  it('has the addons of its own architecture only', () => {
    const library = join(root, 'usr/lib/dmlog/node_modules');
    const addons = readdirSync(library, { recursive: true, encoding: 'utf8' }).filter(
      (path) => path.endsWith('.node') && path.includes('prebuilds') && !path.startsWith('netlink'),
    );
    expect(addons.length).toBeGreaterThanOrEqual(3);
    expect(addons.filter((path) => !path.includes(`linux-${process.arch}`))).toEqual([]);
  });

  it('is accepted by dpkg, whose scripts end well, in a root of its own', async () => {
    const data = join(work, 'dpkg');
    for (const folder of ['updates', 'info', 'parts', 'triggers'])
      mkdirSync(join(data, folder), { recursive: true });
    await must('touch', ['status', 'available', 'statoverride'], { cwd: data });
    // The scripts look for systemd and must end well where there is none: run outside of a chroot, they look at this machine, so they are run by hand.
    const scripts = join(work, 'scripts');
    await must('dpkg-deb', ['--control', deb, scripts], { cwd: work });
    for (const script of ['postinst', 'prerm']) {
      const text = readFileSync(join(scripts, script), 'utf8').replaceAll(
        '/run/systemd/system',
        join(work, 'none'),
      );
      for (const argument of ['configure', 'remove', 'upgrade'])
        await must('sh', ['-c', text, script, argument, '0.0.0'], { cwd: work });
    }
    const args = [
      '--admindir',
      data,
      '--instdir',
      join(work, 'installed'),
      '--force-not-root',
      '--force-depends',
    ];
    mkdirSync(join(work, 'installed'));
    await must('dpkg', [...args, '--log', join(work, 'dpkg.log'), '--unpack', deb], { cwd: work });
    const status = await must('dpkg-query', ['--admindir', data, '--status', 'dmlog'], { cwd: work });
    expect(status).toContain('Status: install ok unpacked\n');
    expect(existsSync(join(work, 'installed', 'usr/bin/singled'))).toBe(true);
  });
});
