/*
 * Shared by session.c (blocking calls, on a thread of their own), events.c (dispatch and send, on the event loop) and member.c (the surface and the life of
 * a member).
 */
#ifndef CPG_MEMBER_H
#define CPG_MEMBER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define NAPI_VERSION 8

#include <node_api.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "corosync.h"

/* The same numbers as in src/binding.ts; create() checks the size of the control block against them. */
#define BATCH_EVENTS_MAX 64
#define BATCH_QUORUMS_MAX 16
#define BATCH_BYTES (1 << 20)
#define ROW_WORDS 5
/* Payloads of a batch up to this size are left in the control block: making a buffer of V8's for each costs more than copying twice. */
#define INLINE_BYTES_MAX 4096
enum { WORD_NODE_ID = 0, WORD_MESSAGE_BYTES_MAX = 1, WORD_QUORUM_TYPE = 2, WORD_INLINE_BYTES = 3, WORD_QUORUM_ROWS = 8 };
enum { WORD_EVENT_ROWS = WORD_QUORUM_ROWS + BATCH_QUORUMS_MAX * ROW_WORDS };
enum { CONTROL_WORDS = WORD_EVENT_ROWS + BATCH_EVENTS_MAX * ROW_WORDS };
enum {
  COUNTER_QUEUED_MESSAGES,
  COUNTER_QUEUED_BYTES,
  COUNTER_IN_FLIGHT_MESSAGES, /* taken and not yet delivered to ourselves, queued ones too */
  COUNTER_IN_FLIGHT_BYTES,
  COUNTER_SENT_MESSAGES, /* accepted by corosync */
  COUNTER_SENT_BYTES,
  COUNTER_DELIVERED_MESSAGES,
  COUNTER_DELIVERED_BYTES,
  COUNTER_BATCHES,
  COUNTER_TRY_AGAINS,
  COUNTERS
};
#define CONTROL_BYTES (CONTROL_WORDS * 4 + COUNTERS * 8 + INLINE_BYTES_MAX)

enum { EVENT_MESSAGE = 0, EVENT_CONFCHG = 1, EVENT_RING = 2, EVENT_QUORUM = 3 };
enum { SIGNAL_JOB = 0, SIGNAL_DRAIN = 1, SIGNAL_DIED = 2, SIGNAL_CLOSED = 3 };
enum { JOB_OPEN = 0, JOB_JOIN = 1, JOB_LEAVE = 2, JOB_FINALIZE = 3 };
enum { SEND_TAKEN = 0, SEND_FULL = 1, SEND_TOO_BIG = 2, SEND_CLOSED = 3, SEND_NO_MEMORY = 4 };
/* Results of JOB_OPEN besides cs_error_t: the text says which library or symbol. */
enum { RESULT_NO_LIBRARY = 1000, RESULT_NO_SYMBOL = 1001, RESULT_NO_THREAD = 1002 };

/*
 * What the blocking calls work on. Shared by the event loop and at most one thread. When nobody waits any more (the environment ends, or corosync
 * does not answer), the loop abandons it: the thread then finalizes and frees it, however long that takes. So nothing ever waits for a stopped corosync.
 */
typedef struct {
  uv_mutex_t mutex;
  uv_async_t *async; /* told when the thread is done; not touched once abandoned */
  uv_thread_t thread;
  int job;
  bool has_thread;      /* to be joined when the job is collected */
  bool running;         /* the thread is at work: only it may use the handles, but for dispatch on the loop */
  bool done;            /* its result waits for the loop */
  bool finalize_wanted; /* after the running job */
  bool abandoned;
  int32_t result;
  char text[256];
  corosync_api api;
  char *cpg_library, *quorum_library; /* quorum_library NULL: without quorum */
  bool loaded, cpg_open, quorum_open;
  uint64_t cpg, quorum;
  int cpg_fd, quorum_fd;
  uint32_t node_id, message_bytes_max, quorum_type;
  cpg_name group;
} session;

typedef struct queued {
  struct queued *next;
  size_t length;
  uint8_t bytes[];
} queued;

typedef struct member member;

/* What JavaScript holds. It may outlive the member and the other way round, so both know of the other's end. */
typedef struct {
  member *self;
} handle_box;

struct member {
  napi_env env;
  handle_box *box;
  napi_ref control_ref, batch_ref, signal_ref, resource_ref;
  napi_async_context async_context;
  napi_async_cleanup_hook_handle hook;
  uv_loop_t *loop;
  uv_poll_t cpg_poll, quorum_poll;
  uv_timer_t retry;
  uv_async_t async;
  int open_handles;
  bool polls_open;
  bool job_pending;  /* a thread is at work on the session, or its result is not collected */
  bool joined;       /* cpg_join has succeeded: mcast would not be dropped silently */
  bool leave_wanted; /* JOB_LEAVE starts once the queue is empty */
  bool closing;      /* nothing may be delivered, sent or dispatched any more */
  bool released;
  bool dead;
  bool full_reported;
  int death; /* cs_error_t found where JavaScript must not be called; reported by the async handle */
  unsigned retries;
  session *session;
  uint32_t pid;
  uint32_t *words;
  double *counters;
  uint8_t *inline_bytes;
  double messages_max, bytes_max;
  queued *queue_head, **queue_tail;
  uint8_t *arena;
  size_t arena_used, arena_size;
  int event_count, quorum_count;
  bool batch_ends; /* a membership or ring change: what follows is another batch */
  bool out_of_memory;
};

/* session.c. session_start and session_free: on the loop, with no thread at work. */
session *session_new(uv_async_t *async, const char *group, size_t group_length, char *cpg_library, char *quorum_library);
void session_start(session *self, int job);
bool session_collect(session *self);       /* true: a job has ended; its thread is gone, job, result and text are valid */
void session_finalize(session *self);      /* after the running job if there is one */
void session_abandon(session *self);       /* frees it, now or when its thread is done. Only after session_finalize */

/* events.c */
void member_watch(uv_poll_t *handle, int status, int events);
void member_flush(member *self);
void member_retry(uv_timer_t *timer);
void member_die(member *self, int code); /* reports once, calls JavaScript */
int member_send(member *self, const void *bytes, size_t length);
void member_signal(member *self, int32_t kind, int32_t job, int32_t code, const char *text);
void member_drop_queue(member *self);

/* member.c */
void member_start_job(member *self, int job);

#endif
