import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { disk, type Machine } from '../src/index.js';
import { useLab } from './support.js';

const lab = useLab();

/** One machine for the tests that leave it as they found it. */
let common: Machine | undefined;
async function machine(): Promise<Machine> {
  common ??= await lab().boot({
    name: 'common',
    modules: ['brd rd_nr=1 rd_size=8192'],
    env: { GREETING: "it's me" },
  });
  return common;
}

async function medianMs(count: number, step: () => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    await step();
    times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b)[count >> 1]!;
}

describe('a machine', () => {
  it('boots, and says how long that, a command and node take', async () => {
    const start = performance.now();
    const m = await machine();
    const bootMs = performance.now() - start;
    const commandMs = await medianMs(9, () => m.run('true'));
    const nodeMs = await medianMs(3, () => m.run('node -e 0'));
    console.log(
      `boot ${bootMs.toFixed(0)} ms, command ${commandMs.toFixed(0)} ms, node ${nodeMs.toFixed(0)} ms`,
    );
    expect((await m.run('uname -r')).stdout.trim()).toBe(lab().kernelVersion);
    expect((await m.run('dmsetup targets')).stdout).toMatch(/^mirror /m);
    expect((await m.run('cat /proc/modules')).stdout).toMatch(/^dm_log_userspace /m);
  });

  it('returns output, error output and status', async () => {
    const m = await machine();
    const result = await m.run('echo out; echo err >&2; exit 7', { check: false });
    expect(result).toEqual({ stdout: 'out\n', stderr: 'err\n', code: 7 });
  });

  it('throws a readable error for a failed command', async () => {
    const m = await machine();
    await expect(m.run('ls /no/such/file')).rejects.toMatchObject({
      code: 'ERR_LAB_COMMAND',
      message: expect.stringMatching(
        /`ls \/no\/such\/file` on common ended with status 2[\s\S]*No such file/,
      ),
    });
  });

  it('takes scripts of several lines, quotes, input and environment', async () => {
    const m = await machine();
    const script = `for word in a "b  c" 'd$e'; do\n  echo "$word"\ndone\ncat\necho "$GREETING $OWN"`;
    const { stdout } = await m.run(script, { input: 'fed\n', env: { OWN: "'quoted'" } });
    expect(stdout).toBe("a\nb  c\nd$e\nfed\nit's me 'quoted'\n");
  });

  it('brings back megabytes of output unharmed', async () => {
    const m = await machine();
    const { stdout } = await m.run('seq 1 400000');
    const lines = stdout.split('\n');
    expect(stdout.length).toBeGreaterThan(2_500_000);
    expect(lines.length).toBe(400_001);
    expect(lines.every((line, index) => index === 400_000 || line === String(index + 1))).toBe(true);
  });

  it('runs commands side by side', async () => {
    const m = await machine();
    const order: string[] = [];
    const slow = m.run('sleep 1; echo slow').then(({ stdout }) => order.push(stdout.trim()));
    const quick = Array.from({ length: 5 }, (_, index) =>
      m.run(`echo quick${index}`).then(({ stdout }) => order.push(stdout.trim())),
    );
    await Promise.all([slow, ...quick]);
    expect(order.at(-1)).toBe('slow');
    expect([...order].sort()).toEqual(['quick0', 'quick1', 'quick2', 'quick3', 'quick4', 'slow']);
  });

  it('kills a command that takes too long, with all that it has started', async () => {
    const m = await machine();
    await expect(m.run('sleep 1234 & sleep 1234', { timeoutMs: 500 })).rejects.toMatchObject({
      code: 'ERR_LAB_TIMEOUT',
    });
    await expect
      .poll(async () => (await m.run("ps -eo args | grep -c '[s]leep 1234'", { check: false })).stdout.trim())
      .toBe('0');
  });

  it('keeps a background process at hand: its words, its pid, its end', async () => {
    const m = await machine();
    const program = `process.on('SIGTERM', () => { console.log('bye'); process.exit(3); }); console.log('up'); setInterval(() => {}, 1000);`;
    const child = await m.start(`node -e "${program}"`);
    await child.waitFor('up');
    expect((await m.run(`cat /proc/${child.pid}/comm`)).stdout.trim()).toBe('node');
    expect(child.running).toBe(true);
    child.kill('SIGTERM');
    expect(await child.exited).toBe(3);
    expect(child.output()).toBe('up\nbye\n');
    await expect(child.waitFor('never said')).rejects.toMatchObject({ code: 'ERR_LAB_COMMAND' });
    const killed = await m.start('sleep 1000');
    killed.kill('SIGKILL');
    expect(await killed.exited).toBe(128 + 9);
    await expect((await m.start('no-such-program')).exited).resolves.toBe(127);
  });

  it('does O_DIRECT, which the kernel refuses for a misaligned length', async () => {
    const m = await machine();
    await m.run(
      'dd if=/dev/urandom of=/dev/ram0 bs=4096 count=16 oflag=direct && dd if=/dev/ram0 of=/dev/null bs=4096 iflag=direct',
    );
    const odd = await m.run('dd if=/dev/zero of=/dev/ram0 bs=100 count=1 oflag=direct', { check: false });
    expect(odd.code).not.toBe(0);
    expect(odd.stderr).toContain('Invalid argument');
  });

  it('cannot write to the host', async () => {
    const m = await machine();
    const path = `${process.cwd()}/written-by-a-guest`;
    await m.run(`echo x > '${path}' && cat '${path}' && rm -f /etc/hostname`);
    expect(existsSync(path)).toBe(false);
    expect(existsSync('/etc/passwd')).toBe(true);
  });

  it('hangs when paused and goes on when resumed', async () => {
    const m = await machine();
    m.pause();
    const answer = m.run('echo alive');
    const early = await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, 400, 'silent'))]);
    expect(early).toBe('silent');
    m.resume();
    expect((await answer).stdout).toBe('alive\n');
  });

  it('powers off with status 0, and then refuses commands', async () => {
    const m = await machine();
    expect(await m.halt()).toEqual({ how: 'halted', code: 0, signal: null });
    await expect(m.run('true')).rejects.toMatchObject({ code: 'ERR_LAB_LOST' });
  });
});

describe('what can go wrong', () => {
  it('loses no disk in a power cut, and tells the command that was under way', async () => {
    const kept = disk('2M');
    const first = await lab().boot({ disks: { kept } });
    await first.run(`echo before the cut | dd of=${first.device('kept')} bs=512 seek=3 conv=sync,fsync`);
    const waiting = first.run('sleep 1000');
    const outcome = expect(waiting).rejects.toMatchObject({
      code: 'ERR_LAB_LOST',
      message: expect.stringContaining('power cut'),
    });
    const { pid } = await first.start('sleep 1000');
    expect(pid).toBeGreaterThan(1);
    await first.powerCut();
    await outcome;
    expect(kept.read(3 * 512, 14).toString()).toBe('before the cut');
    kept.write(0, Buffer.from('from the host'));
    const second = await lab().boot({ disks: { other: disk('1M'), kept } });
    expect(second.device(kept)).toBe('/dev/ubdb');
    expect((await second.run(`head -c 13 /dev/ubdb`)).stdout).toBe('from the host');
    expect((await second.run(`dd if=/dev/ubdb bs=512 skip=3 count=1 | head -c 14`)).stdout).toBe(
      'before the cut',
    );
    await expect(lab().boot({ disks: { kept } })).rejects.toMatchObject({ code: 'ERR_LAB_USAGE' });
    // Cut before the guest could even say which pid it is.
    const unborn = [second.run('sleep 9'), second.start('sleep 9')].map((lost) =>
      expect(lost).rejects.toMatchObject({ code: 'ERR_LAB_LOST' }),
    );
    await second.powerCut();
    await Promise.all(unborn);
  });

  it('reports a guest panic, with the console', async () => {
    const m = await lab().boot({ name: 'doomed' });
    const lost = m.run('echo c > /proc/sysrq-trigger; sleep 100');
    await expect(lost).rejects.toMatchObject({
      code: 'ERR_LAB_LOST',
      message: expect.stringMatching(/kernel panic[\s\S]*sysrq/i),
    });
    expect((await m.ended).how).toBe('panic');
  });

  it('refuses a module that does not exist, before it boots', async () => {
    await expect(lab().boot({ modules: ['dm-imaginary'] })).rejects.toMatchObject({ code: 'ERR_LAB_USAGE' });
  });

  it('reports a boot that fails, with the reason from the console', async () => {
    await expect(lab().boot({ modules: ['brd rd_nr=nonsense'] })).rejects.toMatchObject({
      code: 'ERR_LAB_BOOT',
      message: expect.stringMatching(/cannot load a module/),
    });
  });
});
