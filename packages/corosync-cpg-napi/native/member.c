/*
 * corosync's closed process groups (libcpg) and quorum (libquorum) for Node: one member of one group per object.
 *
 * As thin as it can be: order of events, retries, checks and errors are TypeScript (src/). What is here must be: the libraries' calls, the poll handles, the
 * queue of messages that corosync does not take yet, and the threads for calls that block.
 *
 * Threads: a thread of session.c makes blocking calls; meanwhile the loop may dispatch, but not send. Context-aware (worker threads): no globals but a
 * thread-local pointer. Plain Node-API 8 and libuv: one binary serves Node 20 and later.
 */
#include "member.h"

#include <unistd.h>

static void on_handle_closed(uv_handle_t *handle) {
  member *self = (member *)handle->data;
  if (--self->open_handles > 0) return;
  if (self->box != NULL) self->box->self = NULL;
  napi_remove_async_cleanup_hook(self->hook);
  free(self->arena);
  free(self);
}

/* Ends dispatch and sending at once and lets the session's thread finalize. JavaScript hears of the end by SIGNAL_CLOSED. */
static void begin_close(member *self) {
  if (self->closing) return;
  self->closing = true;
  member_drop_queue(self);
  if (self->polls_open) { /* before the descriptors are closed: libuv must not watch what takes their numbers */
    uv_close((uv_handle_t *)&self->cpg_poll, on_handle_closed);
    if (self->session->quorum_open) uv_close((uv_handle_t *)&self->quorum_poll, on_handle_closed);
  }
  uv_close((uv_handle_t *)&self->retry, on_handle_closed);
  session_finalize(self->session);
}

/* Nothing of JavaScript is touched from here on. The struct lives until libuv has called back for every handle. */
static void release(member *self) {
  if (self->released) return;
  self->released = true;
  session_abandon(self->session);
  self->session = NULL;
  napi_env env = self->env;
  napi_delete_reference(env, self->control_ref);
  napi_delete_reference(env, self->batch_ref);
  napi_delete_reference(env, self->signal_ref);
  napi_delete_reference(env, self->resource_ref);
  napi_async_destroy(env, self->async_context);
  uv_close((uv_handle_t *)&self->async, on_handle_closed);
}

static void on_environment_exit(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  member *self = (member *)data;
  begin_close(self);
  release(self);
}

static void on_handle_collected(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  handle_box *box = (handle_box *)data;
  if (box->self != NULL) box->self->box = NULL;
  free(box);
}

/* Watches both descriptors. 0 or a libuv error. */
static int watch(member *self) {
  session *s = self->session;
  int error = uv_poll_init(self->loop, &self->cpg_poll, s->cpg_fd);
  if (error != 0) return error;
  self->cpg_poll.data = self->quorum_poll.data = self;
  if (s->quorum_open && (error = uv_poll_init(self->loop, &self->quorum_poll, s->quorum_fd)) != 0) {
    self->open_handles++;
    uv_close((uv_handle_t *)&self->cpg_poll, on_handle_closed);
    return error;
  }
  self->open_handles += s->quorum_open ? 2 : 1;
  self->polls_open = true;
  uv_poll_start(&self->cpg_poll, UV_READABLE, member_watch);
  if (s->quorum_open) uv_poll_start(&self->quorum_poll, UV_READABLE, member_watch);
  return 0;
}

static void on_opened(member *self, int32_t *result) {
  session *s = self->session;
  self->words[WORD_NODE_ID] = s->node_id;
  self->words[WORD_MESSAGE_BYTES_MAX] = s->message_bytes_max;
  self->words[WORD_QUORUM_TYPE] = s->quorum_type;
  int error = watch(self);
  if (error == 0) return;
  snprintf(s->text, sizeof s->text, "uv_poll_init: %s", uv_err_name(error));
  *result = CS_ERR_LIBRARY;
}

static void on_async(uv_async_t *async) {
  member *self = (member *)async->data;
  session *s = self->session;
  if (self->released) return;
  if (self->death != 0 && !self->dead && !self->closing) member_die(self, self->death);
  if (self->released || !session_collect(s)) return;
  self->job_pending = false;
  if (s->job == JOB_FINALIZE) { /* closing */
    member_signal(self, SIGNAL_CLOSED, 0, 0, "");
    release(self);
    return;
  }
  int32_t job = s->job, result = s->result;
  if (result == CS_OK && job == JOB_OPEN) on_opened(self, &result);
  if (result == CS_OK && job == JOB_JOIN) self->joined = true;
  if (!self->closing) member_signal(self, SIGNAL_JOB, job, result, s->text);
  if (!self->closing) member_flush(self);
}

void member_start_job(member *self, int job) {
  self->job_pending = true;
  session_start(self->session, job);
}

#define REQUIRE(call)                                                                      \
  if ((call) != napi_ok) {                                                                 \
    napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "corosync_cpg.create: " #call);     \
    return NULL;                                                                           \
  }

/* References, async context and handle of a member whose libuv handles are open. NULL only where the engine has no memory. */
static napi_value attach_to_javascript(member *self, napi_value control, napi_value on_batch, napi_value on_signal) {
  napi_env env = self->env;
  napi_value resource, name, handle;
  if (napi_create_reference(env, control, 1, &self->control_ref) != napi_ok ||
      napi_create_reference(env, on_batch, 1, &self->batch_ref) != napi_ok ||
      napi_create_reference(env, on_signal, 1, &self->signal_ref) != napi_ok ||
      napi_create_object(env, &resource) != napi_ok ||
      napi_create_reference(env, resource, 1, &self->resource_ref) != napi_ok ||
      napi_create_string_utf8(env, "corosync:cpg", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_async_init(env, resource, name, &self->async_context) != napi_ok ||
      napi_add_async_cleanup_hook(env, on_environment_exit, self, &self->hook) != napi_ok ||
      napi_create_external(env, self->box, on_handle_collected, NULL, &handle) != napi_ok) {
    napi_fatal_error("corosync_cpg.create", NAPI_AUTO_LENGTH, "out of memory", NAPI_AUTO_LENGTH);
  }
  return handle;
}

/* A copy of a string argument on the heap; NULL for null or without memory. */
static char *copy_string(napi_env env, napi_value value) {
  size_t length;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) return NULL;
  char *copy = malloc(length + 1);
  if (copy != NULL) napi_get_value_string_utf8(env, value, copy, length + 1, &length);
  return copy;
}

enum { ARG_GROUP, ARG_CPG, ARG_QUORUM, ARG_CONTROL, ARG_MESSAGES, ARG_BYTES, ARG_BATCH, ARG_SIGNAL, ARGUMENTS };

/* create(group, cpgLibrary, quorumLibrary | null, control, messagesMax, bytesMax, onBatch, onSignal) → handle. */
static napi_value member_create(napi_env env, napi_callback_info info) {
  size_t argc = ARGUMENTS, control_bytes, group_length;
  napi_value argv[ARGUMENTS];
  void *control;
  char group[CPG_NAME_BYTES + 1];
  double messages_max, bytes_max;
  napi_valuetype batch_type, signal_type;
  uv_loop_t *loop;
  REQUIRE(napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
  REQUIRE(napi_get_value_string_utf8(env, argv[ARG_GROUP], group, sizeof group, &group_length));
  REQUIRE(napi_get_arraybuffer_info(env, argv[ARG_CONTROL], &control, &control_bytes));
  REQUIRE(napi_get_value_double(env, argv[ARG_MESSAGES], &messages_max));
  REQUIRE(napi_get_value_double(env, argv[ARG_BYTES], &bytes_max));
  REQUIRE(napi_typeof(env, argv[ARG_BATCH], &batch_type));
  REQUIRE(napi_typeof(env, argv[ARG_SIGNAL], &signal_type));
  REQUIRE(napi_get_uv_event_loop(env, &loop));
  char *cpg_library = copy_string(env, argv[ARG_CPG]);
  char *quorum_library = copy_string(env, argv[ARG_QUORUM]);
  if (control_bytes != CONTROL_BYTES || batch_type != napi_function || signal_type != napi_function || cpg_library == NULL ||
      group_length == 0 || group_length >= CPG_NAME_BYTES) {
    free(cpg_library);
    free(quorum_library);
    napi_throw_range_error(env, "ERR_INVALID_ARG_VALUE", "corosync_cpg.create: arguments do not match this build");
    return NULL;
  }

  member *self = calloc(1, sizeof *self);
  handle_box *box = calloc(1, sizeof *box);
  session *s = self == NULL ? NULL : session_new(&self->async, group, group_length, cpg_library, quorum_library);
  if (self == NULL || box == NULL || s == NULL || uv_async_init(loop, &self->async, on_async) != 0) {
    napi_fatal_error("corosync_cpg.create", NAPI_AUTO_LENGTH, "out of memory", NAPI_AUTO_LENGTH);
  }
  uv_timer_init(loop, &self->retry);
  self->open_handles = 2;
  self->async.data = self->retry.data = self;
  self->env = env;
  self->loop = loop;
  self->box = box;
  self->session = s;
  self->pid = (uint32_t)getpid();
  self->words = control;
  self->counters = (double *)(self->words + CONTROL_WORDS);
  self->inline_bytes = (uint8_t *)(self->counters + COUNTERS);
  self->messages_max = messages_max;
  self->bytes_max = bytes_max;
  self->queue_tail = &self->queue_head;
  box->self = self;
  return attach_to_javascript(self, argv[ARG_CONTROL], argv[ARG_BATCH], argv[ARG_SIGNAL]);
}

/* The member of the first argument, or NULL when it is released. */
static member *get_member(napi_env env, napi_callback_info info, size_t argc, napi_value *argv) {
  handle_box *box = NULL;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok) return NULL;
  if (napi_get_value_external(env, argv[0], (void **)&box) != napi_ok || box == NULL) return NULL;
  member *self = box->self;
  return self == NULL || self->released ? NULL : self;
}

static napi_value make_int(napi_env env, int32_t number) {
  napi_value result;
  return napi_create_int32(env, number, &result) == napi_ok ? result : NULL;
}

/* run(handle, job) → whether it was started: open, join or leave, one at a time. A leave starts when the queue is empty. Its result comes as SIGNAL_JOB. */
static napi_value member_run(napi_env env, napi_callback_info info) {
  napi_value argv[2], result;
  int32_t job;
  member *self = get_member(env, info, 2, argv);
  bool started = self != NULL && !self->closing && !self->dead && !self->job_pending &&
                 napi_get_value_int32(env, argv[1], &job) == napi_ok && job >= JOB_OPEN && job <= JOB_LEAVE &&
                 (job == JOB_OPEN) == !self->polls_open;
  if (started && job == JOB_LEAVE) {
    self->leave_wanted = true;
    member_flush(self);
  } else if (started) {
    member_start_job(self, job);
  }
  napi_get_boolean(env, started, &result);
  return result;
}

/* send(handle, bytes) → SEND_… */
static napi_value member_send_js(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  void *bytes = NULL;
  size_t length = 0;
  member *self = get_member(env, info, 2, argv);
  if (self == NULL) return make_int(env, SEND_CLOSED);
  if (napi_get_typedarray_info(env, argv[1], NULL, &length, &bytes, NULL, NULL) != napi_ok) {
    napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "corosync_cpg.send: not a Uint8Array");
    return NULL;
  }
  return make_int(env, member_send(self, bytes, length));
}

/* close(handle): no batch and no signal but SIGNAL_CLOSED follows. Twice is once. */
static napi_value member_close(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  member *self = get_member(env, info, 1, argv);
  if (self != NULL) begin_close(self);
  return NULL;
}

/* release(handle): after close, does not wait for its end any longer: a thread goes on alone. No signal follows. */
static napi_value member_release(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  member *self = get_member(env, info, 1, argv);
  if (self == NULL) return NULL;
  begin_close(self);
  release(self);
  return NULL;
}

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback callback;
  } functions[] = {
      {"create", member_create}, {"run", member_run},         {"send", member_send_js},
      {"close", member_close},   {"release", member_release},
  };
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    napi_value function;
    if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].callback, NULL, &function) != napi_ok ||
        napi_set_named_property(env, exports, functions[i].name, function) != napi_ok) {
      return NULL;
    }
  }
  return exports;
}
