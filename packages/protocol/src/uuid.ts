/** A uuid made ready to be compared with those of requests, see `FrameView.uuidEquals`. */
export interface UuidKey {
  /** Without NUL. */
  readonly bytes: Uint8Array;
  /** The whole words of `bytes`, little endian; what is left over is compared by bytes. */
  readonly words: Uint32Array;
}

/** Copies `uuid` (one byte per character, without NUL). */
export function uuidKey(uuid: Uint8Array): UuidKey {
  const bytes = uuid.slice();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const words = Uint32Array.from({ length: bytes.length >>> 2 }, (_, i) => view.getUint32(4 * i, true));
  return { bytes, words };
}
