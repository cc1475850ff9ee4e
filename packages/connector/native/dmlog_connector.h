/* What serve.c (the work) and dmlog_connector.c (the surface and the life of a socket) share. */
#ifndef DMLOG_CONNECTOR_H
#define DMLOG_CONNECTOR_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define NAPI_VERSION 8

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <node_api.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif
#ifndef NETLINK_CONNECTOR
#define NETLINK_CONNECTOR 11
#endif

/* The same numbers as in src/transport.ts; open() checks the sizes it is given against them. */
#define SLOT_BYTES 1024
#define BATCH_SLOTS_MAX 32

/* Layout of the control block, shared with src/control.ts: 32-bit words, then the counters as doubles. */
enum {
  CONTROL_COUNT = 0,       /* slots of this batch */
  CONTROL_OUTSTANDING = 1, /* requests answered with REPLY_LATER and not yet sent */
  CONTROL_PORT = 2,
  CONTROL_RECEIVE_BUFFER = 3,
  CONTROL_LENGTHS = 8, /* per slot: bytes received, or -1: not for the handler */
  CONTROL_PORTS = CONTROL_LENGTHS + BATCH_SLOTS_MAX,
  CONTROL_REPLIES = CONTROL_PORTS + BATCH_SLOTS_MAX,
  CONTROL_WORDS = CONTROL_REPLIES + BATCH_SLOTS_MAX
};
enum {
  COUNTER_SENT = 0,
  COUNTER_SEND_FAILURES = 1,
  COUNTER_FOREIGN = 2,
  COUNTER_OVERSIZED = 3,
  COUNTER_OVERRUNS = 4,
  COUNTER_POLL_IDLE_NS = 5,
  COUNTER_POLL_HITS = 6,
  COUNTERS = 8
};
#define CONTROL_BYTES (CONTROL_WORDS * 4 + COUNTERS * 8)

typedef struct connector connector;

/* What JavaScript holds. It may outlive the connector and the other way round, so both know of the other's end. */
typedef struct {
  connector *self;
} handle_box;

struct connector {
  napi_env env;
  handle_box *box;
  napi_ref arena_ref, control_ref, batch_ref, fault_ref, resource_ref;
  napi_async_context async;
  napi_async_cleanup_hook_handle hook;
  uv_poll_t poll;
  uv_idle_t idle;
  int open_handles;
  int fd;
  bool accept_user;
  bool in_batch;        /* JavaScript is running on our slots: close waits for it */
  bool close_requested; /* nothing may be delivered any more */
  bool idle_active;
  bool dead;
  bool paused;          /* the socket is somebody else's to read for now */
  int window;           /* slots asked for by the next receive: 1 while requests come one by one */
  uint64_t poll_ns;
  uint64_t served_at;
  uint64_t deferred_at;
  int32_t outstanding_seen;
  uint32_t misses;
  uint8_t *arena;
  int32_t *control;
  double *counters;
  struct mmsghdr in[BATCH_SLOTS_MAX];
  struct iovec in_iov[BATCH_SLOTS_MAX];
  struct sockaddr_nl in_name[BATCH_SLOTS_MAX];
  struct mmsghdr out[BATCH_SLOTS_MAX];
  struct iovec out_iov[BATCH_SLOTS_MAX];
  struct sockaddr_nl out_name[BATCH_SLOTS_MAX];
};

/* serve.c */
void connector_watch_poll(uv_poll_t *handle, int status, int events); /* the poll handle's callback */
void connector_search_after_send(connector *self);                    /* a deferred reply has left */

/* process.c: adds its functions. */
bool export_process(napi_env env, napi_value exports);

/* dmlog_connector.c: closes now. The struct lives until libuv has called back for both handles. */
void connector_finish_close(connector *self);

#endif
