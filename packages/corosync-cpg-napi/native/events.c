/* On the event loop: events out of libcpg and libquorum into JavaScript, messages into libcpg. */
#include <errno.h>
#include <poll.h>

#include "member.h"

/* Retries of a refused message: corosync looks at its own queue every millisecond. When it is stopped for longer we need not hurry. */
#define RETRY_MS 1
#define RETRIES_FAST 100
#define RETRY_SLOW_MS 10
/* Events per drain of the quorum descriptor: two per ring. */
#define QUORUM_EVENTS_MAX 256

/* The member whose dispatch runs on this thread: the libraries' callbacks do not say. */
static _Thread_local member *current;

/* ---- Callbacks of the libraries. They run below a buffer of 1 MiB on the stack: no JavaScript from here. ---- */

/* Room for one event's payload in the arena, 8-aligned; NULL (and the batch ends) without memory. */
static uint8_t *reserve(member *self, size_t length) {
  size_t offset = (self->arena_used + 7) & ~(size_t)7;
  if (self->arena == NULL || offset + length > self->arena_size) {
    size_t size = self->arena_size == 0 ? 65536 : self->arena_size;
    while (size < offset + length) size *= 2;
    uint8_t *grown = realloc(self->arena, size);
    if (grown == NULL) {
      self->out_of_memory = true;
      return NULL;
    }
    self->arena = grown;
    self->arena_size = size;
  }
  self->arena_used = offset + length;
  return self->arena + offset;
}

static void write_row(member *self, uint32_t *row, uint32_t kind, uint32_t node_id, uint32_t pid, const uint8_t *at, size_t length) {
  row[0] = kind;
  row[1] = node_id;
  row[2] = pid;
  row[3] = (uint32_t)(at - self->arena);
  row[4] = (uint32_t)length;
}

static uint32_t *next_event_row(member *self) {
  return self->words + WORD_EVENT_ROWS + self->event_count++ * ROW_WORDS;
}

static void on_deliver(uint64_t handle, const cpg_name *group, uint32_t node_id, uint32_t pid, void *bytes, size_t length) {
  (void)handle;
  (void)group;
  member *self = current;
  uint8_t *at = reserve(self, length);
  if (at == NULL) return;
  if (length > 0) memcpy(at, bytes, length);
  write_row(self, next_event_row(self), EVENT_MESSAGE, node_id, pid, at, length);
  self->counters[COUNTER_DELIVERED_MESSAGES] += 1;
  self->counters[COUNTER_DELIVERED_BYTES] += (double)length;
  if (node_id == self->session->node_id && pid == self->pid) {
    self->counters[COUNTER_IN_FLIGHT_MESSAGES] -= 1;
    self->counters[COUNTER_IN_FLIGHT_BYTES] -= (double)length;
  }
}

static void on_confchg(uint64_t handle, const cpg_name *group, const cpg_address *members, size_t member_count,
                       const cpg_address *left, size_t left_count, const cpg_address *joined, size_t joined_count) {
  (void)handle;
  (void)group;
  member *self = current;
  const cpg_address *lists[3] = {members, left, joined};
  const size_t counts[3] = {member_count, left_count, joined_count};
  size_t length = 12 + (member_count + left_count + joined_count) * sizeof(cpg_address);
  uint8_t *at = reserve(self, length);
  if (at == NULL) return;
  uint32_t *words = (uint32_t *)at;
  for (int i = 0; i < 3; i++) *words++ = (uint32_t)counts[i];
  for (int i = 0; i < 3; i++) {
    if (counts[i] > 0) memcpy(words, lists[i], counts[i] * sizeof(cpg_address));
    words += counts[i] * 3;
  }
  write_row(self, next_event_row(self), EVENT_CONFCHG, 0, 0, at, length);
  self->batch_ends = true;
}

static void write_ring(uint32_t *words, corosync_ring_id ring, uint32_t node_count, const uint32_t *nodes) {
  words[0] = ring.node_id;
  words[1] = (uint32_t)ring.seq;
  words[2] = (uint32_t)(ring.seq >> 32);
  words[3] = node_count;
  if (node_count > 0) memcpy(words + 4, nodes, node_count * sizeof *nodes);
}

static void on_totem_confchg(uint64_t handle, corosync_ring_id ring, uint32_t node_count, const uint32_t *nodes) {
  (void)handle;
  member *self = current;
  size_t length = (4 + (size_t)node_count) * 4;
  uint8_t *at = reserve(self, length);
  if (at == NULL) return;
  write_ring((uint32_t *)at, ring, node_count, nodes);
  write_row(self, next_event_row(self), EVENT_RING, 0, 0, at, length);
  self->batch_ends = true;
}

static void on_quorum(uint64_t handle, uint32_t quorate, corosync_ring_id ring, uint32_t node_count, const uint32_t *nodes) {
  (void)handle;
  member *self = current;
  size_t length = (4 + (size_t)node_count) * 4;
  uint32_t *rows = self->words + WORD_QUORUM_ROWS;
  uint8_t *at = reserve(self, length);
  if (at == NULL) return;
  write_ring((uint32_t *)at, ring, node_count, nodes);
  if (self->quorum_count == BATCH_QUORUMS_MAX) {
    /* That many rings behind: the oldest is long gone. */
    memmove(rows, rows + ROW_WORDS, (BATCH_QUORUMS_MAX - 1) * ROW_WORDS * 4);
    self->quorum_count--;
  }
  write_row(self, rows + self->quorum_count++ * ROW_WORDS, EVENT_QUORUM, quorate, 0, at, length);
}

static void on_nodelist(uint64_t handle, corosync_ring_id ring, uint32_t node_count, const uint32_t *nodes, uint32_t joined_count,
                        const uint32_t *joined, uint32_t left_count, const uint32_t *left) {
  /* The ring's nodes come by totem_confchg, in order. */
  (void)handle, (void)ring, (void)node_count, (void)nodes, (void)joined_count, (void)joined, (void)left_count, (void)left;
}

cpg_model_v1 member_cpg_model = {.model = CPG_MODEL_V1,
                                 .deliver = on_deliver,
                                 .confchg = on_confchg,
                                 .totem_confchg = on_totem_confchg,
                                 .flags = CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF};
quorum_model_v1 member_quorum_model = {.model = QUORUM_MODEL_V1, .quorum = on_quorum, .nodelist = on_nodelist};

/* ---- Calls into JavaScript ---- */

/*
 * An exception becomes an uncaughtException here and goes no further; true when there was one and the process went on.
 * napi_make_callback also runs the ticks and microtasks that the handlers queued.
 */
static bool call_js(member *self, napi_ref function_ref, size_t argc, const napi_value *argv) {
  napi_env env = self->env;
  napi_value function, resource, error;
  if (napi_get_reference_value(env, function_ref, &function) != napi_ok ||
      napi_get_reference_value(env, self->resource_ref, &resource) != napi_ok) {
    return false;
  }
  napi_status status = napi_make_callback(env, self->async_context, resource, function, argc, argv, NULL);
  if (status != napi_pending_exception || napi_get_and_clear_last_exception(env, &error) != napi_ok) return false;
  return napi_fatal_exception(env, error) == napi_ok; /* fails, as it should, while a worker is being terminated */
}

void member_signal(member *self, int32_t kind, int32_t job, int32_t code, const char *text) {
  napi_env env = self->env;
  napi_handle_scope scope;
  napi_value argv[4];
  if (self->released || napi_open_handle_scope(env, &scope) != napi_ok) return;
  if (napi_create_int32(env, kind, &argv[0]) == napi_ok && napi_create_int32(env, job, &argv[1]) == napi_ok &&
      napi_create_int32(env, code, &argv[2]) == napi_ok &&
      napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &argv[3]) == napi_ok) {
    call_js(self, self->signal_ref, 4, argv);
  }
  napi_close_handle_scope(env, scope);
}

/* One call per batch. After an exception JavaScript is called again for the rest of it, without a buffer. */
static void deliver_batch(member *self) {
  napi_env env = self->env;
  napi_handle_scope scope;
  napi_value argv[3];
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  int calls_max = self->event_count + self->quorum_count + 2;
  self->counters[COUNTER_BATCHES] += 1;
  bool is_inline = self->arena_used <= INLINE_BYTES_MAX;
  if (is_inline) {
    memcpy(self->inline_bytes, self->arena, self->arena_used);
    self->words[WORD_INLINE_BYTES] = (uint32_t)self->arena_used;
  }
  if ((is_inline ? napi_get_null(env, &argv[0])
                 : napi_create_buffer_copy(env, self->arena_used, self->arena, NULL, &argv[0])) == napi_ok &&
      napi_create_int32(env, self->quorum_count, &argv[1]) == napi_ok &&
      napi_create_int32(env, self->event_count, &argv[2]) == napi_ok) {
    bool thrown = call_js(self, self->batch_ref, 3, argv);
    while (thrown && !self->closing && --calls_max > 0) thrown = call_js(self, self->batch_ref, 0, NULL);
  } else {
    self->out_of_memory = true;
  }
  napi_close_handle_scope(env, scope);
}

void member_die(member *self, int code) {
  if (self->dead || self->closing) return;
  self->dead = true;
  uv_poll_stop(&self->cpg_poll);
  if (self->session->quorum_open) uv_poll_stop(&self->quorum_poll);
  uv_timer_stop(&self->retry);
  member_drop_queue(self);
  member_signal(self, SIGNAL_DIED, 0, code, "");
}

/* ---- Dispatch ---- */

static int drain_quorum(member *self) {
  session *s = self->session;
  int result = CS_ERR_TRY_AGAIN;
  if (!s->quorum_open) return result;
  for (int i = 0; i < QUORUM_EVENTS_MAX; i++) {
    result = s->api.quorum_dispatch(s->quorum, CS_DISPATCH_ONE_NONBLOCKING);
    if (result != CS_OK) return result;
  }
  return CS_ERR_TRY_AGAIN;
}

static void signal_drain(member *self) {
  if (!self->full_reported || self->counters[COUNTER_IN_FLIGHT_MESSAGES] > self->messages_max / 2 ||
      self->counters[COUNTER_IN_FLIGHT_BYTES] > self->bytes_max / 2) {
    return;
  }
  self->full_reported = false;
  member_signal(self, SIGNAL_DRAIN, 0, 0, "");
}

/* Whether there is more to take, and whether quorum has anything to say: one system call instead of one of each library. In doubt: yes. */
static void look(const member *self, bool *more, bool *quorum) {
  const session *s = self->session;
  struct pollfd descriptors[2] = {{.fd = s->cpg_fd, .events = POLLIN}, {.fd = s->quorum_fd, .events = POLLIN}};
  const int count = poll(descriptors, s->quorum_open ? 2 : 1, 0);
  *more = count < 0 || descriptors[0].revents != 0;
  *quorum = count < 0 || descriptors[1].revents != 0;
}

/*
 * One batch. The quorum descriptor is drained *after* the events were taken: corosync writes the quorum of a ring before any message of that
 * ring, so whatever ring the events are of, its quorum is in the same batch or was in an earlier one. JavaScript looks at the quorum rows first.
 */
void member_watch(uv_poll_t *handle, int status, int events) {
  (void)status; /* an error shows in dispatch */
  (void)events;
  member *self = (member *)handle->data;
  session *s = self->session;
  if (self->closing || self->dead) return;
  self->arena_used = 0;
  self->event_count = self->quorum_count = 0;
  self->batch_ends = false;
  current = self;
  int result = CS_OK;
  bool more = true, quorum = true;
  for (int i = 0; more && i < BATCH_EVENTS_MAX && self->arena_used < BATCH_BYTES && !self->batch_ends && !self->out_of_memory; i++) {
    result = s->api.cpg_dispatch(s->cpg, CS_DISPATCH_ONE_NONBLOCKING);
    if (result != CS_OK) break;
    /* Mostly one event comes alone. Where there are more, the end of them shows in dispatch, and quorum is looked at after that. */
    if (i > 0) continue;
    look(self, &more, &quorum);
    quorum = quorum || more;
  }
  int quorum_result = quorum ? drain_quorum(self) : CS_ERR_TRY_AGAIN;
  current = NULL;
  if (self->event_count + self->quorum_count > 0) deliver_batch(self);
  if (self->closing) return;
  if (self->out_of_memory) result = CS_ERR_NO_MEMORY;
  if (result == CS_OK || result == CS_ERR_TRY_AGAIN) result = quorum_result;
  if (status != 0 && result == CS_ERR_TRY_AGAIN) result = CS_ERR_LIBRARY; /* libuv has stopped watching */
  if (result != CS_OK && result != CS_ERR_TRY_AGAIN) {
    member_die(self, result);
    return;
  }
  member_flush(self);
  if (!self->closing) signal_drain(self);
}

/* ---- Sending ---- */

/*
 * CS_OK, CS_ERR_TRY_AGAIN or an error. The descriptor is asked first: with a full socket cpg_mcast_joined would spin, for seconds if corosync
 * is stopped.
 */
static int mcast(member *self, const void *bytes, size_t length) {
  session *s = self->session;
  struct pollfd descriptor = {.fd = s->cpg_fd, .events = POLLOUT};
  struct iovec part = {.iov_base = (void *)bytes, .iov_len = length};
  if (poll(&descriptor, 1, 0) != 1 || (descriptor.revents & POLLOUT) == 0) return CS_ERR_TRY_AGAIN;
  return s->api.cpg_mcast_joined(s->cpg, CPG_TYPE_AGREED, &part, 1);
}

static void count_sent(member *self, size_t length) {
  self->counters[COUNTER_SENT_MESSAGES] += 1;
  self->counters[COUNTER_SENT_BYTES] += (double)length;
}

static void retry_later(member *self) {
  self->counters[COUNTER_TRY_AGAINS] += 1;
  uv_timer_start(&self->retry, member_retry, self->retries++ < RETRIES_FAST ? RETRY_MS : RETRY_SLOW_MS, 0);
}

/* A handle has one sender at a time, and join and leave send too: while a thread is at work nothing goes out. */
static bool may_send(const member *self) {
  return self->joined && !self->job_pending && !self->dead && !self->closing && self->death == 0;
}

/* Where JavaScript must not be called: the async handle reports it. */
static void die_later(member *self, int code) {
  self->death = code;
  uv_async_send(&self->async);
}

void member_flush(member *self) {
  while (self->queue_head != NULL && may_send(self)) {
    queued *head = self->queue_head;
    int result = mcast(self, head->bytes, head->length);
    if (result == CS_ERR_TRY_AGAIN) {
      retry_later(self);
      return;
    }
    if (result != CS_OK) {
      die_later(self, result);
      return;
    }
    self->retries = 0;
    count_sent(self, head->length);
    self->counters[COUNTER_QUEUED_MESSAGES] -= 1;
    self->counters[COUNTER_QUEUED_BYTES] -= (double)head->length;
    self->queue_head = head->next;
    if (self->queue_head == NULL) self->queue_tail = &self->queue_head;
    free(head);
  }
  if (self->queue_head == NULL && self->leave_wanted && may_send(self)) {
    self->leave_wanted = false;
    member_start_job(self, JOB_LEAVE);
  }
}

void member_retry(uv_timer_t *timer) {
  member_flush((member *)timer->data);
}

int member_send(member *self, const void *bytes, size_t length) {
  if (self->dead || self->closing) return SEND_CLOSED;
  if (length > self->session->message_bytes_max) return SEND_TOO_BIG;
  double *counters = self->counters;
  /* A message larger than the whole allowance may travel alone. */
  if (counters[COUNTER_IN_FLIGHT_MESSAGES] >= self->messages_max ||
      (counters[COUNTER_IN_FLIGHT_MESSAGES] > 0 && counters[COUNTER_IN_FLIGHT_BYTES] + (double)length > self->bytes_max)) {
    self->full_reported = true;
    return SEND_FULL;
  }
  int result = self->queue_head == NULL && may_send(self) ? mcast(self, bytes, length) : CS_ERR_TRY_AGAIN;
  if (result == CS_OK) {
    count_sent(self, length);
  } else if (result == CS_ERR_TRY_AGAIN) {
    queued *entry = malloc(sizeof *entry + length);
    if (entry == NULL) return SEND_NO_MEMORY;
    entry->next = NULL;
    entry->length = length;
    if (length > 0) memcpy(entry->bytes, bytes, length);
    if (self->queue_head == NULL && may_send(self)) retry_later(self);
    *self->queue_tail = entry;
    self->queue_tail = &entry->next;
    counters[COUNTER_QUEUED_MESSAGES] += 1;
    counters[COUNTER_QUEUED_BYTES] += (double)length;
  } else {
    die_later(self, result); /* the message shares the fate of those that were under way */
  }
  counters[COUNTER_IN_FLIGHT_MESSAGES] += 1;
  counters[COUNTER_IN_FLIGHT_BYTES] += (double)length;
  return SEND_TAKEN;
}

void member_drop_queue(member *self) {
  queued *entry = self->queue_head;
  while (entry != NULL) {
    queued *next = entry->next;
    free(entry);
    entry = next;
  }
  self->queue_head = NULL;
  self->queue_tail = &self->queue_head;
  self->counters[COUNTER_QUEUED_MESSAGES] = self->counters[COUNTER_QUEUED_BYTES] = 0;
}
