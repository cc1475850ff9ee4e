/*
 * The floor of an ordered request: the least a member of a closed process group can do. It sleeps in epoll, as the daemon does, takes what
 * libcpg has for it, and measures what it sends itself.
 *
 *   cpg GROUP
 *
 * Prints its number of members whenever that changes ({"members":N}). Commands on standard input, one answer each:
 *
 *   ping MS BYTES         multicast, wait for its own delivery, again
 *   commit MS BYTES       multicast, wait until another member's acknowledgement of it was delivered
 *   commit-all MS BYTES   … until those of all other members were
 *
 * The answer is a summary of the times (samples.h) under "types". Members acknowledge a commit out of the very callback that delivers it. Ends with
 * standard input, or with its parent.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "corosync.h" /* the ABI as corosync-cpg-napi declares it */
#include "samples.h"

enum { PING = 1, COMMIT = 2, ACK = 3 };
enum { MESSAGE_BYTES_MAX = 65536, LOST_MS = 15000, LINE_BYTES = 256 };
enum { CS_DISPATCH_ALL = 2 };

struct message {
  uint64_t number;
  uint32_t kind;
  uint32_t target; /* ACK: whose message it acknowledges */
};

static corosync_api api;
static uint64_t handle;
static unsigned int self_node;
static int cpg_fd;
static size_t member_count;
static int joined;

static uint64_t sent_number; /* of the message that is waited for */
static uint32_t sent_kind;
static size_t answers_missing; /* deliveries that the measurement waits for */
static uint64_t delivered_ns;
static struct samples samples;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void fail(const char *what, int code) {
  printf("{\"fail\":\"%s: %d\"}\n", what, code);
  fflush(stdout);
  exit(1);
}

static void multicast(const void *bytes, size_t length) {
  struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
  uint64_t until = now_ns() + LOST_MS * 1000000ull;
  int result;
  while ((result = api.cpg_mcast_joined(handle, CPG_TYPE_AGREED, &part, 1)) == CS_ERR_TRY_AGAIN && now_ns() < until)
    poll(NULL, 0, 1);
  if (result != CS_OK) fail("cpg_mcast_joined", result);
}

static void on_deliver(uint64_t of, const cpg_name *group, uint32_t node, uint32_t pid, void *bytes, size_t length) {
  (void)of, (void)group, (void)pid;
  struct message message;
  if (length < sizeof message) return;
  memcpy(&message, bytes, sizeof message);
  const int own = node == self_node;
  if (message.kind == COMMIT && !own) {
    const struct message ack = {message.number, ACK, node};
    multicast(&ack, sizeof ack);
    return;
  }
  const int answers = sent_kind == PING ? own && message.kind == PING : message.kind == ACK && message.target == self_node;
  if (!answers || answers_missing == 0 || message.number != sent_number) return;
  if (--answers_missing == 0) delivered_ns = now_ns();
}

static void on_confchg(uint64_t of, const cpg_name *group, const cpg_address *members, size_t count, const cpg_address *left,
                       size_t left_count, const cpg_address *came, size_t came_count) {
  (void)of, (void)group, (void)members, (void)left, (void)left_count;
  for (size_t i = 0; i < came_count; i++) joined |= came[i].node_id == self_node && came[i].pid == (uint32_t)getpid();
  member_count = count;
  if (!joined) return;
  printf("{\"members\":%zu}\n", count);
  fflush(stdout);
}

static void on_totem_confchg(uint64_t of, corosync_ring_id ring, uint32_t count, const uint32_t *nodes) {
  (void)of, (void)ring, (void)count, (void)nodes;
}

static void dispatch(void) {
  int result = api.cpg_dispatch(handle, CS_DISPATCH_ALL);
  if (result != CS_OK && result != CS_ERR_TRY_AGAIN) fail("cpg_dispatch", result);
}

static void open_group(const char *name) {
  static cpg_model_v1 model = {.model = CPG_MODEL_V1,
                               .deliver = on_deliver,
                               .confchg = on_confchg,
                               .totem_confchg = on_totem_confchg,
                               .flags = CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF};
  const char *path = getenv("COROSYNC_CPG_LIBRARY");
  void *library = dlopen(path != NULL ? path : "libcpg.so.4", RTLD_NOW);
  if (library == NULL) fail("libcpg.so.4 cannot be opened", errno);
#define LOOK_UP(name) \
  if ((*(void **)&api.name = dlsym(library, #name)) == NULL) fail("libcpg has no " #name, 0)
  LOOK_UP(cpg_model_initialize);
  LOOK_UP(cpg_fd_get);
  LOOK_UP(cpg_local_get);
  LOOK_UP(cpg_dispatch);
  LOOK_UP(cpg_join);
  LOOK_UP(cpg_mcast_joined);
  cpg_name group = {.length = (uint32_t)strlen(name)};
  memcpy(group.value, name, group.length);
  int result = api.cpg_model_initialize(&handle, CPG_MODEL_V1, &model, NULL);
  if (result != CS_OK) fail("cpg_model_initialize", result);
  if ((result = api.cpg_fd_get(handle, &cpg_fd)) != CS_OK) fail("cpg_fd_get", result);
  if ((result = api.cpg_local_get(handle, &self_node)) != CS_OK) fail("cpg_local_get", result);
  uint64_t until = now_ns() + LOST_MS * 1000000ull;
  while ((result = api.cpg_join(handle, &group)) == CS_ERR_TRY_AGAIN && now_ns() < until) poll(NULL, 0, 10);
  if (result != CS_OK) fail("cpg_join", result);
}

static void measure(int epoll, uint32_t kind, size_t answers, uint64_t ms, size_t bytes, uint64_t pause_us) {
  static uint8_t frame[MESSAGE_BYTES_MAX];
  struct epoll_event event;
  samples_reset(&samples);
  sent_kind = kind;
  const uint64_t end = now_ns() + ms * 1000000;
  uint64_t began;
  do {
    const struct message message = {++sent_number, kind, 0};
    memcpy(frame, &message, sizeof message);
    if (pause_us > 0) {
      struct timespec pause = {(time_t)(pause_us / 1000000), (long)(pause_us % 1000000) * 1000};
      nanosleep(&pause, NULL);
    }
    answers_missing = answers;
    began = now_ns();
    multicast(frame, bytes);
    while (answers_missing > 0) {
      if (epoll_wait(epoll, &event, 1, LOST_MS) < 1 && now_ns() - began > LOST_MS * 1000000ull) fail("nothing was delivered", 0);
      dispatch();
    }
    sample_add(&samples, delivered_ns - began);
  } while (delivered_ns < end);
  printf("{\"wallNs\":%llu,\"times\":", (unsigned long long)(delivered_ns - end + ms * 1000000));
  samples_print(&samples);
  puts("}");
  fflush(stdout);
}

static int watch(int epoll, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void command(int epoll, const char *line) {
  char mode[16];
  unsigned long long ms, bytes, pause_us = 0;
  if (sscanf(line, "%15s %llu %llu %llu", mode, &ms, &bytes, &pause_us) < 3 || bytes < sizeof(struct message) || bytes > MESSAGE_BYTES_MAX)
    fail("not a command", 0);
  if (!strcmp(mode, "ping")) return measure(epoll, PING, 1, ms, bytes, pause_us);
  if (member_count < 2) fail("a commit needs another member", 0);
  measure(epoll, COMMIT, !strcmp(mode, "commit-all") ? member_count - 1 : 1, ms, bytes, pause_us);
}

int main(int argc, char **argv) {
  if (argc != 2 || strlen(argv[1]) >= CPG_NAME_BYTES) {
    fprintf(stderr, "usage: cpg GROUP\n");
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  open_group(argv[1]);
  /* Two: while a measurement runs nothing is read from standard input. */
  int outer = epoll_create1(EPOLL_CLOEXEC), inner = epoll_create1(EPOLL_CLOEXEC);
  if (outer < 0 || inner < 0 || watch(inner, cpg_fd) < 0 || watch(outer, cpg_fd) < 0 || watch(outer, STDIN_FILENO) < 0)
    fail("epoll", errno);
  for (;;) {
    struct epoll_event event;
    if (epoll_wait(outer, &event, 1, -1) < 1) continue;
    if (event.data.fd == cpg_fd) {
      dispatch();
      continue;
    }
    char line[LINE_BYTES];
    if (fgets(line, sizeof line, stdin) == NULL) return 0;
    command(inner, line);
  }
}
