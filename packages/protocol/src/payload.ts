import { REGION_BYTES, REGIONS_PER_REQUEST_MAX, RequestType, VERSION_INTEGRATED_FLUSH } from './constants.js';

/** The payload does not suit the request type. */
export const PAYLOAD_INVALID = -1;

/**
 * Regions in the payload of a request, or {@link PAYLOAD_INVALID} if `dataSize` is wrong for `type`.
 *
 * - MARK_REGION and CLEAR_REGION carry "one or more regions" (dm-log-userspace.h): none is invalid.
 * - FLUSH carries none or more, and only since version 3. Kernels of versions 1 and 2 never send a payload there, so one
 *   has no meaning: it is ignored, as is the payload of all types for which the header defines none.
 * - CTR must carry a string; it is no region, so the count is 0.
 */
export function payloadRegionCount(type: number, version: number, dataSize: number): number {
  switch (type) {
    case RequestType.IN_SYNC:
    case RequestType.IS_CLEAN:
    case RequestType.IS_REMOTE_RECOVERING:
      return dataSize === REGION_BYTES ? 1 : PAYLOAD_INVALID;
    case RequestType.SET_REGION_SYNC:
      return dataSize === 2 * REGION_BYTES ? 1 : PAYLOAD_INVALID;
    case RequestType.MARK_REGION:
    case RequestType.CLEAR_REGION:
      return dataSize === 0 ? PAYLOAD_INVALID : regionListCount(dataSize);
    case RequestType.FLUSH:
      return version >= VERSION_INTEGRATED_FLUSH ? regionListCount(dataSize) : 0;
    case RequestType.CTR:
      return dataSize === 0 ? PAYLOAD_INVALID : 0;
    default:
      return 0;
  }
}

function regionListCount(dataSize: number): number {
  if ((dataSize & (REGION_BYTES - 1)) !== 0) return PAYLOAD_INVALID;
  const count = dataSize / REGION_BYTES;
  return count <= REGIONS_PER_REQUEST_MAX ? count : PAYLOAD_INVALID;
}

/** Bytes of data in a successful reply to `type`: 0, 8 or 16. Texts (CTR, STATUS_*) have no fixed size and count as 0. */
export function replyBytesOf(type: number): number {
  switch (type) {
    case RequestType.GET_REGION_SIZE:
    case RequestType.IS_CLEAN:
    case RequestType.IN_SYNC:
    case RequestType.GET_SYNC_COUNT:
      return 8;
    case RequestType.GET_RESYNC_WORK:
    case RequestType.IS_REMOTE_RECOVERING:
      return 16;
    default:
      return 0;
  }
}

/**
 * Room for the text of a status, in an error reply to STATUS_INFO or STATUS_TABLE: `3 clustered-disk 4095:1048575 A` has 32 bytes. The kernel has several
 * KiB (what is left of the status buffer).
 */
const STATUS_ROOM_BYTES = 64;

/**
 * Bytes of data in an error reply to `type`: what a repeated answer will need. The kernel takes the data_size of a reply as the room it has from then on
 * (`fill_pkg`). A reconnecting CTR has no room at all, so texts of CTR count as 0 here too.
 */
export function errorReplyBytesOf(type: number): number {
  if (type === RequestType.STATUS_INFO || type === RequestType.STATUS_TABLE) return STATUS_ROOM_BYTES;
  return replyBytesOf(type);
}
