import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { disk, type Machine, mirrorTable } from '../src/index.js';
import { useLab } from './support.js';

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

const lab = useLab();
const SINGLED = fileURLToPath(new URL('../../../apps/singled/dist/cli.cjs', import.meta.url));
const REGION_SECTORS = 128;
const REGIONS = 32;
/** PF_MEMALLOC_NOIO, include/linux/sched.h: what PR_SET_IO_FLUSHER sets, in field 9 of /proc/<pid>/stat. */
const PF_MEMALLOC_NOIO = 0x00080000;

/** A real systemd as the first process of a process namespace in `machine`, with the units as they are shipped but for the paths of programs. Returns its process id outside. */
async function startSystemd(machine: Machine): Promise<string> {
  const directory = '/run/systemd/system';
  await machine.run(`mkdir -p ${directory}/singled.service.d; mount -t cgroup2 none /sys/fs/cgroup`);
  for (const name of ['singled.service', 'dmlog.slice']) {
    await machine.run(`cat > ${directory}/${name}`, { input: readFileSync(join(UNITS, name)) });
  }
  const paths = `[Service]\nExecStart=\nExecStart=@${process.execPath} @singled ${SINGLED}\nStandardError=append:/run/tmp/singled.log\n`;
  await machine.run(`cat > ${directory}/singled.service.d/lab.conf`, { input: paths });
  const target = '[Unit]\nDefaultDependencies=no\nWants=singled.service\nAllowIsolate=yes\n';
  await machine.run(`cat > ${directory}/lab.target`, { input: target });
  await machine.start(
    'env -i PATH="$PATH" container=lab unshare --pid --fork --mount-proc --uts --ipc /lib/systemd/systemd --system --unit=lab.target --log-target=console --show-status=no',
  );
  const find = async () =>
    (await machine.run('grep -lx systemd /proc/[0-9]*/comm', { check: false })).stdout.split('/')[2] ?? '';
  await expect.poll(find, { timeout: 60_000, interval: 200 }).toMatch(/^\d+$/);
  return find();
}

describe('under a real systemd', () => {
  it('is ready when it answers, is reloaded, killed and restarted on one socket, and is what the unit says', async () => {
    const disks = { leg0: disk('2M'), leg1: disk('2M') };
    const machine = await lab().boot({ disks, memoryMiB: 384 });
    const first = await startSystemd(machine);
    const systemctl = (words: string, check = true) =>
      machine.run(`nsenter --target ${first} --pid --mount systemctl ${words}`, { check, timeoutMs: 90_000 });
    const shown = async (name: string) => (await systemctl(`show -P ${name} singled`, false)).stdout.trim();
    const isActive = () =>
      expect.poll(() => shown('ActiveState'), { timeout: 90_000, interval: 200 }).toBe('active');
    const log = async () =>
      (await machine.run('cat /run/tmp/singled.log')).stdout.split('\n').flatMap((line) => {
        try {
          return [JSON.parse(line) as Record<string, unknown>];
        } catch {
          return [];
        }
      });
    const said = async (text: string) => (await log()).filter(({ msg }) => msg === text);

    await isActive();
    const args = [REGION_SECTORS];
    const userspace = { kind: 'userspace', uuid: 'LVM-systemd', type: 'core', args } as const;
    const legs = [machine.device('leg0'), machine.device('leg1')];
    const lengthSectors = REGIONS * REGION_SECTORS;
    await machine.dmCreate('m', mirrorTable({ lengthSectors, log: userspace, legs }));
    await machine.waitInSync('m');
    expect(await shown('NFileDescriptorStore')).toBe('1');

    // All threads are flushers, V8's too; nothing is there that the kernel does not ask for.
    const pid = (
      await machine.run('cat /sys/fs/cgroup/dmlog.slice/singled.service/cgroup.procs')
    ).stdout.trim();
    expect(pid).toMatch(/^\d+$/);
    const flags = (await machine.run(`cat /proc/${pid}/task/*/stat`)).stdout.trim().split('\n');
    expect(flags.length).toBeGreaterThan(5);
    const notFlushing = flags.filter(
      (line) => (Number(line.slice(line.lastIndexOf(')') + 2).split(' ')[6]) & PF_MEMALLOC_NOIO) === 0,
    );
    expect(notFlushing).toEqual([]);
    const { stdout: status } = await machine.run(`cat /proc/${pid}/status /proc/${pid}/oom_score_adj`);
    // CAP_NET_ADMIN 12, CAP_IPC_LOCK 14, CAP_SYS_ADMIN 21, CAP_SYS_RESOURCE 24.
    expect(status).toMatch(/^CapEff:\s*0000000001205000$/m);
    expect(status).toMatch(/^NoNewPrivs:\s*1$/m);
    expect(status).toMatch(/^-1000$/m);
    const cgroup = '/sys/fs/cgroup/dmlog.slice/singled.service';
    const { stdout: limits } = await machine.run(`cat ${cgroup}/memory.min ${cgroup}/../memory.min`);
    expect(limits.trim().split('\n')).toEqual([String(128 << 20), String(128 << 20)]);

    const write = () =>
      machine.run('dd if=/dev/urandom of=/dev/mapper/m bs=64k count=4 oflag=direct status=none', {
        timeoutMs: 60_000,
      });
    let main = await shown('MainPID');
    const anotherProcess = async () => {
      await expect
        .poll(() => shown('MainPID'), { timeout: 90_000, interval: 200 })
        .not.toMatch(new RegExp(`^(0|${main})$`));
      await isActive();
      main = await shown('MainPID');
      await write();
    };
    await systemctl('reload singled');
    await anotherProcess();
    expect((await said('place handed to the next daemon: it answers what waits in the socket')).length).toBe(
      1,
    );
    await systemctl('kill --kill-whom=main --signal=KILL singled');
    await anotherProcess();
    expect(await shown('NRestarts')).toBe('1');
    await systemctl('restart singled');
    await anotherProcess();
    const answering = await said('answering the kernel');
    expect(answering.length).toBe(4);
    expect(new Set(answering.map(({ port }) => port)).size).toBe(1);
    expect((await said('log found again as it was')).length).toBe(3);
    expect(await machine.dmStatus('m')).toMatchObject({ inSyncCount: REGIONS });
    expect(await machine.dmesg()).not.toContain('Userspace log server not found');
    await machine.dmRemove('m');
    await systemctl('stop singled');
    expect(await shown('Result')).toBe('success');
    await machine.powerCut();
  }, 300_000);
});
