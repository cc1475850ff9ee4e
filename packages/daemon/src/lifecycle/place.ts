import type { ControlServer } from '../control/server.js';
import { systemCode } from '../device/errors.js';
import { acquireInstanceLock, type InstanceLock, type InstanceLockOptions } from './instance-lock.js';

/** How long the lock of a daemon that dies while it is succeeded may still be held. */
const DYING_MS_MAX = 5000;
const DYING_POLL_MS = 5;

/** What one daemon of a host has at a time: the lock, and the name of the control socket. */
export class Place {
  readonly #options: InstanceLockOptions;
  readonly #control: ControlServer;
  #lock: InstanceLock | null = null;

  constructor(lock: InstanceLockOptions, control: ControlServer) {
    this.#options = lock;
    this.#control = control;
  }

  /** @throws LifecycleError `ERR_ALREADY_RUNNING`. */
  async take(): Promise<void> {
    this.#lock = await acquireInstanceLock(this.#options);
  }

  /** The same where the holder has said that it lets go, or is gone. */
  async takeFromDying(): Promise<void> {
    const until = performance.now() + DYING_MS_MAX;
    for (;;) {
      try {
        await this.take();
        return;
      } catch (error) {
        if (systemCode(error) !== 'ERR_ALREADY_RUNNING' || performance.now() >= until) throw error;
        await new Promise((resolve) => setTimeout(resolve, DYING_POLL_MS));
      }
    }
  }

  /** Whether the control socket could be made. @throws ControlError. */
  checkControl(): Promise<void> {
    return this.#control.check();
  }

  /** Frees both. Safe to call twice. */
  async release(): Promise<void> {
    await this.#control.close();
    const lock = this.#lock;
    this.#lock = null;
    await lock?.release();
  }
}
