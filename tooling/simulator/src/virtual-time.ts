import { setImmediate as turn } from 'node:timers/promises';

/** Whose timers are made, and whose clock is read: a process of the simulation. */
export interface TimeOwner {
  readonly nowMs: number;
  addTimer(timer: Timer): void;
  removeTimer(timer: Timer): void;
  addImmediate(run: () => void): void;
}

/** What `setTimeout` and `setInterval` return here. */
export class Timer {
  readonly owner: TimeOwner;
  readonly run: () => void;
  /** 0: once. */
  readonly periodMs: number;
  atMs: number;

  constructor(owner: TimeOwner, run: () => void, delayMs: number, isPeriodic: boolean) {
    this.owner = owner;
    this.run = run;
    this.periodMs = isPeriodic ? Math.max(1, delayMs) : 0;
    this.atMs = owner.nowMs + Math.max(1, delayMs);
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }
}

/** Whether something was done that promises may wait for. */
export const promises = { pending: false };

let current: TimeOwner | null = null;
/** The clock of promises that go on in nobody's name. */
let worldNowMs: () => number = () => 0;

export function setWorldClock(nowMs: () => number): void {
  worldNowMs = nowMs;
}

/** From now on everything happens in the name of `owner`. Returns in whose it did before. */
export function actAs(owner: TimeOwner | null): TimeOwner | null {
  const before = current;
  current = owner;
  return before;
}

/** Runs `step` in the name of `owner`: its clock, its timers. */
export function inNameOf<T>(owner: TimeOwner, step: () => T): T {
  const before = current;
  current = owner;
  try {
    return step();
  } finally {
    current = before;
  }
}

/** As {@link inNameOf}, until what promises bring about has happened too. */
export async function settleInNameOf(owner: TimeOwner, step: () => void): Promise<void> {
  const before = current;
  current = owner;
  try {
    step();
    await turn();
  } finally {
    current = before;
  }
}

function owner(): TimeOwner {
  if (current === null) throw new Error('a timer is made outside of every simulated process');
  return current;
}

/**
 * Puts the simulation's time in the place of Node's for this thread, for good. The daemons run as they are: what they take for the clock, for timers and for
 * turns of the event loop is the simulation's.
 */
export function installVirtualTime(): void {
  const remove = (timer?: unknown) => {
    if (timer instanceof Timer) timer.owner.removeTimer(timer);
  };
  const add = (isPeriodic: boolean) => (run: () => void, delayMs: number) => {
    const timer = new Timer(owner(), run, delayMs, isPeriodic);
    timer.owner.addTimer(timer);
    return timer;
  };
  const later = (run: (...args: unknown[]) => void, ...args: unknown[]) => {
    owner().addImmediate(args.length === 0 ? run : () => run(...args));
  };
  const replacements: Record<string, unknown> = {
    setTimeout: add(false),
    setInterval: add(true),
    clearTimeout: remove,
    clearInterval: remove,
    setImmediate: later,
    queueMicrotask: later,
    performance: { now: () => current?.nowMs ?? worldNowMs() },
  };
  for (const [name, value] of Object.entries(replacements)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
}
