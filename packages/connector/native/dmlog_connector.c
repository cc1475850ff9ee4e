/*
 * NETLINK_CONNECTOR in batches: recvmmsg into an arena that JavaScript owns, one call into JavaScript per batch, sendmmsg.
 *
 * As thin as it can be: no policy and no decoding lives here. The TypeScript side (src/batch.ts) checks options, runs the
 * handler and catches what it throws. What is here must be: system calls, the poll handle, and the search for the next
 * request that replaces a sleep and a wake-up.
 *
 * Context-aware (worker threads): all state hangs off one struct per socket, there are no globals.
 * Plain Node-API 8 and libuv: one binary serves Node 20 and later.
 */
#include "dmlog_connector.h"

static void on_closed(uv_handle_t *handle) {
  connector *self = (connector *)handle->data;
  if (--self->open_handles > 0) return;
  if (self->box != NULL) self->box->self = NULL;
  napi_remove_async_cleanup_hook(self->hook);
  free(self);
}

void connector_finish_close(connector *self) {
  napi_env env = self->env;
  uv_close((uv_handle_t *)&self->poll, on_closed);
  uv_close((uv_handle_t *)&self->idle, on_closed);
  close(self->fd);
  self->fd = -1;
  napi_delete_reference(env, self->arena_ref);
  napi_delete_reference(env, self->control_ref);
  napi_delete_reference(env, self->batch_ref);
  napi_delete_reference(env, self->fault_ref);
  napi_delete_reference(env, self->resource_ref);
  napi_async_destroy(env, self->async);
}

static void request_close(connector *self) {
  if (self->close_requested) return;
  self->close_requested = true;
  if (!self->in_batch) connector_finish_close(self);
}

static void on_environment_exit(napi_async_cleanup_hook_handle hook, void *data) {
  (void)hook;
  connector *self = (connector *)data;
  self->in_batch = false; /* a batch that was cut short by a termination does not come back */
  if (self->fd < 0) return; /* closing already: on_closed removes the hook */
  self->close_requested = true;
  connector_finish_close(self);
}

static void on_handle_collected(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  handle_box *box = (handle_box *)data;
  if (box->self != NULL) box->self->box = NULL;
  free(box);
}

static napi_value throw_errno(napi_env env, const char *call, int error_number) {
  char code[32], text[160];
  snprintf(code, sizeof code, "%s", uv_err_name(-error_number));
  snprintf(text, sizeof text, "%s: %s", call, uv_strerror(-error_number));
  napi_throw_error(env, code, text);
  return NULL;
}

/* Opens, binds, joins and sizes the socket. Returns the descriptor, or -1 with *call and errno set. */
static int open_socket(int32_t group, int32_t receive_buffer, uint32_t *port, int32_t *real_buffer, const char **call) {
  struct sockaddr_nl name = {.nl_family = AF_NETLINK};
  socklen_t name_bytes = sizeof name, int_bytes = sizeof *real_buffer;
  *call = "socket(AF_NETLINK, NETLINK_CONNECTOR)";
  int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_CONNECTOR);
  if (fd < 0) return -1;
  /* Before joining: requests arrive from then on. A refused force is not an error, the caller sees the real size. */
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer, sizeof receive_buffer) != 0) {
    *call = "setsockopt(SO_RCVBUF)";
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer) != 0) goto failed;
  }
  *call = "bind";
  if (bind(fd, (struct sockaddr *)&name, sizeof name) != 0) goto failed;
  *call = "setsockopt(NETLINK_ADD_MEMBERSHIP)";
  if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) goto failed;
  *call = "getsockname";
  if (getsockname(fd, (struct sockaddr *)&name, &name_bytes) != 0) goto failed;
  *call = "getsockopt(SO_RCVBUF)";
  if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, real_buffer, &int_bytes) != 0) goto failed;
  *port = name.nl_pid;
  return fd;
failed:;
  int error_number = errno;
  close(fd);
  errno = error_number;
  return -1;
}

static int socket_option(int fd, int option) {
  int value = -1;
  socklen_t bytes = sizeof value;
  return getsockopt(fd, SOL_SOCKET, option, &value, &bytes) == 0 ? value : -1;
}

/*
 * Makes an open socket of another process, or of the one before this, ours: the same socket, with what waits in it. Joining again is joining once. Returns
 * fd, or -1 with *call and errno set; the caller keeps the descriptor then.
 */
static int adopt_socket(int fd, int32_t group, int32_t receive_buffer, uint32_t *port, int32_t *real_buffer, const char **call) {
  struct sockaddr_nl name = {.nl_family = AF_NETLINK};
  socklen_t name_bytes = sizeof name;
  *call = "adopt (no connector socket)";
  errno = EPROTOTYPE;
  if (socket_option(fd, SO_DOMAIN) != AF_NETLINK || socket_option(fd, SO_PROTOCOL) != NETLINK_CONNECTOR) return -1;
  *call = "getsockname";
  if (getsockname(fd, (struct sockaddr *)&name, &name_bytes) != 0) return -1;
  *call = "adopt (a socket without a port)";
  errno = EPROTOTYPE;
  if (name.nl_pid == 0) return -1;
  *call = "fcntl";
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return -1;
  *call = "setsockopt(NETLINK_ADD_MEMBERSHIP)";
  if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) return -1;
  /* Best effort: the caller sees the real size. */
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer, sizeof receive_buffer);
  *real_buffer = socket_option(fd, SO_RCVBUF);
  *port = name.nl_pid;
  return fd;
}

static void point_at_slots(connector *self) {
  for (int i = 0; i < BATCH_SLOTS_MAX; i++) {
    self->in_iov[i].iov_base = self->arena + (size_t)i * SLOT_BYTES;
    self->in_iov[i].iov_len = SLOT_BYTES;
    self->in[i].msg_hdr.msg_iov = &self->in_iov[i];
    self->in[i].msg_hdr.msg_iovlen = 1;
    self->in[i].msg_hdr.msg_name = &self->in_name[i];
    self->in[i].msg_hdr.msg_namelen = sizeof(struct sockaddr_nl);
    self->out[i].msg_hdr.msg_iov = &self->out_iov[i];
    self->out[i].msg_hdr.msg_iovlen = 1;
    self->out_name[i].nl_family = AF_NETLINK;
  }
}

enum { OPEN_ARENA, OPEN_CONTROL, OPEN_GROUP, OPEN_BUFFER, OPEN_ACCEPT_USER, OPEN_POLL_NS, OPEN_BATCH, OPEN_FAULT, OPEN_ADOPT, OPEN_ARGUMENTS };

#define REQUIRE(call)                                                                     \
  if ((call) != napi_ok) {                                                                \
    napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "dmlog_connector.open: " #call);   \
    return NULL;                                                                          \
  }

/* References, async context and handle of a connector whose libuv handles are open. NULL only where the engine has no memory. */
static napi_value attach_to_javascript(connector *self, const napi_value *argv) {
  napi_env env = self->env;
  napi_value resource, name, handle;
  if (napi_create_reference(env, argv[OPEN_ARENA], 1, &self->arena_ref) != napi_ok ||
      napi_create_reference(env, argv[OPEN_CONTROL], 1, &self->control_ref) != napi_ok ||
      napi_create_reference(env, argv[OPEN_BATCH], 1, &self->batch_ref) != napi_ok ||
      napi_create_reference(env, argv[OPEN_FAULT], 1, &self->fault_ref) != napi_ok ||
      napi_create_object(env, &resource) != napi_ok ||
      napi_create_reference(env, resource, 1, &self->resource_ref) != napi_ok ||
      napi_create_string_utf8(env, "dmlog:connector", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_async_init(env, resource, name, &self->async) != napi_ok ||
      napi_add_async_cleanup_hook(env, on_environment_exit, self, &self->hook) != napi_ok ||
      napi_create_external(env, self->box, on_handle_collected, NULL, &handle) != napi_ok) {
    napi_fatal_error("dmlog_connector.open", NAPI_AUTO_LENGTH, "out of memory", NAPI_AUTO_LENGTH);
  }
  return handle;
}

/* open(arena, control, group, receiveBufferBytes, acceptUser, pollNs, onBatch, onFault, adopt?) → handle. `adopt`: an open socket. */
static napi_value connector_open(napi_env env, napi_callback_info info) {
  size_t argc = OPEN_ARGUMENTS, arena_bytes, control_bytes;
  napi_value argv[OPEN_ARGUMENTS];
  void *arena, *control;
  int32_t group, receive_buffer, adopted = -1;
  bool accept_user;
  double poll_ns;
  napi_valuetype batch_type, fault_type, adopt_type;
  uv_loop_t *loop;
  REQUIRE(napi_get_cb_info(env, info, &argc, argv, NULL, NULL));
  REQUIRE(napi_get_arraybuffer_info(env, argv[OPEN_ARENA], &arena, &arena_bytes));
  REQUIRE(napi_get_arraybuffer_info(env, argv[OPEN_CONTROL], &control, &control_bytes));
  REQUIRE(napi_get_value_int32(env, argv[OPEN_GROUP], &group));
  REQUIRE(napi_get_value_int32(env, argv[OPEN_BUFFER], &receive_buffer));
  REQUIRE(napi_get_value_bool(env, argv[OPEN_ACCEPT_USER], &accept_user));
  REQUIRE(napi_get_value_double(env, argv[OPEN_POLL_NS], &poll_ns));
  REQUIRE(napi_typeof(env, argv[OPEN_BATCH], &batch_type));
  REQUIRE(napi_typeof(env, argv[OPEN_FAULT], &fault_type));
  REQUIRE(napi_typeof(env, argv[OPEN_ADOPT], &adopt_type));
  if (adopt_type != napi_undefined) REQUIRE(napi_get_value_int32(env, argv[OPEN_ADOPT], &adopted));
  REQUIRE(napi_get_uv_event_loop(env, &loop));
  if (arena_bytes != SLOT_BYTES * BATCH_SLOTS_MAX || control_bytes != CONTROL_BYTES || batch_type != napi_function ||
      fault_type != napi_function || !(poll_ns >= 0)) {
    napi_throw_range_error(env, "ERR_INVALID_ARG_VALUE", "dmlog_connector.open: arguments do not match this build");
    return NULL;
  }

  const char *call;
  uint32_t port;
  int32_t real_buffer;
  int fd = adopted < 0 ? open_socket(group, receive_buffer, &port, &real_buffer, &call)
                       : adopt_socket(adopted, group, receive_buffer, &port, &real_buffer, &call);
  if (fd < 0) return throw_errno(env, call, errno);

  connector *self = calloc(1, sizeof *self);
  handle_box *box = calloc(1, sizeof *box);
  int error_number = ENOMEM;
  if (self == NULL || box == NULL) goto failed;
  self->env = env;
  self->box = box;
  self->fd = fd;
  self->accept_user = accept_user;
  self->poll_ns = (uint64_t)poll_ns;
  self->window = BATCH_SLOTS_MAX;
  self->arena = arena;
  self->control = control;
  self->counters = (double *)(self->control + CONTROL_WORDS);
  self->control[CONTROL_PORT] = (int32_t)port;
  self->control[CONTROL_RECEIVE_BUFFER] = real_buffer;
  point_at_slots(self);
  box->self = self;
  self->poll.data = self->idle.data = self;
  error_number = -uv_poll_init(loop, &self->poll, fd);
  if (error_number != 0) goto failed;
  uv_idle_init(loop, &self->idle);
  self->open_handles = 2;
  return attach_to_javascript(self, argv); /* from here libuv owns the struct until both handles are closed */
failed:
  if (adopted < 0) close(fd);
  free(self);
  free(box);
  return throw_errno(env, "open", error_number);
}

/* The connector of the first argument, or NULL when it is closed. */
static connector *get_connector(napi_env env, napi_callback_info info, size_t argc, napi_value *argv) {
  handle_box *box = NULL;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok) return NULL;
  if (napi_get_value_external(env, argv[0], (void **)&box) != napi_ok || box == NULL) return NULL;
  connector *self = box->self;
  return self == NULL || self->close_requested ? NULL : self;
}

/* start(handle): watches the socket from now on. */
static napi_value connector_start(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  connector *self = get_connector(env, info, 1, argv);
  if (self == NULL) return throw_errno(env, "start", EBADF);
  self->paused = false;
  int error_number = uv_poll_start(&self->poll, UV_READABLE, connector_watch_poll);
  return error_number == 0 ? NULL : throw_errno(env, "uv_poll_start", -error_number);
}

/* pause(handle): reads nothing more until the next start(). What arrives waits in the socket. */
static napi_value connector_pause(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  connector *self = get_connector(env, info, 1, argv);
  if (self == NULL) return throw_errno(env, "pause", EBADF);
  self->paused = true;
  self->idle_active = false;
  uv_idle_stop(&self->idle);
  uv_poll_stop(&self->poll);
  return NULL;
}

/* descriptor(handle) → the socket's descriptor, or -1. It stays the addon's. */
static napi_value connector_descriptor(napi_env env, napi_callback_info info) {
  napi_value argv[1], result;
  connector *self = get_connector(env, info, 1, argv);
  napi_create_int32(env, self == NULL ? -1 : self->fd, &result);
  return result;
}

/* send(handle, bytes, port) → 0 or an errno. Counts; the caller reports. */
static napi_value connector_send(napi_env env, napi_callback_info info) {
  napi_value argv[3], result;
  void *bytes = NULL;
  size_t length = 0;
  uint32_t port = 0;
  int32_t error_number = 0;
  connector *self = get_connector(env, info, 3, argv);
  if (self == NULL) {
    error_number = EBADF;
  } else if (napi_get_typedarray_info(env, argv[1], NULL, &length, &bytes, NULL, NULL) != napi_ok ||
             napi_get_value_uint32(env, argv[2], &port) != napi_ok) {
    error_number = EINVAL;
  } else {
    struct sockaddr_nl name = {.nl_family = AF_NETLINK, .nl_pid = port};
    ssize_t sent;
    do {
      sent = sendto(self->fd, bytes, length, MSG_DONTWAIT, (struct sockaddr *)&name, sizeof name);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) error_number = errno;
    /* The kernel's next question follows this answer: look for it, unless we are searching already. */
    if (sent >= 0) connector_search_after_send(self);
  }
  if (self != NULL) self->counters[error_number == 0 ? COUNTER_SENT : COUNTER_SEND_FAILURES] += 1;
  napi_create_int32(env, error_number, &result);
  return result;
}

/* close(handle): at once, or after the batch that is being served. Twice is once. */
static napi_value connector_close(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  connector *self = get_connector(env, info, 1, argv);
  if (self != NULL) request_close(self);
  return NULL;
}

/* availableCpus() → CPUs this thread may run on. */
static napi_value available_cpus(napi_env env, napi_callback_info info) {
  napi_value result;
  cpu_set_t set;
  (void)info;
  CPU_ZERO(&set);
  /* Fails only on machines with more than 1024 CPUs. */
  int32_t count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 2;
  napi_create_int32(env, count, &result);
  return result;
}

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback callback;
  } functions[] = {
      {"open", connector_open},   {"start", connector_start},         {"send", connector_send},
      {"close", connector_close}, {"availableCpus", available_cpus},
      {"pause", connector_pause}, {"descriptor", connector_descriptor},
  };
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    napi_value function;
    if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].callback, NULL, &function) != napi_ok ||
        napi_set_named_property(env, exports, functions[i].name, function) != napi_ok) {
      return NULL;
    }
  }
  return export_process(env, exports) ? exports : NULL;
}
