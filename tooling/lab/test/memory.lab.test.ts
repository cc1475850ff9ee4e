import { describe, expect, it } from 'vitest';
import { disk, legsEqual, mirrorTable } from '../src/index.js';
import { startSingled } from '../src/singled.js';
import { useLab } from './support.js';

/** A machine of 128 MiB whose memory other processes use up, while dirty pages of the mirror wait to be written back through it. */
const lab = useLab();

/** 10 in a full run. */
const ROUNDS = Number(process.env['DMLOG_MEMORY_ROUNDS'] ?? 1);
const MEMORY_MIB = 128;
/** What is promised: the mirror makes progress within it, whatever else goes on. */
const PROGRESS_MS_MAX = 30_000;
const REGION_SECTORS = 128;
const LEG_MIB = 24;
const REGIONS = (LEG_MIB << 11) / REGION_SECTORS;

/** Allocates until it is killed, again and again: a line without an end, of which `tail` keeps all. */
const HOG = `sh -c 'while [ ! -e /run/tmp/enough ]; do tail /dev/zero >/dev/null 2>&1; done'`;
/** Dirties pages of the mirror, half of what the machine has, again and again. */
const DIRTY = `sh -c 'while [ ! -e /run/tmp/enough ]; do dd if=/dev/urandom of=/dev/mapper/m bs=64k count=${(LEG_MIB - 4) << 4} seek=64 conv=notrunc status=none || exit 1; done'`;

describe(`singled in ${MEMORY_MIB} MiB`, () => {
  it(
    'serves on while memory is exhausted: the mirror makes progress, the daemon is never the victim and does not grow',
    async () => {
      const leg = `${LEG_MIB}M`;
      const disks = { leg0: disk(leg), leg1: disk(leg), log: disk('1M') };
      const machine = await lab().boot({ disks, memoryMiB: MEMORY_MIB });
      const daemon = await startSingled(machine, { args: ['--log-level', 'info'], timeoutMs: 60_000 });
      const { pid } = daemon.process;
      expect((await machine.run(`cat /proc/${pid}/oom_score_adj`)).stdout.trim()).toBe('-1000');
      expect((await machine.run(`grep VmLck /proc/${pid}/status`)).stdout).toMatch(/[1-9]\d+ kB/);
      expect(daemon.lines().filter(({ msg }) => String(msg).startsWith('under memory pressure'))).toEqual([]);
      await machine.dmCreate(
        'm',
        mirrorTable({
          lengthSectors: REGIONS * REGION_SECTORS,
          log: {
            kind: 'userspace',
            uuid: 'LVM-memory',
            type: 'disk',
            args: [machine.device('log'), REGION_SECTORS],
          },
          legs: [machine.device('leg0'), machine.device('leg1')],
          features: ['handle_errors'],
        }),
      );
      await machine.waitInSync('m', 120_000);
      /** How often the kernel has killed for want of memory. */
      const kills = async () => Number((await machine.run("sed -n 's/^oom_kill //p' /proc/vmstat")).stdout);
      const killsMoreThan = (count: number) =>
        expect.poll(kills, { timeout: 120_000, interval: 200 }).toBeGreaterThan(count);

      const hogs = [await machine.start(HOG), await machine.start(DIRTY)];
      await killsMoreThan(0);
      const tookMs: number[] = [];
      const residentKiB: number[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        const began = performance.now();
        // Through the log to both legs, and on the medium: nothing of it is in a cache.
        const write = `dd if=/dev/urandom of=/dev/mapper/m bs=64k count=8 seek=$((${round} % 8)) oflag=direct conv=notrunc,fsync status=none`;
        await machine.run(write, { timeoutMs: 4 * PROGRESS_MS_MAX });
        tookMs.push(Math.round(performance.now() - began));
        residentKiB.push(
          Number(
            (await machine.run(`sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/${pid}/status`)).stdout,
          ),
        );
        await killsMoreThan(await kills());
      }
      console.log(`8 writes of 64 KiB took ${tookMs.join(', ')} ms; resident ${residentKiB.join(', ')} KiB`);
      await machine.run('touch /run/tmp/enough');
      for (const hog of hogs) await hog.exited;
      // As far back as the kernel's own log reaches.
      expect(await machine.dmesg()).not.toContain(`Killed process ${pid} `);
      expect((await machine.run(`cat /proc/${pid}/cmdline`)).stdout).toContain('singled');
      expect(daemon.process.running).toBe(true);
      expect(Math.max(...tookMs)).toBeLessThan(PROGRESS_MS_MAX);
      const { logs } = await daemon.status();
      expect(logs[0]).toMatchObject({ inSyncCount: REGIONS, deviceStatus: 'A' });
      expect(await machine.dmesg()).not.toMatch(/I\/O error|blocked for more than/);
      await machine.dmRemove('m');
      await daemon.stop();
      await machine.halt();
      expect(legsEqual(disks.leg0, disks.leg1)).toBe(true);
    },
    240_000 + ROUNDS * 150_000,
  );
});
