/*
 * The frame both sides of the bench speak: nlmsghdr (16) + cn_msg (20) + dm_ulog_request (160) + data, host byte order.
 * Layout from include/uapi/linux/{netlink,connector,dm-log-userspace}.h; offsets instead of structs, since the request
 * struct stands at byte 36 and is not 8-aligned there.
 */
#ifndef DMLOG_BENCH_WIRE_H
#define DMLOG_BENCH_WIRE_H

#include <errno.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  NL_BYTES = 16,
  CN_BYTES = 20,
  ULOG_BYTES = 160,
  ACK_BYTES = NL_BYTES + CN_BYTES,
  HEAD_BYTES = ACK_BYTES + ULOG_BYTES,
  /* A kernel request is at most 512 bytes (dm-log-userspace-transfer.c); status text may be longer. */
  FRAME_BYTES = 4096,
  AT_NL_LEN = 0,
  AT_NL_TYPE = 4,
  AT_CN_IDX = 16,
  AT_CN_VAL = 20,
  AT_CN_SEQ = 24,
  AT_CN_ACK = 28,
  AT_CN_LEN = 32,
  AT_LUID = 36,
  AT_UUID = 44,
  UUID_BYTES = 129,
  AT_VERSION = 176,
  AT_ERROR = 180,
  AT_SEQ = 184,
  AT_TYPE = 188,
  AT_DATA_SIZE = 192,
  AT_DATA = 196,
  CN_IDX_DM_LOG = 7, /* also the multicast group */
  CN_VAL_DM_LOG = 1,
  NETLINK_PROTOCOL_CONNECTOR = 11,
  ULOG_VERSION = 3,
  RECEIVE_BUFFER_BYTES = 8 << 20,
};

/* DM_ULOG_* request types. */
enum {
  CTR = 1,
  DTR = 2,
  PRESUSPEND = 3,
  POSTSUSPEND = 4,
  RESUME = 5,
  GET_REGION_SIZE = 6,
  IS_CLEAN = 7,
  IN_SYNC = 8,
  FLUSH = 9,
  MARK_REGION = 10,
  CLEAR_REGION = 11,
  GET_RESYNC_WORK = 12,
  SET_REGION_SYNC = 13,
  GET_SYNC_COUNT = 14,
  STATUS_INFO = 15,
  STATUS_TABLE = 16,
  IS_REMOTE_RECOVERING = 17,
};

static inline uint16_t get16(const uint8_t *at) { uint16_t v; memcpy(&v, at, 2); return v; }
static inline uint32_t get32(const uint8_t *at) { uint32_t v; memcpy(&v, at, 4); return v; }
static inline uint64_t get64(const uint8_t *at) { uint64_t v; memcpy(&v, at, 8); return v; }
static inline void put16(uint8_t *at, uint16_t v) { memcpy(at, &v, 2); }
static inline void put32(uint8_t *at, uint32_t v) { memcpy(at, &v, 4); }
static inline void put64(uint8_t *at, uint64_t v) { memcpy(at, &v, 8); }

/* Bytes on the socket: the datagram is padded to a multiple of 4, nlmsg_len is not. */
static inline size_t padded(size_t bytes) { return (bytes + 3) & ~(size_t)3; }

/* A bound NETLINK_CONNECTOR socket in the caller's network namespace, or -1 with errno. `groups` is a bit mask: bit n-1 is
 * group n. SO_RCVBUFFORCE needs CAP_NET_ADMIN, as does joining. */
static inline int open_connector(uint32_t groups) {
  int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_PROTOCOL_CONNECTOR);
  if (fd < 0) return -1;
  int bytes = RECEIVE_BUFFER_BYTES;
  struct sockaddr_nl self = {.nl_family = AF_NETLINK, .nl_groups = groups};
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes) < 0 ||
      bind(fd, (struct sockaddr *)&self, sizeof self) < 0) {
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
  }
  return fd;
}

#endif
