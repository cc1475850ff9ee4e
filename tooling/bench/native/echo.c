/*
 * The floor: the least a process can do to answer. It sleeps in epoll, receives one request, and answers it at once with a
 * reply of the right form and size. It keeps no log at all, so what a daemon needs beyond this is the daemon's.
 *
 *   echo PREFIX [poll | FAULT]
 *
 * Answers only requests whose uuid begins with PREFIX. Prints "ready" when it has joined the group; ends by a signal, or
 * when its parent does. "poll" looks for the next request for POLL_NS before it sleeps, longer than any pause within a
 * run: it tells what polling can gain here at best, and still leaves the processor to others between runs. FAULT is for the tests of the driver and spoils every FAULT_EVERY-th IN_SYNC: "short" (4 bytes of
 * answer), "error" (-EIO), "value" (neither 0 nor 1), "silent" (no reply), "twice" (the same reply again).
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>

#include "wire.h"

enum { FAULT_EVERY = 50, WORK_REGIONS = 1024, POLL_NS = 2000000 };

static uint64_t region_size = 2;
static uint64_t work_next;
static uint64_t in_sync_asked;

/* The region size of "<length> core <size> …" or "<length> disk <file> <size> …"; 2 when it cannot be read. */
static uint64_t parse_region_size(const uint8_t *data, uint32_t bytes) {
  char text[512];
  char kind[32];
  unsigned long long size = 0;
  if (bytes >= sizeof text) return 2;
  memcpy(text, data, bytes);
  text[bytes] = 0;
  if (sscanf(text, "%*u %31s %llu", kind, &size) == 2 && size > 0) return size;
  if (sscanf(text, "%*u %31s %*s %llu", kind, &size) == 2 && size > 0) return size;
  return 2;
}

static size_t ack(uint8_t *frame) {
  put32(frame + AT_NL_LEN, ACK_BYTES);
  put32(frame + AT_CN_ACK, 0);
  put16(frame + AT_CN_LEN, 0);
  return ACK_BYTES;
}

static size_t full(uint8_t *frame, int32_t error, uint32_t data_bytes) {
  put32(frame + AT_NL_LEN, HEAD_BYTES + data_bytes);
  put16(frame + AT_CN_LEN, (uint16_t)(ULOG_BYTES + data_bytes));
  put32(frame + AT_ERROR, (uint32_t)error);
  put32(frame + AT_DATA_SIZE, data_bytes);
  return padded(HEAD_BYTES + data_bytes);
}

static size_t one(uint8_t *frame, uint64_t value) {
  put64(frame + AT_DATA, value);
  return full(frame, 0, 8);
}

static size_t two(uint8_t *frame, uint64_t first, uint64_t second) {
  put64(frame + AT_DATA, first);
  put64(frame + AT_DATA + 8, second);
  return full(frame, 0, 16);
}

static size_t answer_in_sync(uint8_t *frame, const char *fault, int *times) {
  *times = 1;
  if (fault && ++in_sync_asked % FAULT_EVERY == 0) {
    if (!strcmp(fault, "short")) return full(frame, 0, 4);
    if (!strcmp(fault, "error")) return full(frame, -EIO, 0);
    if (!strcmp(fault, "value")) return one(frame, 7);
    if (!strcmp(fault, "silent")) return 0;
    if (!strcmp(fault, "twice")) *times = 2;
  }
  return one(frame, 1);
}

/* Writes the reply over the request; returns its bytes, 0 for none. */
static size_t answer(uint8_t *frame, const char *fault, int *times) {
  *times = 1;
  switch (get32(frame + AT_TYPE) & 0xff) {
    case CTR:
      region_size = parse_region_size(frame + AT_DATA, get32(frame + AT_DATA_SIZE));
      return ack(frame);
    case GET_REGION_SIZE: return one(frame, region_size);
    case IS_CLEAN: return one(frame, 1);
    case IN_SYNC: return answer_in_sync(frame, fault, times);
    case GET_SYNC_COUNT: return one(frame, 0);
    case GET_RESYNC_WORK: return two(frame, 1, work_next++ % WORK_REGIONS);
    case IS_REMOTE_RECOVERING: return two(frame, 0, 0);
    case STATUS_INFO:
      memcpy(frame + AT_DATA, "1 core", 7);
      return full(frame, 0, 7);
    default: return ack(frame);
  }
}

static int usable(const uint8_t *frame, ssize_t bytes, const char *prefix, size_t prefix_bytes) {
  return bytes >= HEAD_BYTES && get32(frame + AT_NL_LEN) <= (size_t)bytes &&
         get32(frame + AT_CN_IDX) == CN_IDX_DM_LOG && get32(frame + AT_CN_VAL) == CN_VAL_DM_LOG &&
         get32(frame + AT_DATA_SIZE) <= (size_t)bytes - HEAD_BYTES &&
         memcmp(frame + AT_UUID, prefix, prefix_bytes) == 0;
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc < 2 || strlen(argv[1]) >= UUID_BYTES) {
    fprintf(stderr, "usage: echo UUID_PREFIX [poll|short|error|value|silent|twice]\n");
    return 2;
  }
  const char *prefix = argv[1], *fault = argc > 2 ? argv[2] : NULL;
  const size_t prefix_bytes = strlen(prefix);
  const int polls = fault && !strcmp(fault, "poll");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int fd = open_connector(1u << (CN_IDX_DM_LOG - 1));
  int epoll = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN};
  if (fd < 0 || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
    perror("echo: cannot join connector group 7 (needs CAP_NET_ADMIN)");
    return 1;
  }
  puts("ready");
  fflush(stdout);

  static uint8_t frame[FRAME_BYTES];
  uint64_t poll_until = 0;
  for (;;) {
    if ((!polls || now_ns() > poll_until) && epoll_wait(epoll, &event, 1, -1) < 1) continue;
    struct sockaddr_nl from;
    struct iovec part = {frame, sizeof frame};
    struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1};
    ssize_t bytes = recvmsg(fd, &message, polls ? MSG_DONTWAIT : 0);
    if (polls && bytes >= 0) poll_until = now_ns() + POLL_NS;
    if (!usable(frame, bytes, prefix, prefix_bytes)) continue;
    int times;
    part.iov_len = answer(frame, fault, &times);
    if (part.iov_len == 0) continue;
    from.nl_groups = 0;
    message.msg_namelen = sizeof from;
    message.msg_flags = 0;
    while (times-- > 0)
      if (sendmsg(fd, &message, 0) < 0) perror("echo: send");
  }
}
