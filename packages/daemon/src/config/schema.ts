import { POLL_MICROSECONDS_MAX, RECEIVE_BUFFER_BYTES } from '@dmlog/connector';
import { z } from 'zod';
import { parseHttpAddress } from '../http/address.js';
import { LOG_LEVELS, type LogLevel } from '../logging.js';

/** Everything a daemon can be told. Made by `loadConfig`; complete and checked. */
export interface DaemonConfig {
  /** Directory for state that a restarted daemon finds again; on a tmpfs. Absolute. */
  readonly runtimeDir: string;
  /** Path of the control socket. Absolute. */
  readonly controlSocket: string;
  readonly logLevel: LogLevel;
  /** Where the status page and the metrics are served: `127.0.0.1:9644`, or the path of a unix socket. Absent: nowhere. */
  readonly http?: string;
  /** How long to look for the next request after one was served, in microseconds; 0 is off. Absent: the transport decides by the CPUs. */
  readonly pollMicroseconds?: number;
  /** Receive buffer to force, in bytes. Default {@link RECEIVE_BUFFER_BYTES}. */
  readonly receiveBufferBytes: number;
  readonly lazyClear: LazyClearConfig;
  /** Of clusterd only. */
  readonly cluster: ClusterConfig;
  /** `auto` takes the batch transport where its native part loads, else the `netlink` package. */
  readonly transport: TransportChoice;
  /** Serve requests of user processes too: tests. Any local user with a netlink socket could then rewrite every log. */
  readonly unsafeAcceptUserRequests: boolean;
}

export interface LazyClearConfig {
  /** How long a cleared region stays dirty, in milliseconds; 0 is off. */
  readonly milliseconds: number;
  /** Regions per log that may wait so at once. */
  readonly regionsMax: number;
}

export interface ClusterConfig {
  /**
   * Whether this node's mirrors are suspended and resumed where the group waits for it: after a node died, its regions are not resynced before. `off`: an operator
   * does that.
   */
  readonly reload: ClusterReload;
}

export const CLUSTER_RELOAD_CHOICES = ['dmsetup', 'off'] as const;
export type ClusterReload = (typeof CLUSTER_RELOAD_CHOICES)[number];
export const CLUSTER_RELOAD_DEFAULT: ClusterReload = 'dmsetup';

export const TRANSPORT_CHOICES = ['auto', 'batch', 'netlink'] as const;
export type TransportChoice = (typeof TRANSPORT_CHOICES)[number];

export const RUNTIME_DIR = '/run/dmlog';
/** The kernel sends its own clears-only flush after 3 s (dm-log-userspace-base.c, `queue_delayed_work(…, 3 * HZ)`): as long as that. */
export const LAZY_CLEAR_MS_DEFAULT = 3000;
export const LAZY_CLEAR_REGIONS_DEFAULT = 65_536;

const absolutePath = z.string().regex(/^\/[^\0]*$/, 'must be an absolute path');

/** Keys of the file; all optional. Bounds are for mistakes, not for taste. */
export const FileSchema = z.strictObject({
  runtimeDir: absolutePath.optional(),
  controlSocket: absolutePath.optional(),
  logLevel: z.enum(LOG_LEVELS).optional(),
  http: z
    .string()
    .refine((text) => parseHttpAddress(text) !== null, {
      error: 'must be a loopback address with a port (127.0.0.1:9644), or the absolute path of a unix socket',
    })
    .optional(),
  pollMicroseconds: z.number().int().min(0).max(POLL_MICROSECONDS_MAX).optional(),
  // The kernel takes an int and doubles it (net/core/sock.c, __sock_set_rcvbuf: at most INT_MAX / 2).
  receiveBufferBytes: z.number().int().min(65_536).max(1_073_741_823).optional(),
  lazyClear: z
    .strictObject({
      // One hour.
      milliseconds: z.number().int().min(0).max(3_600_000).optional(),
      regionsMax: z.number().int().min(1).max(16_777_216).optional(),
    })
    .optional(),
  cluster: z.strictObject({ reload: z.enum(CLUSTER_RELOAD_CHOICES).optional() }).optional(),
  transport: z.enum(TRANSPORT_CHOICES).optional(),
});
export type FileConfig = z.infer<typeof FileSchema>;

/** The command line's: the file's keys flattened, and what only the command line may say. */
export const FlagSchema = z.strictObject({
  runtimeDir: FileSchema.shape.runtimeDir,
  controlSocket: FileSchema.shape.controlSocket,
  logLevel: FileSchema.shape.logLevel,
  http: FileSchema.shape.http,
  pollMicroseconds: FileSchema.shape.pollMicroseconds,
  transport: FileSchema.shape.transport,
  lazyClearMs: z.number().int().min(0).max(3_600_000).optional(),
  unsafeAcceptUserRequests: z.boolean().optional(),
});
export type Flags = z.infer<typeof FlagSchema>;
