import type { LogEvent } from '@dmlog/daemon';
import { dmlogctl, type Environment, type Terminal } from '@dmlog/dmlogctl';
import type { Machine } from './machine.js';

/** Whoever looks after a machine: `dmlogctl`, asked there. */
export class Operator {
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** Runs a command to its end, or until `signal` says so. */
  async run(
    args: readonly string[],
    parts: Partial<Pick<Environment, 'out' | 'signal' | 'terminal'>> = {},
  ): Promise<{ code: number; out: string; error: string }> {
    const result = { code: -1, out: '', error: '' };
    const text = (some: string | Uint8Array) =>
      typeof some === 'string' ? some : Buffer.from(some).toString();
    result.code = await dmlogctl(['--runtime-dir', this.#machine.runtimeDir, ...args], {
      out: (some) => {
        result.out += text(some);
      },
      error: (some) => {
        result.error += some;
      },
      dmsetup: () => Promise.reject(new Error('there is no dmsetup here')),
      deviceBytes: () => Promise.reject(new Error('there are no devices here')),
      unitProperties: async () => '',
      procRoot: '/nonexistent',
      sysfsRoot: '/nonexistent',
      signal: AbortSignal.timeout(60_000),
      terminal: null,
      ...parts,
    });
    return result;
  }

  /** Begins `dmlogctl watch`: what it has told until now, and what ends it. */
  watch(): { readonly events: LogEvent[]; stop(): Promise<void> } {
    const events: LogEvent[] = [];
    const end = new AbortController();
    const out = (line: string | Uint8Array): void => {
      events.push(JSON.parse(line as string) as LogEvent);
    };
    const ended = this.run(['watch'], { out, signal: end.signal });
    return {
      events,
      stop: async () => {
        end.abort();
        const { code, error } = await ended;
        if (code !== 0) throw new Error(`watch ended with ${code}: ${error}`);
      },
    };
  }

  /** Looks at `dmlogctl top` until it shows `wanted`. */
  async top(wanted: RegExp): Promise<void> {
    let drawn = '';
    const end = new AbortController();
    const terminal: Terminal = { columns: 160, rows: 50, onKey: () => () => {}, onResize: () => () => {} };
    const out = (some: string | Uint8Array): void => {
      drawn += some;
      if (wanted.test(drawn)) end.abort();
    };
    const signal = AbortSignal.any([end.signal, AbortSignal.timeout(60_000)]);
    const { code, error } = await this.run(['top', '--interval', '0.2'], { out, terminal, signal });
    if (code !== 0 || !end.signal.aborted) throw new Error(`top ended with ${code}: ${error}\n${drawn}`);
  }
}
