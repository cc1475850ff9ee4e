/** What is used of WebAssembly: TypeScript declares it with the browser's types only. */
declare const WebAssembly: {
  readonly Memory: new (limits: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer };
};

/** A WebAssembly page, WebAssembly core specification, section 4.2.8. */
const WASM_PAGE_BYTES = 65_536;

/** 4 GiB, the most that 32-bit WebAssembly memory may have. A disk image of 2^32-1 regions is 512 MiB and a header. */
export const ALIGNED_BUFFER_BYTES_MAX = WASM_PAGE_BYTES * 65_536;

/** Every start is a multiple of this: the page of x86 and arm64, and the largest logical block of a disk. */
const ALIGNMENT_BYTES = 4096;

/**
 * Small buffers are cut from a shared memory of this size. V8 reserves some 10 GiB of addresses for each memory, whatever its size: with one per
 * log, a process with 39 bits of addresses could serve no more than about 40 disk logs.
 */
const SLAB_BYTES = 1 << 20;

/** Larger ones get a memory of their own: little of a slab is then wasted where one does not fit any more. */
const SLAB_SHARE_BYTES_MAX = SLAB_BYTES >> 2;

/** The memory that small buffers are cut from, and how much of it is given out. A cut is never given out twice, so all of them are zeroed. */
let slab: ArrayBuffer | null = null;
let slabUsedBytes = 0;

/**
 * Zeroed memory whose first byte stands on a page boundary, `bytes` long.
 *
 * O_DIRECT demands that the *memory* of a transfer is aligned (to the logical block, or to the device's dma_alignment), not
 * only its position. Node's own buffers are cut from a pool or come from malloc, 8 or 16 bytes aligned: a direct write from one
 * fails with EINVAL. WebAssembly memory is mapped by V8 in whole pages, so its base is aligned to 4096 at least, without native
 * code. `initial` equals `maximum`: the memory can never grow, so the view can never be detached.
 *
 * Costs: addresses (V8 reserves 8 GiB of them and more per memory, so do not limit RLIMIT_AS) and whole pages, of which the kernel supplies only
 * those that are touched. Buffers up to 256 KiB share a memory of 1 MiB, which the garbage collector frees with the last of them: `buffer` is then
 * larger than the view. One per log, never one per request.
 *
 * @param bytes 1 to {@link ALIGNED_BUFFER_BYTES_MAX}.
 * @throws RangeError for a size outside that, or when V8 cannot reserve the memory.
 */
export function alignedBuffer(bytes: number): Uint8Array<ArrayBuffer> {
  if (!Number.isSafeInteger(bytes) || bytes < 1 || bytes > ALIGNED_BUFFER_BYTES_MAX) {
    throw new RangeError(
      `aligned buffer of ${bytes} bytes: need a whole number from 1 to ${ALIGNED_BUFFER_BYTES_MAX}`,
    );
  }
  if (bytes > SLAB_SHARE_BYTES_MAX) return new Uint8Array(wholeMemory(bytes), 0, bytes);
  if (slab === null || slabUsedBytes + bytes > SLAB_BYTES) {
    slab = wholeMemory(SLAB_BYTES);
    slabUsedBytes = 0;
  }
  const cut = new Uint8Array(slab, slabUsedBytes, bytes);
  slabUsedBytes += Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
  return cut;
}

function wholeMemory(bytes: number): ArrayBuffer {
  const pages = Math.ceil(bytes / WASM_PAGE_BYTES);
  return new WebAssembly.Memory({ initial: pages, maximum: pages }).buffer;
}
