/** ECONNREFUSED, asm-generic/errno.h: what the kernel's user reads when a clustered log cannot be made for lack of a cluster. */
const ECONNREFUSED = 111;

/** A group that is never joined: to open it shows whether corosync runs and lets this process in. */
const NO_GROUP = 'dmlog';

/** Rejects with an error that has a positive `errno` and says what to do where corosync cannot be reached. The binding is loaded here, at the first need. */
export async function checkCorosync(): Promise<void> {
  try {
    const { openCpg } = await import('corosync-cpg-napi');
    const group = await openCpg({ group: NO_GROUP, handlers: { deliver() {}, died() {} } });
    const { hasQuorum } = group;
    await group.close();
    if (!hasQuorum) {
      throw new Error('corosync has no quorum provider: configure corosync_votequorum, see corosync.conf(5)');
    }
  } catch (cause) {
    const what = cause instanceof Error ? cause.message : String(cause);
    throw Object.assign(new Error(`clustered logs need corosync: ${what}`, { cause }), {
      errno: ECONNREFUSED,
    });
  }
}
