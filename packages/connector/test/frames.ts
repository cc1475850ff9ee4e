import { randomInt } from 'node:crypto';

/**
 * Test frames: zeros where a netlink header would be (the kernel's connector, which sees multicasts too, drops such frames),
 * then a tag of this test run at byte 36 and a number at byte 40. Other processes may use the same multicast group: handlers
 * under test leave alone what is not theirs.
 */
export const FRAME_BYTES = 204;
const TAG_AT = 36;
const NUMBER_AT = 40;

export const TAG = randomInt(1, 2 ** 32);

export function frame(number: number, size = FRAME_BYTES): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint32(TAG_AT, TAG, true);
  view.setUint32(NUMBER_AT, number, true);
  for (let at = NUMBER_AT + 4; at < size; at++) bytes[at] = (number + at) & 0xff;
  return bytes;
}

export function isOwn(bytes: Uint8Array): boolean {
  return bytes.length >= NUMBER_AT + 4 && word(bytes, TAG_AT) === TAG;
}

export function numberOf(bytes: Uint8Array): number {
  return word(bytes, NUMBER_AT);
}

function word(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(at, true);
}
