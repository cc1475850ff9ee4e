import { readFileSync } from 'node:fs';
import { describe } from 'vitest';

/** CAP_NET_ADMIN, include/uapi/linux/capability.h: needed to force buffers, to multicast, and on most kernels to join. */
const CAP_NET_ADMIN = 12n;

function hasNetAdmin(): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return ((BigInt(`0x${effective ?? '0'}`) >> CAP_NET_ADMIN) & 1n) === 1n;
}

/** Whether the tests on real sockets can run. Under CI=true they must. */
function socketsUsable(): boolean {
  if (process.platform === 'linux' && hasNetAdmin()) return true;
  const text = 'tests on real sockets need Linux and CAP_NET_ADMIN: run them as root';
  const { CI } = process.env;
  if (CI === 'true') throw new Error(text);
  console.warn(`SKIPPED: ${text}`);
  return false;
}

/** `describe`; skipped loudly without rights, failing there under CI=true. */
export const describeSockets = socketsUsable() ? describe : describe.skip;
