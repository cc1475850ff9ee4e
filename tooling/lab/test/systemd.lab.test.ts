import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { disk, legsEqual, type Machine, mirrorTable } from '../src/index.js';
import { dirtyRegions, readImageState } from '../src/region-map.js';
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
const CLUSTERD = fileURLToPath(new URL('../../../apps/clusterd/dist/cli.cjs', import.meta.url));
const DMLOGCTL = fileURLToPath(new URL('../../../apps/dmlogctl/dist/cli.cjs', import.meta.url));
const PROGRAMS = { singled: SINGLED, clusterd: CLUSTERD } as const;
const REGION_SECTORS = 128;
const REGIONS = 128;
/** PF_MEMALLOC_NOIO, include/linux/sched.h: what PR_SET_IO_FLUSHER sets, in field 9 of /proc/<pid>/stat. */
const PF_MEMALLOC_NOIO = 0x00080000;
/** A stop of singled, and whatever else takes its time at a shutdown, on a busy machine. */
const SHUTDOWN_MS_MAX = 150_000;

/** A real systemd becomes the first process of `machine`, with the units as they are shipped but for the paths of programs. */
async function startSystemd(machine: Machine): Promise<void> {
  const directory = '/run/systemd/system';
  const put = (name: string, input: string | Buffer) =>
    machine.run(`mkdir -p $(dirname ${directory}/${name}); cat > ${directory}/${name}`, { input });
  for (const name of [...DAEMONS.map((daemon) => `${daemon}.service`), 'dmlog.slice']) {
    await put(name, readFileSync(join(UNITS, name)));
  }
  for (const daemon of DAEMONS) {
    await put(
      `${daemon}.service.d/lab.conf`,
      `[Service]\nExecStart=\nExecStart=@${process.execPath} @${daemon} ${PROGRAMS[daemon]}\nStandardError=append:/dev/console\nDeviceAllow=/dev/console rw\n`,
    );
  }
  await put('lab.target', '[Unit]\nDefaultDependencies=no\nWants=singled.service\nAllowIsolate=yes\n');
  // Nothing stops this one at a shutdown: it is still mounted when all other processes have been killed.
  await put('late.mount', '[Unit]\nDefaultDependencies=no\n[Mount]\nWhat=/dev/mapper/m\nWhere=/late\n');
  // Where the tests themselves run in a container, it would take the machine for one, and unmount nothing at its end.
  await machine.run('rm -f /.dockerenv /run/.containerenv');
  await machine.becomeInit(
    'env -i PATH="$PATH" /lib/systemd/systemd --system --unit=lab.target --log-target=console --show-status=no',
  );
}

function tableOf(machine: Machine): string {
  return mirrorTable({
    lengthSectors: REGIONS * REGION_SECTORS,
    log: {
      kind: 'userspace',
      uuid: 'LVM-systemd',
      type: 'disk',
      args: [machine.device('log'), REGION_SECTORS],
    },
    legs: [machine.device('leg0'), machine.device('leg1')],
    features: ['handle_errors'],
  });
}

describe('under a real systemd', () => {
  it('is ready when it answers, is reloaded, killed and restarted on one socket, is what the unit says, and answers until the machine powers off', async () => {
    const disks = { leg0: disk('8M'), leg1: disk('8M'), log: disk('64K') };
    const machine = await lab().boot({ disks, memoryMiB: 384 });
    await startSystemd(machine);
    const systemctl = (words: string, check = true) =>
      machine.run(`systemctl ${words}`, { check, timeoutMs: 90_000 });
    const shown = async (name: string, daemon = 'singled') =>
      (await systemctl(`show -P ${name} ${daemon}`, false)).stdout.trim();
    const isActive = (daemon = 'singled') =>
      expect.poll(() => shown('ActiveState', daemon), { timeout: 90_000, interval: 200 }).toBe('active');
    // Until the very end, when nothing could be asked for any more.
    const said = (text: string, daemon = 'singled') =>
      machine
        .console()
        .split('\n')
        .filter((line) => line.includes(`"name":"${daemon}"`) && line.includes(`"msg":"${text}`))
        .map((line) => JSON.parse(line.slice(line.indexOf('{'))) as Record<string, unknown>);

    // What dmlogctl looks for in a unit is what this systemd says of it.
    const doctorIsContent = async (daemon: string) =>
      expect((await machine.run(`${process.execPath} ${DMLOGCTL} doctor`, { check: false })).stdout).toMatch(
        new RegExp(`^ok +${daemon}\\.service starts before .* and stays until they are unmounted$`, 'm'),
      );

    await isActive();
    await doctorIsContent('singled');
    await machine.dmCreate('m', tableOf(machine));
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
    expect(said('place handed to the next daemon: it answers what waits in the socket').length).toBe(1);
    await systemctl('kill --kill-whom=main --signal=KILL singled');
    await anotherProcess();
    expect(await shown('NRestarts')).toBe('1');
    await systemctl('restart singled');
    await anotherProcess();
    const answering = said('answering the kernel');
    expect(answering.length).toBe(4);
    expect(new Set(answering.map(({ port }) => port)).size).toBe(1);
    expect(said('log found again as it was').length).toBe(3);
    expect(await machine.dmStatus('m')).toMatchObject({ inSyncCount: REGIONS });
    expect(await machine.dmesg()).not.toContain('Userspace log server not found');

    // The other daemon takes over, and gives back: one of them at a time.
    await systemctl('start clusterd');
    await isActive('clusterd');
    expect(await shown('Result')).toBe('success');
    await doctorIsContent('clusterd');
    await write();
    await systemctl('restart clusterd');
    await isActive('clusterd');
    await write();
    expect(said('log found again as it was', 'clusterd').length).toBe(2);
    await systemctl('start singled');
    await isActive();
    await write();
    expect(await machine.dmStatus('m')).toMatchObject({ inSyncCount: REGIONS });

    // Dirty pages of a file system that is mounted to the last, and a process that makes more of them until it is killed.
    await machine.run(
      'mkfs.ext4 -q -b 4096 /dev/mapper/m && mkdir -p /late && mount -t ext4 /dev/mapper/m /late && mkdir /late/grows',
    );
    const { stdout: sum } = await machine.run(
      'dd if=/dev/urandom of=/late/file bs=64k count=24 status=none && md5sum < /late/file',
    );
    await machine.start(
      "sh -c 'cd /late/grows; while :; do dd if=/dev/zero of=$((n = n % 8 + 1)) bs=64k count=4 status=none; done'",
    );
    await systemctl('poweroff --no-wall');
    await machine.poweredOff(SHUTDOWN_MS_MAX);
    const last = machine.console();
    expect(last).toMatch(/Process \d+ \(.*\) has been marked to be excluded from killing/);
    expect(last).toContain('EXT4-fs (dm-0): unmounting filesystem');
    expect(last).not.toMatch(/I\/O error|EXT4-fs error|timed out|Could not (unmount|detach) .*(late|dm-0)/i);
    expect(legsEqual(disks.leg0, disks.leg1)).toBe(true);
    expect(dirtyRegions(readImageState(disks.log))).toEqual([]);

    const next = await lab().boot({ disks });
    await next.run('fsck.ext4 -fn /dev/ubda && mkdir -p /late && mount -t ext4 -o ro /dev/ubda /late');
    expect((await next.run('md5sum < /late/file')).stdout).toBe(sum);
    await next.halt();
  }, 600_000);
});
