/**
 * Layout and limits of a dm-log-userspace frame: `nlmsghdr` + `cn_msg` + `dm_ulog_request` + data, in one netlink datagram.
 *
 * Sources: include/uapi/linux/{netlink,connector,dm-log-userspace,dm-ioctl}.h and drivers/md/dm-log-userspace-transfer.c,
 * Linux 6.1. Integers are in host byte order, which this package takes to be little endian (x86, arm64, riscv64).
 *
 * |  at | size | field        | note                                                                        |
 * |----:|-----:|--------------|-----------------------------------------------------------------------------|
 * |   0 |    4 | nlmsg_len    | 196 + data_size; the datagram itself is padded to 4                          |
 * |   4 |    2 | nlmsg_type   | 3, NLMSG_DONE                                                                |
 * |   6 |    2 | nlmsg_flags  | 0                                                                            |
 * |   8 |    4 | nlmsg_seq    | the request's seq; 0 in our replies                                          |
 * |  12 |    4 | nlmsg_pid    | 0                                                                            |
 * |  16 |    4 | cn id.idx    | 7, CN_IDX_DM                                                                 |
 * |  20 |    4 | cn id.val    | 1, CN_VAL_DM_USERSPACE_LOG                                                   |
 * |  24 |    4 | cn seq       | the request's seq; in an ack: the seq that is acknowledged; 0 in a full reply |
 * |  28 |    4 | cn ack       | 0; in an ack: a positive errno, or 0 for success                             |
 * |  32 |    2 | cn len       | 160 + data_size; 0 in an ack                                                 |
 * |  34 |    2 | cn flags     | 0                                                                            |
 * |  36 |    8 | luid         | u64, a kernel pointer used as an id: never a double                          |
 * |  44 |  129 | uuid         | char[], NUL-terminated, at most 128 characters                               |
 * | 173 |    3 | padding      | zero                                                                         |
 * | 176 |    4 | version      | 1..3                                                                         |
 * | 180 |    4 | error        | s32; in a reply 0 or a negative errno                                        |
 * | 184 |    4 | seq          | u32; per kernel, wraps                                                       |
 * | 188 |    4 | request_type | low 8 bits are the type (DM_ULOG_REQUEST_MASK), the others are reserved       |
 * | 192 |    4 | data_size    | bytes of data                                                                |
 * | 196 |    … | data         |                                                                              |
 */

/** `struct nlmsghdr`. */
export const NLMSG_HEADER_BYTES = 16;
/** `struct cn_msg` without data. */
export const CN_MSG_BYTES = 20;
/** `struct dm_ulog_request` without data. */
export const ULOG_HEADER_BYTES = 160;
/** The ack form of a reply: netlink header and an empty connector message. */
export const ACK_BYTES = NLMSG_HEADER_BYTES + CN_MSG_BYTES;
/** All three headers: the shortest request, and the shortest full reply. */
export const FRAME_HEADER_BYTES = ACK_BYTES + ULOG_HEADER_BYTES;
/** Where data begins in a frame. */
export const DATA_OFFSET = FRAME_HEADER_BYTES;

export const NLMSG_LEN_OFFSET = 0;
/** u16 type, u16 flags. */
export const NLMSG_TYPE_OFFSET = 4;
export const NLMSG_SEQ_OFFSET = 8;
export const NLMSG_PID_OFFSET = 12;
export const CN_IDX_OFFSET = 16;
export const CN_VAL_OFFSET = 20;
export const CN_SEQ_OFFSET = 24;
export const CN_ACK_OFFSET = 28;
/** u16 len, u16 flags. */
export const CN_LEN_OFFSET = 32;
export const LUID_OFFSET = 36;
export const UUID_OFFSET = 44;
export const VERSION_OFFSET = 176;
export const ERROR_OFFSET = 180;
export const SEQ_OFFSET = 184;
export const REQUEST_TYPE_OFFSET = 188;
export const DATA_SIZE_OFFSET = 192;

/** NLMSG_DONE: `cn_netlink_send_mult()` sends every connector message so. */
export const NLMSG_DONE = 3;
/** CN_IDX_DM, include/uapi/linux/connector.h. */
export const CN_IDX_DM = 7;
/** CN_VAL_DM_USERSPACE_LOG, include/uapi/linux/connector.h. */
export const CN_VAL_DM_USERSPACE_LOG = 1;
/** DM_ULOG_REQUEST_MASK. */
export const REQUEST_TYPE_MASK = 0xff;

/** Oldest and newest DM_ULOG_REQUEST_VERSION understood. */
export const VERSION_MIN = 1;
export const VERSION_MAX = 3;
/** From this version on a CTR reply may name a log device. Older kernels offer no room for one. */
export const VERSION_DEVICE_NAME = 2;
/** From this version on FLUSH may carry regions to mark (`integrated_flush`). */
export const VERSION_INTEGRATED_FLUSH = 3;

/** Characters of a uuid without its NUL: DM_UUID_LEN − 1, include/uapi/linux/dm-ioctl.h. */
export const UUID_BYTES_MAX = 128;
/** Bytes of the name in a CTR reply, NUL included: DM_NAME_LEN, include/uapi/linux/dm-ioctl.h. */
export const DEVICE_NAME_BYTES_MAX = 128;

/** The buffer from which the kernel sends `cn_msg` and all that follows: DM_ULOG_PREALLOCED_SIZE, dm-log-userspace-transfer.c. */
export const KERNEL_BUFFER_BYTES = 512;
/** The longest frame of a kernel. The netlink header is *not* part of the kernel's 512-byte buffer. */
export const KERNEL_FRAME_BYTES_MAX = NLMSG_HEADER_BYTES + KERNEL_BUFFER_BYTES;
/** Bytes of data in a request: 332. */
export const REQUEST_DATA_BYTES_MAX = KERNEL_FRAME_BYTES_MAX - FRAME_HEADER_BYTES;
/** Bytes of one region number, a u64. */
export const REGION_BYTES = 8;
/** Regions in one MARK, CLEAR or FLUSH: 41. Kernels send at most 32 (MAX_FLUSH_GROUP_COUNT, dm-log-userspace-base.c). */
export const REGIONS_PER_REQUEST_MAX = Math.floor(REQUEST_DATA_BYTES_MAX / REGION_BYTES);
/** The longest reply a kernel takes: CONNECTOR_MAX_MSG_SIZE (16384, include/linux/connector.h) bounds cn_msg and its data. */
export const REPLY_DATA_BYTES_MAX = 16384 - CN_MSG_BYTES - ULOG_HEADER_BYTES;

/** DM_ULOG_*, include/uapi/linux/dm-log-userspace.h. */
export const RequestType = {
  CTR: 1,
  DTR: 2,
  PRESUSPEND: 3,
  POSTSUSPEND: 4,
  RESUME: 5,
  GET_REGION_SIZE: 6,
  IS_CLEAN: 7,
  IN_SYNC: 8,
  FLUSH: 9,
  MARK_REGION: 10,
  CLEAR_REGION: 11,
  GET_RESYNC_WORK: 12,
  SET_REGION_SYNC: 13,
  GET_SYNC_COUNT: 14,
  STATUS_INFO: 15,
  STATUS_TABLE: 16,
  IS_REMOTE_RECOVERING: 17,
} as const;
export type RequestType = (typeof RequestType)[keyof typeof RequestType];

export const REQUEST_TYPE_MIN = RequestType.CTR;
export const REQUEST_TYPE_MAX = RequestType.IS_REMOTE_RECOVERING;

const requestTypeNames: readonly string[] = Object.keys(RequestType);

/** `MARK_REGION` for 10; `UNKNOWN(18)` for a number that is no request type. */
export function requestTypeName(type: number): string {
  return requestTypeNames[type - REQUEST_TYPE_MIN] ?? `UNKNOWN(${type})`;
}

/** Linux error numbers that go to the kernel: positive in an ack, negated in a full reply. include/uapi/asm-generic/errno*.h. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EIO: 5,
  ENXIO: 6,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  ERANGE: 34,
  ENOSYS: 38,
  ENODATA: 61,
  EPROTO: 71,
  EBADMSG: 74,
  ETIMEDOUT: 110,
} as const;
export type Errno = (typeof Errno)[keyof typeof Errno];
