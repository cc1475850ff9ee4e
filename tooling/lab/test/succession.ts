import { expect } from 'vitest';
import type { Daemon } from '../src/daemon.js';
import type { Machine } from '../src/index.js';

/** What a daemon says that has taken another's place: from when the old one stopped to read until the new one did. */
interface Answering {
  readonly gapMs?: number;
  readonly foundInMs: number;
}

const WAIT = { timeout: 120_000, interval: 20 };

/** A daemon of a machine and the ones that take its place, one after the other. All of them write to the standard error of the first. */
export class Succession {
  readonly #machine: Machine;
  readonly #daemon: Daemon;
  /** Of the daemon that answers now. */
  pid: number;
  /** Of each hand-over: milliseconds in which nobody read requests. */
  readonly gapsMs: number[] = [];
  /** Of each: what of it went by until the old one had let go, and what the new one took to find the logs. */
  readonly parts: string[] = [];
  #refused = 0;

  constructor(machine: Machine, daemon: Daemon) {
    this.#machine = machine;
    this.#daemon = daemon;
    this.pid = daemon.process.pid;
  }

  /** Asks for a hand-over and returns when another process answers, and can be asked. */
  async next(): Promise<void> {
    const count = this.gapsMs.length + 1;
    await this.#machine.run(`kill -HUP ${this.pid}`);
    const served = async () => {
      // A machine so busy that the next daemon is too slow for every offer: nothing was lost, it is asked again.
      const refusals = this.#lines().filter(({ msg }) => String(msg).startsWith('no hand-over')).length;
      for (; this.#refused < refusals; this.#refused++) await this.#machine.run(`kill -HUP ${this.pid}`);
      return this.said('serving dirty logs').length;
    };
    await expect.poll(served, WAIT).toBe(count + 1);
    const place = 'place handed to the next daemon: it answers what waits in the socket';
    await expect.poll(() => this.said(place).length, WAIT).toBe(count);
    const { successor, pausedMs } = this.said(place)[count - 1] as { successor: number; pausedMs: number };
    expect(successor).not.toBe(this.pid);
    this.pid = successor;
    const { gapMs, foundInMs } = this.said('answering the kernel')[count] as unknown as Answering;
    expect(gapMs).toEqual(expect.any(Number));
    this.gapsMs.push(gapMs as number);
    this.parts.push(`${pausedMs}+${foundInMs}`);
  }

  said(text: string): Record<string, unknown>[] {
    return this.#lines().filter(({ msg }) => msg === text);
  }

  #lines(): Record<string, unknown>[] {
    return this.#daemon.lines();
  }
}
