import { readFileSync } from 'node:fs';
import type { JoinGroup } from '@dmlog/cluster';
import type { DaemonConfig } from '../config/schema.js';
import type { Logger } from '../logging.js';
import type { LateReply } from '../served.js';
import type { RuntimeState } from '../state/runtime-state.js';
import { ClusteredLogs } from './clustered-logs.js';
import { type Dmsetup, dmsetup } from './dmsetup.js';
import { latePairs } from './late-pairs.js';
import { Reloader } from './reloader.js';

/** How long the start waits for a corosync that does not answer, before it takes another daemon's place all the same. */
const PREPARE_MS_MAX = 1000;

const BOOT_ID = '/proc/sys/kernel/random/boot_id';

/** How a daemon reaches the groups of its clustered logs. */
export interface ClusterAccess {
  readonly joinGroup: JoinGroup;
  /** Rejects with an error that says what to do where no group can be joined at the moment. */
  readonly check: () => Promise<void>;
  /** Default: this boot's. 32 hexadecimal digits. */
  readonly bootId?: string;
  /** Default: the program. */
  readonly dmsetup?: Dmsetup;
}

/** What clustered logs use of their daemon. */
export interface ClusterDaemon {
  readonly config: DaemonConfig;
  readonly logger: Logger;
  readonly allocateImage: (bytes: number) => Uint8Array;
  /** What outlives this process; null: nothing does. */
  readonly state: RuntimeState | null;
  readonly reply: LateReply;
  /** Asks for the repetition of a request that was left unanswered. */
  readonly again: (seq: number, port: number) => void;
  readonly send: (bytes: Uint8Array, port: number) => void;
  readonly onTickNeeded: () => void;
}

/** What serves the clustered logs of a daemon. */
export interface ClusterService {
  readonly logs: ClusteredLogs;
  readonly check: () => Promise<void>;
  /** Reaches for corosync before its groups are needed, so that what is slow at the first time is done. Waits for a second at most, and never rejects. */
  prepare(): Promise<void>;
  /** No reload begins any more. The logs are closed one by one. */
  close(): void;
  /** The same, and resolves when this process is out of all groups, for those as by its death. For who has paused all logs. */
  leave(): Promise<void>;
}

export function openCluster(access: ClusterAccess, daemon: ClusterDaemon): ClusterService {
  const { config, logger, allocateImage, state, reply, again, send, onTickNeeded } = daemon;
  const reloader = config.cluster.reload === 'off' ? null : new Reloader(access.dmsetup ?? dmsetup, logger);
  const logs = new ClusteredLogs({
    joinGroup: access.joinGroup,
    bootId: access.bootId ?? readFileSync(BOOT_ID, 'latin1').trim().replaceAll('-', ''),
    lazyClear: config.lazyClear,
    allocateImage,
    state,
    reply,
    again,
    replyPair: latePairs(send),
    onTickNeeded,
    onReloadNeeded: (host) => reloader?.want(host),
    logger,
  });
  const close = () => reloader?.close();
  return {
    logs,
    check: access.check,
    prepare: async () => {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, PREPARE_MS_MAX);
      });
      await Promise.race([access.check().catch(() => undefined), late]);
      clearTimeout(timer);
    },
    close,
    leave: () => {
      close();
      return logs.leave();
    },
  };
}
