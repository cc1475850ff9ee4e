import { encodeRequestInto, REGIONS_PER_REQUEST_MAX, type Request } from '@dmlog/protocol';
import { traces } from './fixtures.js';

export const DATAGRAM_BYTES_MAX = 1024;

export function request(fields: Partial<Request> = {}): Request {
  const uuid = 'LVM-kq3sT0fVt4jdVrD0PzZTw1xJmQkVq8uC';
  return { type: 8, version: 3, seq: 1, luid: { low: 1, high: 2 }, uuid, data: new Uint8Array(8), ...fields };
}

export function frameOf(fields: Partial<Request> = {}): Uint8Array {
  const target = new Uint8Array(DATAGRAM_BYTES_MAX);
  return target.slice(0, encodeRequestInto(target, 0, request(fields)));
}

/** A sound payload size for each request type, by type number. */
export function dataSizeOf(type: number): number {
  if (type === 1) return 22;
  if (type === 13) return 16;
  return [7, 8, 10, 11, 17].includes(type) ? 8 : 0;
}

/** One frame of every type and version, the largest lists, and the distinct recorded frames of both directions. */
export function seedFrames(): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (const version of [1, 2, 3]) {
    for (let type = 1; type <= 17; type++) {
      frames.push(frameOf({ type, version, data: new Uint8Array(dataSizeOf(type)).fill(0x31) }));
    }
    for (const type of [9, 10, 11]) {
      frames.push(frameOf({ type, version, data: new Uint8Array(8 * REGIONS_PER_REQUEST_MAX).fill(1) }));
    }
  }
  frames.push(frameOf({ uuid: 'u'.repeat(128) }), frameOf({ uuid: '' }));
  const recorded = new Map<string, Uint8Array>();
  for (const [, { records }] of traces) {
    // One per direction, type and size: the recordings repeat themselves.
    for (const { dir, frame } of records) recorded.set(`${dir} ${frame[188]} ${frame.length}`, frame);
  }
  return [...frames, ...recorded.values()];
}
