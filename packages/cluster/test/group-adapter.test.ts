import type { CpgBinding } from 'corosync-cpg-napi';
import { describe, expect, it } from 'vitest';
import { corosyncGroup } from '../src/group/index.js';
import { Recorder } from './group-recorder.js';

const { handlers } = new Recorder(() => {});

/** An addon whose corosync opens, and has no quorum provider: the control block stays zero. Signals: 0 a job's result, 3 closed; 1 is CS_OK. */
function withoutProvider(): CpgBinding {
  let signal: (kind: number, job: number, csError: number, text: string) => void = () => {};
  return {
    create: (...parameters) => {
      signal = parameters[7];
      return {};
    },
    run: (_handle, job) => {
      queueMicrotask(() => signal(0, job, 1, ''));
      return true;
    },
    send: () => 0,
    close: () => queueMicrotask(() => signal(3, 0, 0, '')),
    release: () => {},
  };
}

describe('corosyncGroup', () => {
  it('says what to install where there is no corosync', async () => {
    const join = corosyncGroup({ libraries: { cpg: 'libcpg-that-is-not-there.so' } });
    await expect(join('g', handlers)).rejects.toThrow(/libraries are missing: apt-get install/);
  });

  it('refuses a corosync without a quorum provider, and says what to write where', async () => {
    const join = corosyncGroup({ binding: withoutProvider() });
    await expect(join('g', handlers)).rejects.toThrow('provider: corosync_votequorum');
  });

  it('checks the name before it loads anything', async () => {
    await expect(corosyncGroup()('', handlers)).rejects.toThrow(RangeError);
  });
});
