/*
 * Receiving, calling JavaScript, replying, and the search for the next request that replaces a sleep and a wake-up.
 */
#include "dmlog_connector.h"

/* Kinds of fault, as src/batch.ts knows them. */
enum { FAULT_OVERRUN = 0, FAULT_SEND = 1, FAULT_SOCKET = 2 };
/* At most this long in one libuv callback: timers and other sockets wait no longer than that for us. */
#define CALLBACK_BUDGET_NS 1000000u
/* The kernel gives a request up after 15 s (DM_ULOG_RETRY_TIMEOUT): what is still outstanding then never comes. */
#define OUTSTANDING_EXPIRES_NS 15000000000ull
/* After this many searches in a row without a find, requests do not come in chains: search only now and then. */
#define MISSES_BEFORE_BACKOFF 16
#define BACKOFF_SEARCH_EVERY 16

static void serve(connector *self, bool woken);

static uint64_t now_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static inline void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("isb" ::: "memory");
#else
  __asm__ __volatile__("" ::: "memory");
#endif
}

/* ---- Calls into JavaScript ---- */

/*
 * napi_make_callback runs the ticks and microtasks that the handler queued before it returns, so none of them waits for the
 * next event. Per call on one core it costs 0.2 us less than a callback scope and 0.3 us more than a bare call, which would
 * leave them lying until something else wakes the loop.
 *
 * What comes out as an exception is not the handler's (src/batch.ts catches those) but a tick's or a microtask's, which
 * Node-API has caught on its way to becoming an uncaughtException: make it one. Never hand it on to libuv.
 */
static bool call_js(connector *self, napi_ref function_ref, size_t argc, const napi_value *argv) {
  napi_env env = self->env;
  napi_value function, resource, error;
  if (napi_get_reference_value(env, function_ref, &function) != napi_ok ||
      napi_get_reference_value(env, self->resource_ref, &resource) != napi_ok) {
    return false;
  }
  napi_status status = napi_make_callback(env, self->async, resource, function, argc, argv, NULL);
  if (status == napi_ok) return true;
  if (status == napi_pending_exception && napi_get_and_clear_last_exception(env, &error) == napi_ok) {
    napi_fatal_exception(env, error); /* fails, as it should, while a worker is being terminated */
  }
  return false;
}

/* Rare, so values are made freely. */
static void report_fault(connector *self, int32_t kind, int32_t error_number, int32_t count) {
  napi_value argv[3];
  if (self->close_requested) return;
  if (napi_create_int32(self->env, kind, &argv[0]) != napi_ok ||
      napi_create_int32(self->env, error_number, &argv[1]) != napi_ok ||
      napi_create_int32(self->env, count, &argv[2]) != napi_ok) {
    return;
  }
  call_js(self, self->fault_ref, 3, argv);
}

/* ---- Receiving and sending ---- */

/* Returns the number of datagrams now in slots 0.., 0 when there is none, or a negative errno. */
static int receive(connector *self) {
  int count;
  if (self->window == 1) {
    socklen_t name_bytes = sizeof(struct sockaddr_nl);
    ssize_t length;
    do {
      length = recvfrom(self->fd, self->arena, SLOT_BYTES, MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&self->in_name[0],
                        &name_bytes);
    } while (length < 0 && errno == EINTR);
    if (length < 0) return errno == EAGAIN ? 0 : -errno;
    self->in[0].msg_len = (unsigned)length;
    self->in[0].msg_hdr.msg_flags = length > SLOT_BYTES ? MSG_TRUNC : 0;
    return 1;
  }
  do {
    count = recvmmsg(self->fd, self->in, (unsigned)self->window, MSG_DONTWAIT, NULL);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return errno == EAGAIN ? 0 : -errno;
  for (int i = 0; i < count; i++) self->in[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_nl); /* the kernel wrote it */
  return count;
}

/* Sends out[0..count): what the socket refuses is counted and skipped, the rest still goes. */
static void send_replies(connector *self, int count) {
  int done = 0, failures = 0, error_number = 0;
  if (count == 1) {
    struct msghdr *header = &self->out[0].msg_hdr;
    ssize_t sent;
    do {
      sent = sendto(self->fd, header->msg_iov->iov_base, header->msg_iov->iov_len, MSG_DONTWAIT,
                    (struct sockaddr *)header->msg_name, header->msg_namelen);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
      self->counters[COUNTER_SENT] += 1;
    } else {
      error_number = errno;
      failures = 1;
    }
  } else {
    while (done < count) {
      int sent = sendmmsg(self->fd, self->out + done, (unsigned)(count - done), MSG_DONTWAIT);
      if (sent > 0) {
        self->counters[COUNTER_SENT] += sent;
        done += sent;
      } else if (sent < 0 && errno == EINTR) {
        continue;
      } else {
        error_number = errno;
        failures++;
        done++;
      }
    }
  }
  if (failures > 0) {
    self->counters[COUNTER_SEND_FAILURES] += failures;
    report_fault(self, FAULT_SEND, error_number, failures);
  }
}

static void set_destination(struct msghdr *header, struct sockaddr_nl *name, uint32_t port) {
  if (port == 0) { /* without an address netlink sends to the kernel */
    header->msg_name = NULL;
    header->msg_namelen = 0;
    return;
  }
  name->nl_pid = port;
  header->msg_name = name;
  header->msg_namelen = sizeof(struct sockaddr_nl);
}

/* Offers slots 0..count to JavaScript and sends what it answers. False: JavaScript cannot run any more. */
static bool dispatch(connector *self, int count) {
  int32_t *lengths = self->control + CONTROL_LENGTHS;
  int32_t *ports = self->control + CONTROL_PORTS;
  int32_t *replies = self->control + CONTROL_REPLIES;
  int live = 0, outgoing = 0;
  for (int i = 0; i < count; i++) {
    uint32_t port = self->in_name[i].nl_pid;
    replies[i] = 0;
    lengths[i] = -1;
    if (port != 0 && !self->accept_user) {
      self->counters[COUNTER_FOREIGN] += 1;
    } else if (self->in[i].msg_hdr.msg_flags & MSG_TRUNC) {
      self->counters[COUNTER_OVERSIZED] += 1;
    } else {
      lengths[i] = (int32_t)self->in[i].msg_len;
      ports[i] = (int32_t)port;
      live++;
    }
  }
  if (live == 0) return true;
  self->control[CONTROL_COUNT] = count;
  self->in_batch = true;
  bool called = call_js(self, self->batch_ref, 0, NULL);
  for (int i = 0; i < count; i++) {
    int32_t length = replies[i];
    if (length <= 0 || length > SLOT_BYTES) continue;
    self->out_iov[outgoing].iov_base = self->arena + (size_t)i * SLOT_BYTES;
    self->out_iov[outgoing].iov_len = (size_t)length;
    set_destination(&self->out[outgoing].msg_hdr, &self->out_name[outgoing], (uint32_t)ports[i]);
    outgoing++;
  }
  if (outgoing > 0) send_replies(self, outgoing);
  self->in_batch = false;
  if (self->close_requested) connector_finish_close(self);
  return called;
}

/* ---- Looking for the next request ---- */

/* A deferred reply completes through the event loop, so searching would only delay it. */
static bool replies_outstanding(connector *self, uint64_t now) {
  int32_t outstanding = self->control[CONTROL_OUTSTANDING];
  if (outstanding > self->outstanding_seen) self->deferred_at = now;
  if (outstanding > 0 && now - self->deferred_at > OUTSTANDING_EXPIRES_NS) {
    outstanding = self->control[CONTROL_OUTSTANDING] = 0;
  }
  self->outstanding_seen = outstanding;
  return outstanding > 0;
}

/* Whether to search after a request was served at `now`. */
static bool may_search(connector *self, uint64_t now) {
  if (self->poll_ns == 0 || replies_outstanding(self, now)) return false;
  return self->misses < MISSES_BEFORE_BACKOFF || self->misses++ % BACKOFF_SEARCH_EVERY == 0;
}

static void on_idle(uv_idle_t *handle) { serve((connector *)handle->data, false); }

/* An active idle handle makes the loop look at everything else without sleeping, and come back. */
static void search_on(connector *self, bool on) {
  if (self->close_requested || on == self->idle_active) return;
  self->idle_active = on;
  if (on) {
    uv_idle_start(&self->idle, on_idle);
  } else {
    uv_idle_stop(&self->idle);
  }
}

static void die(connector *self, int error_number) {
  self->dead = true;
  search_on(self, false);
  uv_poll_stop(&self->poll);
  report_fault(self, FAULT_SOCKET, error_number, 1);
}

/*
 * How many slots the next receive asks for: single requests cost one plain receive each; a request that is there without
 * waiting is the head of a queue, and queues are taken in batches.
 */
static void adapt_window(connector *self, int count, bool waited) {
  if (count == self->window && !waited) {
    self->window = BATCH_SLOTS_MAX;
  } else if (count == 1) {
    self->window = 1;
  }
}

/* Serves what is queued and searches on. Returns whether the search goes on in the next turn of the event loop. */
static bool serve_turn(connector *self, bool woken) {
  uint64_t began = now_ns();
  uint64_t now = began, mark = began;
  bool found_by_search = !woken, waited = true, searching = !woken;
  for (;;) {
    int count = receive(self);
    if (count > 0) {
      if (found_by_search) {
        self->counters[COUNTER_POLL_HITS] += count;
        self->misses = 0;
      }
      adapt_window(self, count, waited);
      if (!dispatch(self, count) || self->close_requested || self->paused) return false;
      now = mark = self->served_at = now_ns();
      searching = may_search(self, now);
      /* Look once more even when not searching: on one CPU the asker often runs as soon as it is answered. */
      waited = false;
      found_by_search = searching;
    } else if (count == 0) {
      now = now_ns();
      if (!searching) return false;
      self->counters[COUNTER_POLL_IDLE_NS] += (double)(now - mark);
      mark = now;
      if (now - self->served_at >= self->poll_ns) {
        self->misses++;
        return false;
      }
      waited = true;
      cpu_relax();
    } else if (count == -ENOBUFS) {
      self->counters[COUNTER_OVERRUNS] += 1;
      self->window = BATCH_SLOTS_MAX;
      report_fault(self, FAULT_OVERRUN, ENOBUFS, 1);
      if (self->close_requested || self->paused) return false;
      now = now_ns();
    } else {
      die(self, -count);
      return false;
    }
    if (now - began >= CALLBACK_BUDGET_NS) return searching;
  }
}

static void serve(connector *self, bool woken) {
  napi_handle_scope scope; /* one for all calls of a turn: the budget bounds what piles up in it */
  if (self->close_requested || self->dead || self->in_batch || self->paused) return;
  if (napi_open_handle_scope(self->env, &scope) != napi_ok) return;
  bool go_on = serve_turn(self, woken);
  napi_close_handle_scope(self->env, scope);
  if (!self->dead) search_on(self, go_on);
}

void connector_watch_poll(uv_poll_t *handle, int status, int events) {
  connector *self = (connector *)handle->data;
  (void)events;
  if (status < 0) {
    /*
     * libuv takes EPOLLERR for a bad descriptor and stops watching. On netlink it is an overrun: start again, and let the
     * receive tell the real error.
     */
    int error_number = uv_poll_start(&self->poll, UV_READABLE, connector_watch_poll);
    if (error_number != 0) {
      napi_handle_scope scope;
      if (napi_open_handle_scope(self->env, &scope) != napi_ok) return;
      die(self, -error_number);
      napi_close_handle_scope(self->env, scope);
      return;
    }
  } else if (self->idle_active) {
    return; /* the search finds it in the next turn */
  }
  serve(self, true);
}

void connector_search_after_send(connector *self) {
  if (self->in_batch || self->dead || !uv_is_active((uv_handle_t *)&self->poll)) return;
  uint64_t now = now_ns();
  if (!may_search(self, now)) return;
  self->served_at = now;
  search_on(self, true);
}
