/*
 * Little-endian numbers in bytes. Not by DataView: V8 keeps small arrays on its own heap until somebody asks for their buffer, and a view costs more than a message's
 * other parts together.
 */

const U32 = 2 ** 32;

export function getU16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
}

export function setU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

export function getU32(bytes: Uint8Array, at: number): number {
  return (getU16(bytes, at) | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24)) >>> 0;
}

export function setU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

/** Inexact above 2^53, where no position or seq ever comes to. */
export function getU64(bytes: Uint8Array, at: number): number {
  return getU32(bytes, at) + getU32(bytes, at + 4) * U32;
}

/** `value` is an integer below 2^53. */
export function setU64(bytes: Uint8Array, at: number, value: number): void {
  setU32(bytes, at, value >>> 0);
  setU32(bytes, at + 4, Math.floor(value / U32));
}
