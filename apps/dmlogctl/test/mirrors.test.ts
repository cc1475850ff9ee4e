import fs from 'node:fs';
import path from 'node:path';
import { RequestType as R } from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import { processFindings } from '../src/commands/doctor-process.js';
import { unitOrderFindings } from '../src/commands/doctor-unit.js';
import { formatMirrorTable, parseMirrorTable } from '../src/mirror-table.js';
import { fakeDmsetup, run, scratch, TestDaemon } from './helpers/daemon.js';

const MIB = 1 << 20;
const devices = { deviceBytes: async (device: string) => (device === '/dev/a' ? 16 * MIB : 20 * MIB) };
const STATUS = '0 32768 mirror 2 98:0 98:16 32/32 1 AA 1 core\n';

describe('mirror create', () => {
  it('builds the table from legs, log and region size', async () => {
    const { dmsetup, calls } = fakeDmsetup({ create: '' });
    const args = ['--leg', '/dev/a', '/dev/b', '--log', '/dev/log', '--region-size', '512K', '--uuid', 'U'];
    expect(await run(['mirror', 'create', 'm', ...args], { dmsetup, ...devices })).toMatchObject({
      code: 0,
      error: '',
    });
    expect(calls).toEqual([
      'create m --table 0 32768 mirror userspace 4 U disk /dev/log 1024 2 /dev/a 0 /dev/b 0 1 handle_errors',
    ]);
  });

  it('prints the commands of a dry run, and runs none', async () => {
    const args = [
      '--leg',
      '/dev/a',
      '--leg',
      '/dev/b',
      '--clustered',
      '--sync',
      'nosync',
      '--no-handle-errors',
      '--integrated-flush',
      '--uuid',
      'U',
      '--dry-run',
    ];
    const { out } = await run(['mirror', 'create', 'm', ...args], devices);
    expect(out).toBe(
      "dmsetup create m --table '0 32768 mirror userspace 5 U integrated_flush clustered-core 1024 nosync 2 /dev/a 0 /dev/b 0'\n",
    );
  });

  it.each([
    [['--leg', '/dev/a'], /two legs/],
    [['--leg', '/dev/a', '/dev/b', '--region-size', '3K'], /power of two/],
    [['--leg', '/dev/a', '/dev/b', '--region-size', '32M'], /less than a region/],
    [['--leg', '/dev/a', '/dev/b', '--region-size', 'big'], /give bytes/],
    [[], /--leg/],
  ])('refuses %j', async (args, message) => {
    const result = await run(['mirror', 'create', 'm', ...args], devices);
    expect(result.code).toBe(64);
    expect(result.error).toMatch(message);
  });

  it('says what dmsetup said', async () => {
    const { dmsetup } = fakeDmsetup({});
    const result = await run(['mirror', 'create', 'm', '--leg', '/dev/a', '/dev/b'], { dmsetup, ...devices });
    expect(result).toMatchObject({ code: 71 });
    expect(result.error).toContain('dmesg');
  });
});

describe('mirror attach and handover', () => {
  const kernelDisk = '0 32768 mirror disk 3 8:32 1024 sync 2 8:0 0 8:16 0 1 handle_errors\n';
  const oursDisk =
    '0 32768 mirror userspace 5 U integrated_flush disk 8:32 1024 2 8:0 0 8:16 0 1 handle_errors\n';

  it('exchange the tables of a disk log in one step, without sync', async () => {
    const { dmsetup, calls } = fakeDmsetup({ 'table m': kernelDisk, load: '', resume: '' });
    await run(['mirror', 'attach', 'm', '--uuid', 'U'], { dmsetup });
    expect(calls.slice(1)).toEqual([
      'load m --table 0 32768 mirror userspace 4 U disk 8:32 1024 2 8:0 0 8:16 0 1 handle_errors',
      'resume m',
    ]);
    const back = fakeDmsetup({ 'table m': oursDisk, load: '', resume: '' });
    await run(['mirror', 'handover', 'm'], { dmsetup: back.dmsetup });
    expect(back.calls.slice(1)).toEqual([
      'load m --table 0 32768 mirror disk 2 8:32 1024 2 8:0 0 8:16 0 1 handle_errors',
      'resume m',
    ]);
  });

  it('believe a core log only while the mirror is suspended and all of it is in sync', async () => {
    const core = '0 32768 mirror core 1 1024 2 8:0 0 8:16 0\n';
    const answers = { 'table m': core, suspend: '', load: '', resume: '' };
    const synced = fakeDmsetup({ ...answers, status: STATUS });
    await run(['mirror', 'attach', 'm', '--uuid', 'U'], { dmsetup: synced.dmsetup });
    expect(synced.calls.slice(1)).toEqual([
      'suspend m',
      'status m',
      'load m --table 0 32768 mirror userspace 4 U core 1024 nosync 2 8:0 0 8:16 0',
      'resume m',
    ]);
    for (const status of [STATUS.replace('32/32', '31/32'), STATUS.replace('AA', 'AD')]) {
      const half = fakeDmsetup({ ...answers, status });
      await run(['mirror', 'attach', 'm', '--uuid', 'U'], { dmsetup: half.dmsetup });
      expect(half.calls).toContain('load m --table 0 32768 mirror userspace 3 U core 1024 2 8:0 0 8:16 0');
    }
  });

  it('never leave a mirror suspended', async () => {
    const core = '0 32768 mirror core 1 1024 2 8:0 0 8:16 0\n';
    const { dmsetup, calls } = fakeDmsetup({ 'table m': core, suspend: '', resume: '', status: STATUS });
    expect(await run(['mirror', 'attach', 'm'], { dmsetup })).toMatchObject({ code: 71 });
    expect(calls.at(-1)).toBe('resume m');
  });

  it('refuse what cannot be moved, and what is no mirror', async () => {
    const at = (table: string) => ({ dmsetup: fakeDmsetup({ 'table m': table }).dmsetup });
    expect(await run(['mirror', 'attach', 'm'], at(oursDisk))).toMatchObject({ code: 64 });
    expect(await run(['mirror', 'handover', 'm'], at(kernelDisk))).toMatchObject({ code: 64 });
    const clustered = oursDisk.replace(' disk', ' clustered-disk');
    expect((await run(['mirror', 'handover', 'm'], at(clustered))).error).toContain('clustered');
    expect(await run(['mirror', 'attach', 'm'], at('0 8 linear 8:0 0'))).toMatchObject({ code: 66 });
    expect(await run(['mirror', 'remove', 'x'], at(kernelDisk))).toMatchObject({ code: 66 });
  });

  it('keep every word of a table', () => {
    for (const table of [kernelDisk, oursDisk]) {
      expect(formatMirrorTable(parseMirrorTable('m', table))).toBe(table.trim());
    }
  });
});

describe('refresh and recover', () => {
  const table = '0 16384 mirror userspace 3 u-1 core 1024 2 8:0 0 8:16 0';

  it('reload the tables of the logs that are named, by name or uuid', async () => {
    const daemon = await TestDaemon.start();
    await daemon.resume('u-1', '16384 core 1024 nosync');
    const { dmsetup, calls } = fakeDmsetup({
      table: `m: ${table}\nn: ${table.replace('u-1', 'u-2')}\n`,
      info: 'L--w',
      load: '',
      resume: '',
    });
    expect(await daemon.ctl(['refresh', 'mirror-u-1'], { dmsetup })).toMatchObject({ code: 0, error: '' });
    expect(calls.slice(1)).toEqual(['info -c --noheadings -o attr m', `load m < ${table}`, 'resume m']);
    expect(await daemon.ctl(['refresh', 'nobody'], { dmsetup })).toMatchObject({ code: 66 });
    expect(await daemon.ctl(['refresh'], { dmsetup })).toMatchObject({ code: 64 });
    const busy = fakeDmsetup({ table: `m: ${table}\n`, info: 'LIsw' });
    expect(await daemon.ctl(['refresh', '--all'], { dmsetup: busy.dmsetup })).toMatchObject({ code: 75 });
  });

  it('recover reloads only what needs it, and waits until it is in sync', async () => {
    const daemon = await TestDaemon.start();
    await daemon.resume('u-1', '16384 core 1024 nosync');
    await daemon.resume('u-20', '16384 core 1024 nosync');
    await daemon.ask('u-1', R.SET_REGION_SYNC, [3, 0]);
    const { dmsetup, calls } = fakeDmsetup({ table: `m: ${table}\n`, info: 'L--w', load: '', resume: '' });
    const late = await daemon.ctl(['recover', '--timeout', '0'], { dmsetup });
    expect(late).toMatchObject({ code: 75 });
    expect(late.error).toContain('u-1');
    expect(calls.filter((call) => call.startsWith('load'))).toEqual([`load m < ${table}`]);
    await daemon.ask('u-1', R.SET_REGION_SYNC, [3, 1]);
    expect(await daemon.ctl(['recover'], { dmsetup })).toMatchObject({ code: 0 });
  });
});

/** What systemd 252 says of the units as they are shipped. */
const SHOWN = (program: string, before: string, after: string): string => `\
Requires=dmlog.slice -.mount
Wants=${before.includes('remote') ? 'remote' : 'local'}-fs-pre.target modprobe@dm_log_userspace.service
Conflicts=lvm2-cmirrord.service cmirrord.service
${before}
${after}
LoadState=loaded
NeedDaemonReload=no
DefaultDependencies=no
IgnoreOnIsolate=yes
ExecStart={ path=/usr/bin/node ; argv[]=@${program} /usr/lib/node_modules/x/dist/cli.cjs ; ignore_errors=no ; pid=0 }
`;

describe('doctor', () => {
  it('looks at the process of the daemon: rights, memory, unit, and corosync beside clusterd', () => {
    const root = scratch();
    const put = (file: string, text: string): void => {
      fs.mkdirSync(path.dirname(`${root}/${file}`), { recursive: true });
      fs.writeFileSync(`${root}/${file}`, text);
    };
    const found = (program: string) =>
      processFindings(root, { pid: 7, program }).map(([level, what]) => `${level} ${what}`);
    expect(found('singled')).toEqual([expect.stringContaining('note the process of the daemon (7)')]);
    put('7/status', 'VmSwap:\t       0 kB\nCapEff:\t000001ffffffffff\n');
    put('7/oom_score_adj', '-1000\n');
    put('7/cgroup', '0::/dmlog.slice/clusterd.service\n');
    put('8/comm', 'corosync\n');
    expect(found('clusterd').filter((one) => !one.startsWith('ok '))).toEqual([]);
    fs.rmSync(`${root}/8`, { recursive: true });
    put('7/status', 'VmSwap:\t      12 kB\nCapEff:\t0000000000001000\n');
    put('7/oom_score_adj', '0\n');
    put('7/cgroup', '0::/user.slice/session-1.scope\n');
    expect(found('clusterd')).toEqual([
      expect.stringMatching(/^problem .* lacks CAP_SYS_ADMIN:/),
      expect.stringMatching(/^problem 12 KiB of the daemon are in swap/),
      expect.stringMatching(/^note .*oom_score_adj 0/),
      expect.stringMatching(/^note the daemon is not run by a unit/),
      expect.stringMatching(/^problem corosync does not run/),
    ]);
    put('7/status', 'CapEff:\t0000000000201000\n');
    expect(found('singled')[0]).toMatch(/^note the daemon lacks CAP_IPC_LOCK, CAP_SYS_RESOURCE/);
  });

  it('looks at the order of the unit: before mounts, after corosync, until the last unmount', () => {
    const singled = SHOWN('singled', 'Before=lvm2-monitor.service local-fs-pre.target', 'After=-.mount');
    const clusterd = SHOWN(
      'clusterd',
      'Before=remote-fs-pre.target',
      'After=corosync.service sysinit.target',
    );
    const found = (program: string, shown: string) =>
      unitOrderFindings(program, shown).map(([level, what, advice]) => {
        expect(advice === '').toBe(level === 'ok');
        return `${level} ${what}`;
      });
    expect(found('singled', singled)).toEqual([expect.stringMatching(/^ok singled.service starts before/)]);
    expect(found('clusterd', clusterd)).toEqual([
      expect.stringMatching(/^ok clusterd.service starts before/),
    ]);
    for (const [shown, program, from, to, said] of [
      [singled, 'singled', 'DaemonReload=no', 'DaemonReload=yes', /^note .* its file has changed/],
      [singled, 'singled', 'Dependencies=no', 'Dependencies=yes', /^problem .* a shutdown stops it/],
      [singled, 'singled', 'Conflicts=', 'Conflicts=umount.target ', /^problem .* a shutdown stops it/],
      [singled, 'singled', 'Isolate=yes', 'Isolate=no', /^problem .* rescue mode, stops it/],
      [singled, 'singled', 'local-fs-pre.target\n', '\n', /^problem .* may be mounted before it answers/],
      [singled, 'singled', 'Wants=local-fs-pre.target', 'Wants=', /^note .* it does not ask for/],
      [singled, 'singled', '=@singled', '=singled', /^problem .* the end of a shutdown kills it/],
      [
        clusterd,
        'clusterd',
        'Before=remote-fs-pre',
        'Before=local-fs-pre',
        /^problem .* with _netdev on its mirrors/,
      ],
      [clusterd, 'clusterd', 'corosync.service', '', /^note .* may start before corosync/],
    ] as const) {
      expect(shown).toContain(from);
      expect(found(program, shown.replace(from, to))).toEqual([expect.stringMatching(said)]);
    }
    // What systemd 255 has for the "@".
    const spared = `${singled.replace('=@singled', '=singled')}SurviveFinalKillSignal=yes\n`;
    expect(found('singled', spared)).toEqual([expect.stringMatching(/^ok/)]);
    for (const nothing of ['', 'LoadState=not-found\nDefaultDependencies=yes\n'])
      expect(found('singled', nothing)).toEqual([]);
    expect(found('another', singled)).toEqual([]);
  });

  it('asks systemd of the unit that the daemon runs in', async () => {
    const procRoot = scratch();
    fs.mkdirSync(`${procRoot}/${process.pid}`);
    const daemon = await TestDaemon.start();
    const asked: string[] = [];
    const doctor = async (service: string) => {
      fs.writeFileSync(`${procRoot}/${process.pid}/status`, 'CapEff:\t000001ffffffffff\n');
      fs.writeFileSync(`${procRoot}/${process.pid}/cgroup`, `0::/dmlog.slice/${service}\n`);
      const unitProperties = async (unit: string) => {
        asked.push(unit);
        return SHOWN('singled', 'Before=', 'After=');
      };
      return (await daemon.ctl(['doctor'], { procRoot, unitProperties })).out;
    };
    expect(await doctor('cron.service')).not.toContain('may be mounted');
    expect(asked).toEqual([]);
    expect(await doctor('singled.service')).toMatch(
      /^problem +singled\.service: file systems .* may be mounted before .*\n +→ systemctl edit singled\.service: Before=local-fs-pre\.target /m,
    );
    expect(asked).toEqual(['singled.service']);
  });

  it('finds what is wrong, and says what to do', async () => {
    const root = scratch();
    const put = (file: string, text: string): void => {
      fs.mkdirSync(path.dirname(`${root}/${file}`), { recursive: true });
      fs.writeFileSync(`${root}/${file}`, text);
    };
    put('swaps', 'Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n');
    put('module/dm_mirror/x', '');
    put('block/dm-1/dm/name', 'm\n');
    put('block/dm-1/slaves/sda/x', '');
    put('block/dm-1/slaves/sdb/x', '');
    put('block/sda/queue/write_cache', 'write back\n');
    const roots = { procRoot: root, sysfsRoot: root };
    const { code, out } = await run(['--control-socket', '/nonexistent/s', 'doctor'], roots);
    expect(code).toBe(1);
    expect(out).toMatch(/problem +no log daemon is running/);
    expect(out).toMatch(/problem +kernel modules missing: dm-log-userspace\n.*modprobe/);
    expect(out).toMatch(/note +swap is on \(\/dev\/sda2\)/);
    expect(out).toMatch(/note +legs with volatile write caches: sda \(m\)/);
  });

  it('has nothing against a machine that is well, and finds a log on its own mirror', async () => {
    const root = scratch();
    const put = (file: string, text: string): void => {
      fs.mkdirSync(path.dirname(`${root}/${file}`), { recursive: true });
      fs.writeFileSync(`${root}/${file}`, text);
    };
    put('swaps', 'Filename Type Size Used Priority\n');
    put('module/dm_mirror/x', '');
    put('module/dm_log_userspace/x', '');
    for (const pid of [1, process.pid]) {
      fs.mkdirSync(`${root}/${pid}/ns`, { recursive: true });
      fs.symlinkSync('net:[1]', `${root}/${pid}/ns/net`);
    }
    const daemon = await TestDaemon.start();
    const roots = { procRoot: root, sysfsRoot: root };
    expect(await daemon.ctl(['doctor'], roots)).toMatchObject({ code: 0 });
    const file = path.join(scratch(), 'log');
    fs.writeFileSync(file, Buffer.alloc(8192));
    await daemon.resume('u-1', `16384 disk ${file} 1024`);
    put('block/dm-7/dev', `${file}\n`);
    put('block/dm-7/slaves/dm-1/x', '');
    put('block/dm-1/dm/name', 'mirror-u-1\n');
    // The log's own cache is no leg's.
    for (const slave of ['dm-7', 'sda']) put(`block/dm-1/slaves/${slave}/x`, '');
    put('block/dm-7/queue/write_cache', 'write back\n');
    const { code, out } = await daemon.ctl(['doctor', '--json'], roots);
    expect(code).toBe(1);
    expect(
      JSON.parse(out).findings.filter(({ level }: { level: string }) => level === 'problem'),
    ).toMatchObject([{ what: expect.stringContaining('lies on that very mirror') }]);
    expect(out).toContain('no leg has a volatile write cache');
  });
});
