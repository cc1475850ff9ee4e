import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';

/** The units as they are shipped. */
const UNITS = fileURLToPath(new URL('../../../packaging/systemd', import.meta.url));
const DAEMONS = ['singled', 'clusterd'] as const;

/** Copies whose programs are those of this machine: `verify` looks whether they can be executed. */
function installed(): string {
  const directory = mkdtempSync(join(tmpdir(), 'dmlog-units-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  for (const name of readdirSync(UNITS)) {
    copyFileSync(join(UNITS, name), join(directory, name));
    const text = readFileSync(join(directory, name), 'utf8');
    writeFileSync(join(directory, name), text.replace('@/usr/bin/node', `@${process.execPath}`));
  }
  return directory;
}

/** `Key=value` lines, later ones of a key after earlier ones. */
function settings(name: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const line of readFileSync(join(UNITS, name), 'utf8').split('\n')) {
    const [, key, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    if (key !== undefined) found.set(key, [...(found.get(key) ?? []), value as string]);
  }
  return found;
}

describe('the units', () => {
  it('say nothing that systemd does not understand', () => {
    const directory = installed();
    const files = readdirSync(directory).map((name) => join(directory, name));
    const { status, stderr, stdout } = spawnSync('systemd-analyze', ['verify', ...files], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    expect({ status, told: `${stdout}${stderr}`.trim() }).toEqual({ status: 0, told: '' });
  });

  it('are no more exposed than they must be', () => {
    const directory = installed();
    for (const daemon of DAEMONS) {
      // A threshold in tenths: CAP_SYS_ADMIN and the host's devices are what is left.
      const args = ['security', '--offline=yes', '--threshold=40', join(directory, `${daemon}.service`)];
      const { status, stdout } = spawnSync('systemd-analyze', args, { encoding: 'utf8', timeout: 60_000 });
      expect(status, stdout).toBe(0);
    }
  });

  it.each(DAEMONS)(
    '%s: is spared by the final kill, keeps its state, and makes no mount namespace',
    (daemon) => {
      const unit = settings(`${daemon}.service`);
      expect(unit.get('ExecStart')?.[0]).toMatch(/^@\S+ @/);
      expect(unit.get('DefaultDependencies')).toEqual(['no']);
      expect(unit.get('RuntimeDirectoryPreserve')).toEqual(['yes']);
      expect(
        [...unit.keys()].filter((key) =>
          /^(Private|Protect|ReadOnly|ReadWrite|Inaccessible|TemporaryFile|Bind|Root)/.test(key),
        ),
      ).toEqual([]);
      const other = DAEMONS.find((name) => name !== daemon);
      expect(unit.get('Conflicts')?.join(' ').split(' ')).toEqual(
        expect.arrayContaining([`${other}.service`, 'cmirrord.service']),
      );
    },
  );

  it('differ only in what tells the two daemons apart', () => {
    const [first, second] = DAEMONS.map((daemon) => settings(`${daemon}.service`));
    const differ = [...(first?.keys() ?? [])].filter(
      (key) => JSON.stringify(first?.get(key)) !== JSON.stringify(second?.get(key)),
    );
    expect(differ.sort()).toEqual(
      [
        'After',
        'Before',
        'Conflicts',
        'Description',
        'Documentation',
        'ExecStart',
        'WantedBy',
        'Wants',
      ].sort(),
    );
  });

  it('are of a systemd that is here', () => {
    const [, version] =
      /^systemd (\d+)/.exec(execFileSync('systemctl', ['--version'], { encoding: 'utf8' })) ?? [];
    expect(Number(version)).toBeGreaterThanOrEqual(252);
  });
});
