import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import type { RawNetlinkSocket } from 'netlink';
import { ConnectorError, socketError } from './errors.js';
import { unguarded } from './faults.js';
import { DropCounter, findOwnSocket } from './netlink-table.js';
import type { CheckedOptions } from './options.js';
import { CONNECTOR_GROUP, SLOT_BYTES } from './transport.js';

/** NETLINK_CONNECTOR, include/uapi/linux/netlink.h. */
const NETLINK_CONNECTOR = 11;

/** How long an interpreter may take to start and to make two system calls, in milliseconds. */
const GUARD_MS_MAX = 10_000;

/**
 * Options of the socket that is descriptor 3: NETLINK_NO_ENOBUFS (SOL_NETLINK 270, option 5), without which the package dies of an
 * overflow, and SO_RCVBUFFORCE (SOL_SOCKET 1, option 33 on all architectures that the package has binaries for), which takes
 * CAP_NET_ADMIN: without it the size stays as SO_RCVBUF made it, as in the batch transport.
 */
const PERL = `open(my $socket, "+<&=", 3) or die "descriptor 3: $!\\n";
setsockopt($socket, 270, 5, pack("i", 1)) or die "NETLINK_NO_ENOBUFS: $!\\n";
setsockopt($socket, 1, 33, pack("i", $ARGV[0]));`;

const PYTHON = `import socket, sys
connector = socket.socket(fileno=3)
connector.setsockopt(270, 5, 1)
try:
    connector.setsockopt(1, 33, int(sys.argv[1]))
except OSError:
    pass`;

/** Tried in this order. perl is there on every Debian (perl-base is essential), and starts faster. */
const INTERPRETERS: readonly (readonly [command: string, ...args: string[]])[] = [
  ['perl', '-e', PERL],
  ['python3', '-I', '-S', '-c', PYTHON],
];

/** The package's socket, bound and in the connector's group. */
export interface NetlinkSocket {
  readonly socket: RawNetlinkSocket;
  /** What the kernel could not queue; undefined where /proc does not tell. */
  readonly drops: DropCounter | undefined;
  /** Why an overflow of the receive buffer would abort this process; undefined where it would not. */
  readonly unguarded: ConnectorError | undefined;
}

/** Throws ERR_CONNECTOR_BINDING, _PERMISSION or _SOCKET. */
export function openNetlinkSocket(options: CheckedOptions): NetlinkSocket {
  const { RawNetlinkSocket: Socket } = loadPackage();
  let socket: RawNetlinkSocket | undefined;
  try {
    // Without peeking a longer datagram is reported as truncated, and each costs one system call instead of two.
    const raw = {
      messagePeeking: false,
      msgBufferSize: SLOT_BYTES,
      recvBufferSize: options.receiveBufferBytes,
    };
    socket = new Socket(NETLINK_CONNECTOR, { ...raw, sendBufferSize: 0 });
    const guarded = guard(socket.address().port, options.receiveBufferBytes);
    // Only now can something arrive. A group number; the package's `localGroups` is a bit mask.
    socket.addMembership(CONNECTOR_GROUP);
    return { socket, ...guarded };
  } catch (cause) {
    socket?.close();
    throw socketError(cause);
  }
}

/** Loaded on first use: importing `@dmlog/connector` must not fail where the package has no binary. */
function loadPackage(): typeof import('netlink') {
  try {
    return createRequire(import.meta.url)('netlink') as typeof import('netlink');
  } catch (cause) {
    const text = cause instanceof Error ? cause.message : String(cause);
    throw new ConnectorError('ERR_CONNECTOR_BINDING', `the npm package netlink does not load: ${text}`, {
      cause,
    });
  }
}

/**
 * Sets what the package has no way to set: {@link PERL}. Socket options belong to the open socket, not to the descriptor or the
 * process, so a child that inherits the descriptor can set them for us.
 */
function guard(port: number, receiveBufferBytes: number): Omit<NetlinkSocket, 'socket'> {
  let drops: DropCounter | undefined;
  try {
    const own = findOwnSocket(NETLINK_CONNECTOR, port);
    drops = new DropCounter(own.inode);
    setOptions(own.descriptor, receiveBufferBytes);
    return { drops, unguarded: undefined };
  } catch (cause) {
    return { drops, unguarded: unguarded(cause) };
  }
}

/** Throws an error that tells what came of each interpreter. */
function setOptions(descriptor: number, receiveBufferBytes: number): void {
  const { PATH } = process.env;
  const failures: string[] = [];
  for (const [command, ...args] of INTERPRETERS) {
    // Nothing else of the environment: PERL5OPT and the like would run with this process's rights.
    const { error, status, signal, stderr } = spawnSync(command, [...args, `${receiveBufferBytes}`], {
      stdio: ['ignore', 'ignore', 'pipe', descriptor],
      env: { PATH },
      encoding: 'utf8',
      timeout: GUARD_MS_MAX,
      killSignal: 'SIGKILL',
    });
    if (status === 0) return;
    failures.push(`${command}: ${error?.message ?? (stderr.trim() || `ended with ${signal ?? status}`)}`);
  }
  throw new Error(failures.join('; '));
}
