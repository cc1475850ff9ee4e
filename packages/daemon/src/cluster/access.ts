import { readFileSync } from 'node:fs';
import type { JoinGroup } from '@dmlog/cluster';
import type { DaemonConfig } from '../config/schema.js';
import type { Logger } from '../logging.js';
import type { LateReply } from '../served.js';
import { ClusteredLogs } from './clustered-logs.js';
import { latePairs } from './late-pairs.js';

const BOOT_ID = '/proc/sys/kernel/random/boot_id';

/** How a daemon reaches the groups of its clustered logs. */
export interface ClusterAccess {
  readonly joinGroup: JoinGroup;
  /** Rejects with an error that says what to do where no group can be joined at the moment. */
  readonly check: () => Promise<void>;
  /** Default: this boot's. 32 hexadecimal digits. */
  readonly bootId?: string;
}

/** What clustered logs use of their daemon. */
export interface ClusterDaemon {
  readonly config: DaemonConfig;
  readonly logger: Logger;
  readonly allocateImage: (bytes: number) => Uint8Array;
  readonly reply: LateReply;
  readonly send: (bytes: Uint8Array, port: number) => void;
  readonly onTickNeeded: () => void;
}

export function openCluster(
  access: ClusterAccess,
  daemon: ClusterDaemon,
): { logs: ClusteredLogs; check: () => Promise<void> } {
  const { config, logger, allocateImage, reply, send, onTickNeeded } = daemon;
  const logs = new ClusteredLogs({
    joinGroup: access.joinGroup,
    bootId: access.bootId ?? readFileSync(BOOT_ID, 'latin1').trim().replaceAll('-', ''),
    lazyClear: config.lazyClear,
    allocateImage,
    reply,
    replyPair: latePairs(send),
    onTickNeeded,
    onReloadNeeded: () => {},
    logger,
  });
  return { logs, check: access.check };
}
