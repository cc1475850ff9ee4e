import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { CONNECTOR_GROUP } from './transport.js';

/**
 * The netlink sockets of this process's network namespace. By way of `self`: systemd's ProcSubset=pid hides the rest of /proc.
 *
 * Columns, net/netlink/af_netlink.c (netlink_native_seq_show); numbers are decimal but Groups:
 * `sk | Eth (the protocol) | Pid (the port) | Groups | Rmem | Wmem | Dump | Locks | Drops | Inode`
 */
const TABLE = '/proc/self/net/netlink';
const COLUMN = { protocol: 1, port: 2, groups: 3, drops: 8, inode: 9 } as const;
/** NETLINK_CONNECTOR, include/uapi/linux/netlink.h. */
const CONNECTOR_PROTOCOL = 11;
const DESCRIPTORS = '/proc/self/fd';

/** A netlink socket of this process. */
export interface OwnSocket {
  readonly descriptor: number;
  /** In sockfs; names the socket in the table for as long as it is open. */
  readonly inode: string;
}

/** Finds an open socket of this process by its protocol and port. Throws where /proc does not show it. */
export function findOwnSocket(protocol: number, port: number): OwnSocket {
  const row = rows().find(
    (columns) => columns[COLUMN.protocol] === `${protocol}` && columns[COLUMN.port] === `${port}`,
  );
  const inode = row?.[COLUMN.inode];
  if (inode === undefined) throw new Error(`${TABLE} does not list port ${port}`);
  const descriptor = readdirSync(DESCRIPTORS).find((name) => targetOf(name) === `socket:[${inode}]`);
  if (descriptor === undefined) throw new Error(`${DESCRIPTORS} does not list socket ${inode}`);
  return { descriptor: Number(descriptor), inode };
}

/** A socket of any process that hears what the kernel asks. */
export interface ConnectorListener {
  /** Mostly the id of the process that opened it; a process chooses. */
  readonly port: number;
  /** In sockfs: `/proc/<pid>/fd` of the processes that have it leads to `socket:[<inode>]`. */
  readonly inode: string;
}

/** Who listens on the connector group of dm-log-userspace in this network namespace. Throws where the table cannot be read. */
export function connectorListeners(table: string = TABLE): ConnectorListener[] {
  return rows(table).flatMap((columns) => {
    const groups = Number.parseInt(columns[COLUMN.groups] ?? '', 16);
    if (
      columns[COLUMN.protocol] !== `${CONNECTOR_PROTOCOL}` ||
      ((groups >>> (CONNECTOR_GROUP - 1)) & 1) === 0
    ) {
      return [];
    }
    return [{ port: Number(columns[COLUMN.port]), inode: columns[COLUMN.inode] as string }];
  });
}

/** Counts the datagrams that found a socket's receive buffer full. One read of the table, some 50 microseconds, per call. */
export class DropCounter {
  readonly #inode: string;
  #seen: number;

  /** From now on. Inodes are used again: count only while the socket is open. */
  constructor(inode: string) {
    this.#inode = inode;
    this.#seen = this.#read() ?? 0;
  }

  /** How many since the last call. 0 where the table cannot be read: what was missed then comes with the next call. */
  take(): number {
    const drops = this.#read();
    if (drops === undefined) return 0;
    const more = (drops - this.#seen) >>> 0; // a 32-bit counter, printed as signed by older kernels
    this.#seen = drops;
    return more;
  }

  #read(): number | undefined {
    try {
      const drops = rows().find((columns) => columns[COLUMN.inode] === this.#inode)?.[COLUMN.drops];
      return drops === undefined ? undefined : Number(drops);
    } catch {
      return undefined;
    }
  }
}

function rows(table: string = TABLE): string[][] {
  const lines = readFileSync(table, 'latin1').split('\n');
  return lines.map((line) => line.trim().split(/\s+/));
}

/** What a descriptor refers to; undefined for one that was closed since it was listed. */
function targetOf(descriptor: string): string | undefined {
  try {
    return readlinkSync(`${DESCRIPTORS}/${descriptor}`);
  } catch {
    return undefined;
  }
}
