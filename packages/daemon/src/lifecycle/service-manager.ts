import { constants } from 'node:os';
import { loadBinding, type ProcessBinding } from '@dmlog/connector';
import type { Logger } from '../logging.js';

/** Of the connector socket in the service manager's descriptor store. */
export const STORED_NAME = 'connector';
/** The first descriptor that a service manager passes: SD_LISTEN_FDS_START, sd_listen_fds(3). */
const LISTEN_FDS_START = 3;
/** A queue that is full is tried again so often; the manager reads it in between. */
const NOTIFY_TRIES_MAX = 50;
const NOTIFY_AGAIN_MS = 20;

/**
 * What a daemon tells the service manager that started it: sd_notify(3). Where there is none (no NOTIFY_SOCKET) nothing is said, and where the manager
 * does not listen the daemon serves all the same.
 */
export class ServiceManager {
  /** The connector socket that the process before this one left with the manager; null where there is none. */
  readonly storedDescriptor: number | null;
  readonly #address: string | null;
  readonly #watchdogMs: number | null;
  readonly #notify: ProcessBinding['notify'] | null;
  readonly #logger: Logger;
  #watchdog: NodeJS.Timeout | null = null;

  /** `notify` null: the addon does not load. Takes its words out of `environment`: they are not for what this process starts. */
  constructor(
    notify: ProcessBinding['notify'] | null,
    logger: Logger,
    environment: NodeJS.ProcessEnv = process.env,
    pid: number = process.pid,
  ) {
    const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = environment;
    this.#notify = notify;
    this.#logger = logger;
    this.#address = NOTIFY_SOCKET === undefined || NOTIFY_SOCKET === '' ? null : NOTIFY_SOCKET;
    const watchdogMs = Number(WATCHDOG_USEC) / 1000;
    const ours = WATCHDOG_PID === undefined || WATCHDOG_PID === String(pid);
    this.#watchdogMs = ours && watchdogMs > 0 ? watchdogMs : null;
    this.storedDescriptor = storedDescriptor(environment, pid);
    if (this.#address !== null && notify === null) {
      logger.error(
        'the service manager cannot be told anything, for the addon of @dmlog/connector does not load: it will take this daemon for one that does not start; build the addon, or set Type=exec',
      );
    }
  }

  /** Requests are answered from now on. Also gives the manager the socket to keep (again is once), and starts to feed its watchdog. */
  async ready(descriptor: number | null): Promise<void> {
    if (descriptor !== null) {
      // Without FDPOLL=0 it would drop a socket whose buffer overflowed once: to epoll that is an error.
      await this.#tell(`FDSTORE=1\nFDNAME=${STORED_NAME}\nFDPOLL=0`, descriptor);
    }
    await this.#tell(`READY=1\nMAINPID=${process.pid}\nSTATUS=answering the kernel`);
    if (this.#watchdogMs === null || this.#watchdog !== null) return;
    // From the event loop: it is this that must not hang. Half the time, as sd_watchdog_enabled(3) recommends.
    this.#watchdog = setInterval(() => void this.#tell('WATCHDOG=1'), this.#watchdogMs / 2);
    this.#watchdog.unref();
  }

  /** The stored socket is of no use any more. */
  forgetDescriptor(): Promise<void> {
    return this.#tell(`FDSTOREREMOVE=1\nFDNAME=${STORED_NAME}`);
  }

  /** Another process is the service from now on: its end counts, not this one's. */
  handedTo(pid: number): Promise<void> {
    this.#stopWatchdog();
    return this.#tell(`MAINPID=${pid}`);
  }

  stopping(status: string): Promise<void> {
    this.#stopWatchdog();
    return this.#tell(`STOPPING=1\nSTATUS=${status}`);
  }

  #stopWatchdog(): void {
    if (this.#watchdog !== null) clearInterval(this.#watchdog);
    this.#watchdog = null;
  }

  async #tell(text: string, descriptor = -1): Promise<void> {
    if (this.#address === null || this.#notify === null) return;
    let errno = 0;
    for (let attempt = 0; attempt < NOTIFY_TRIES_MAX; attempt++) {
      errno = this.#notify(this.#address, text, descriptor);
      if (errno !== constants.errno.EAGAIN) break;
      await new Promise((resolve) => setTimeout(resolve, NOTIFY_AGAIN_MS));
    }
    if (errno !== 0) this.#logger.warn({ errno, text }, 'the service manager does not listen');
  }
}

export function openServiceManager(logger: Logger): ServiceManager {
  let notify: ProcessBinding['notify'] | null = null;
  try {
    notify = loadBinding().notify;
  } catch {
    // Said by the constructor, where it matters.
  }
  return new ServiceManager(notify, logger);
}

/** sd_listen_fds_with_names(3), for the one name that we know. */
function storedDescriptor(environment: NodeJS.ProcessEnv, pid: number): number | null {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = environment;
  for (const name of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete environment[name];
  if (LISTEN_PID !== String(pid) || LISTEN_FDNAMES === undefined) return null;
  const index = LISTEN_FDNAMES.split(':').indexOf(STORED_NAME);
  return index < 0 || index >= Number(LISTEN_FDS) ? null : LISTEN_FDS_START + index;
}
