import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { decodeReply, decodeRequest, parseTrace, RequestType as R, requestTypeName } from '@dmlog/protocol';
import { describe, expect, it } from 'vitest';
import { errnoOf, Kernel, MemoryDevice } from './kernel.js';

/**
 * A real kernel's requests, from recordings, answered by the whole daemon. What the kernel would have to accept is compared with what it accepted from the
 * recording's daemon: the error, the size of the answer, and the answer itself where only one is right.
 */
const DETERMINED = new Set<number>([
  R.GET_REGION_SIZE,
  R.GET_RESYNC_WORK,
  R.GET_SYNC_COUNT,
  R.IN_SYNC,
  R.STATUS_INFO,
]);

function recording(name: string) {
  const path = fileURLToPath(new URL(`../../protocol/test/fixtures/${name}.jsonl`, import.meta.url));
  const { records } = parseTrace(readFileSync(path, 'utf8'));
  const accepted = new Map(
    records.filter((r) => r.dir === 'to-kernel').map((r) => [decodeReply(r.frame).seq, decodeReply(r.frame)]),
  );
  return { requests: records.filter((r) => r.dir === 'from-kernel').map((r) => r.frame), accepted };
}

describe('a recorded kernel is kept content', () => {
  it.each([
    ['core-resync-write', {}],
    ['core-nosync-integrated-flush', {}],
    ['table-exchange', {}],
    ['resync-with-writes', {}],
    ['disk-device-returned', { '/dev/ram4': new MemoryDevice(64, '1:4', '/dev/ram4') }],
  ])('%s', async (name, devices) => {
    const { requests, accepted } = recording(name);
    const kernel = await Kernel.start(devices);
    let compared = 0;
    for (const frame of requests) {
      const request = decodeRequest(frame);
      kernel.deliver(frame);
      const ours = await kernel.settled(request.seq);
      const theirs = accepted.get(request.seq);
      const what = `${requestTypeName(request.type)} seq ${request.seq}`;
      expect(errnoOf(ours), what).toBe(0);
      if (theirs?.kind !== 'full' || theirs.error !== 0) continue;
      const theirData = theirs.data;
      const ourData = ours?.kind === 'full' ? ours.data : new Uint8Array(0);
      if (request.type === R.STATUS_INFO || request.type === R.CTR) {
        expect(words(ourData), what).toBe(words(theirData));
      } else {
        expect(ourData.byteLength, what).toBe(theirData.byteLength);
        if (DETERMINED.has(request.type)) expect([...ourData], what).toEqual([...theirData]);
      }
      compared++;
    }
    expect(compared).toBeGreaterThan(30);
  });
});

/** Text without its end: one daemon sends a NUL after it, another does not. */
function words(data: Uint8Array): string {
  return new TextDecoder().decode(data).replace(/\0+$/, '').trim();
}
