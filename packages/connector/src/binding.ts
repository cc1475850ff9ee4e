import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ConnectorError } from './errors.js';

/** A socket inside the addon. Opaque. */
export type NativeHandle = object & { readonly unit?: 'NativeHandle' };

/** What Node does not offer a daemon in the I/O path: see native/process.c. Functions return 0 or an errno where nothing else is said. */
export interface ProcessBinding {
  /** One datagram to a service manager: sd_notify(3). `address` as in NOTIFY_SOCKET; `descriptor` goes with it unless it is -1. Never waits: EAGAIN. */
  notify(address: string, text: string, descriptor: number): number;
  /** 1, 0 or a negative errno: PR_GET_IO_FLUSHER, prctl(2). */
  isIoFlusher(): number;
  /** PR_SET_IO_FLUSHER: of this thread, of those that it makes, and of the program that it executes. Needs CAP_SYS_RESOURCE. */
  becomeIoFlusher(): number;
  /** mlock2(2) with MLOCK_ONFAULT of the addresses from `start` to `end`. */
  lockMapping(start: number, end: number): number;
  /** flock(2), exclusive and without waiting: EWOULDBLOCK (EAGAIN) where another opening of the file holds it. */
  lockFile(descriptor: number): number;
  /** execve(2): returns only where it fails. Descriptors below `descriptors` stay open. */
  execute(file: string, argv: readonly string[], environment: readonly string[], descriptors: number): number;
}

/** The whole native surface. Tests may inject another one. */
export interface ConnectorBinding extends ProcessBinding {
  /**
   * Opens, sizes, binds and joins a socket; throws an Error whose `code` is an errno name. `onBatch` is called once per
   * batch with the slots described in `control`, `onFault` for faults (kind 0 overrun, 1 send, 2 socket). Neither may throw.
   */
  open(
    arena: ArrayBuffer,
    control: ArrayBuffer,
    group: number,
    receiveBufferBytes: number,
    acceptUserRequests: boolean,
    pollNs: number,
    onBatch: () => void,
    onFault: (kind: number, errno: number, count: number) => void,
    /** An open connector socket to use instead of opening one. The caller's again where this throws. */
    adopt?: number,
  ): NativeHandle;
  start(handle: NativeHandle): void;
  /** Reads nothing more until `start` is called again. */
  pause(handle: NativeHandle): void;
  /** The socket's descriptor, which stays the addon's; -1 for a closed one. */
  descriptor(handle: NativeHandle): number;
  /** Returns 0 or an errno; counts either. */
  send(handle: NativeHandle, bytes: Uint8Array, port: number): number;
  close(handle: NativeHandle): void;
  /** CPUs this thread may run on (sched_getaffinity). */
  availableCpus(): number;
}

const ADDON = 'dmlog_connector.node';

/**
 * Loads the addon: the shipped binary of this architecture, which serves glibc and musl, else a build of one's own (`node native/build.mjs`).
 * Throws ERR_CONNECTOR_BINDING, which says what was tried and why it failed.
 *
 * @param root Directory that holds `prebuilds` and `build`. Default: this package's own (src/ and dist/ stand directly
 *   below it). An application that bundles this package gives its own.
 */
export function loadBinding(root = dirname(dirname(fileURLToPath(import.meta.url)))): ConnectorBinding {
  if (process.platform !== 'linux') {
    throw new ConnectorError(
      'ERR_CONNECTOR_BINDING',
      `the kernel connector is Linux only, not ${process.platform}`,
    );
  }
  const require = createRequire(import.meta.url);
  const candidates = [
    join(root, 'prebuilds', `linux-${process.arch}`, ADDON),
    join(root, 'build', 'Release', ADDON),
  ];
  const failures: string[] = [];
  for (const path of candidates) {
    try {
      return require(path) as ConnectorBinding;
    } catch (cause) {
      failures.push(cause instanceof Error ? (cause.message.split('\n')[0] as string) : String(cause));
    }
  }
  throw new ConnectorError(
    'ERR_CONNECTOR_BINDING',
    `no addon for linux-${process.arch}: ${failures.join('; ')}. Build it: node ${join(root, 'native', 'build.mjs')}`,
  );
}
