import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { RequestType as R } from '@dmlog/protocol';
import { describe, expect, it, vi } from 'vitest';
import { quantile } from '../src/commands/top.js';
import type { Terminal } from '../src/environment.js';
import { keysOf, Screen } from '../src/terminal.js';
import { BOUND, run, scratch, start, TestDaemon } from './helpers/daemon.js';

/** A terminal of our own: what was written to it, and a hand on its keys. */
class FakeTerminal implements Terminal {
  columns = 100;
  rows = 30;
  #key: ((key: string) => void) | null = null;
  #resize: (() => void) | null = null;
  onKey = (listener: (key: string) => void) => {
    this.#key = listener;
    return () => {
      this.#key = null;
    };
  };
  onResize = (listener: () => void) => {
    this.#resize = listener;
    return () => {
      this.#resize = null;
    };
  };
  get isListenedTo(): boolean {
    return this.#key !== null || this.#resize !== null;
  }
  press(key: string): void {
    this.#key?.(key);
  }
  resize(columns: number, rows: number): void {
    Object.assign(this, { columns, rows });
    this.#resize?.();
  }
}

/** What stands on the screen after `output`: only what `Screen` writes is understood. */
function screenOf(output: string): string[] {
  const rows: string[] = [];
  const seen = output.slice(output.lastIndexOf('\x1b[2J')).replaceAll('\x1b', '^');
  for (const [, row, text] of seen.matchAll(/\^\[(\d+);1H(.*?)\^\[K/g)) {
    rows[Number(row) - 1] = (text as string).replace(/\^\[\d*m/g, '');
  }
  return Array.from(rows, (row) => row ?? '');
}

describe('top', () => {
  it('shows logs, requests and the map of the log that is chosen by key; pauses; ends and gives the screen back', async () => {
    const daemon = await TestDaemon.start();
    await daemon.resume('u-1', '65536 core 1024 nosync');
    await daemon.resume('u-22', '16384 core 1024');
    await daemon.ask('u-1', R.MARK_REGION, [3]);
    const terminal = new FakeTerminal();
    const command = start(daemon.args(['top', '--interval', '0.05']), { terminal });
    const shows = (pattern: RegExp) =>
      vi.waitFor(() => expect(screenOf(command.out).join('\n')).toMatch(pattern), BOUND);
    await shows(/q quits/);
    await shows(/MARK_REGION/);
    // One map or the other, as the table begins with one of them.
    const maps = [/64 regions, 1 each[^\n]*\n {2}█{3}·█{60}/, /16 regions, 1 each[^\n]*\n {2}!{16}/] as const;
    await vi.waitFor(
      () => expect(maps.some((map) => map.test(screenOf(command.out).join('\n')))).toBe(true),
      BOUND,
    );
    const first = maps[0].test(screenOf(command.out).join('\n')) ? 0 : 1;
    terminal.press('down');
    await shows(maps[1 - first] as RegExp);
    terminal.press('k');
    await shows(maps[first] as RegExp);
    terminal.press(' ');
    await shows(/PAUSED/);
    terminal.press(' ');
    terminal.resize(40, 8);
    await vi.waitFor(() => {
      const rows = screenOf(command.out);
      expect(rows.length).toBeLessThanOrEqual(8);
      expect(Math.max(...rows.map((row) => row.length))).toBeLessThanOrEqual(40);
      expect(rows.join('')).toContain('q quits');
    }, BOUND);
    terminal.press('q');
    expect(await command.ended).toMatchObject({ code: 0, error: '' });
    expect(command.out.endsWith('\x1b[?25h\x1b[?1049l')).toBe(true);
    expect(terminal.isListenedTo).toBe(false);
  });

  it('ends, with its screen given back, when the daemon does', async () => {
    const daemon = await TestDaemon.start();
    const terminal = new FakeTerminal();
    const command = start(daemon.args(['top', '--interval', '0.05']), { terminal });
    await vi.waitFor(() => expect(command.out).toContain('no logs'), BOUND);
    fs.rmSync(path.join(daemon.directory, 'singled.sock'));
    expect((await command.ended).code).toBe(69);
    expect(command.out.endsWith('\x1b[?25h\x1b[?1049l')).toBe(true);
  });

  it('needs a terminal', async () => {
    expect(await run(['top'])).toMatchObject({ code: 64 });
  });

  it('writes nothing where nothing changed, and one line where one did', () => {
    let out = '';
    const screen = new Screen((text) => {
      out += text;
    });
    screen.draw(['a', 'b', 'c']);
    out = '';
    screen.draw(['a', 'b', 'c']);
    expect(out).toBe('');
    screen.draw(['a', 'x']);
    expect(out).toBe('\x1b[2;1Hx\x1b[K\x1b[3;1H\x1b[K');
  });

  it('knows arrows in both forms among other keys, and the bounds of quantiles', () => {
    expect([...keysOf('j\x1b[A\x1bOBq\x03')]).toEqual(['j', 'up', 'down', 'q', 'interrupt']);
    expect(quantile([0, 0], [1e-6], 0.5)).toBe('-');
    expect(quantile([1, 99, 0], [1e-6, 2e-3], 0.99)).toBe('≤ 2.0 ms');
    expect(quantile([0, 0, 5], [1e-6, 2], 0.5)).toBe('> 2.0 s');
  });
});

describe('completion and manual', () => {
  it('complete commands, their commands and their options, in bash', async () => {
    const { out, code } = await run(['completion', 'bash']);
    expect(code).toBe(0);
    const file = path.join(scratch(), 'completion');
    fs.writeFileSync(file, out);
    const complete = (...words: string[]): string[] =>
      execFileSync(
        'bash',
        [
          '-c',
          `source ${file}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _dmlogctl; printf '%s\\n' "\${COMPREPLY[@]}"`,
          '-',
          ...words,
        ],
        { encoding: 'utf8', cwd: scratch() },
      )
        .split('\n')
        .filter((word) => word !== '');
    expect(complete('dmlogctl', 're')).toEqual(['repair', 'refresh', 'recover', 'replay']);
    expect(complete('dmlogctl', 'mirror', 'a')).toEqual(['attach']);
    expect(complete('dmlogctl', 'mirror', 'create', '--dry')).toEqual(['--dry-run']);
    expect(complete('dmlogctl', '--runtime-dir', '/x', 'settings', '--lazy-clear-m')).toEqual([
      '--lazy-clear-ms',
    ]);
    expect(await run(['completion', 'tcsh'])).toMatchObject({ code: 64 });
    for (const shell of ['zsh', 'fish']) expect((await run(['completion', shell])).out).toContain('handover');
  });

  it('name every command and option that --help names', async () => {
    const help = (await run(['--help'])).out;
    const { out, code } = await run(['man']);
    expect(code).toBe(0);
    const commands = [...help.matchAll(/^ {2}([a-z]+) /gm)]
      .map(([, name]) => name as string)
      .filter((name) => name !== 'help');
    expect(commands.length).toBeGreaterThan(12);
    for (const name of commands) {
      expect(out, name).toMatch(new RegExp(`^\\.SS "?${name}`, 'm'));
      const own = (await run([name, '--help'])).out;
      for (const [, option] of own.matchAll(/^ {2}(--[a-z-]+)/gm)) {
        if (option !== '--help')
          expect(out, `${name} ${option}`).toContain((option as string).replaceAll('-', '\\-'));
      }
    }
    expect(out).toMatch(/^\.SH EXIT STATUS$/m);
  });
});
