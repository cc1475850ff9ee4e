/* Blocking calls: each on a short-lived thread, one at a time per member. Not libuv's pool: its threads are joined at exit, and a stopped corosync never answers. */
#include "member.h"

/* Defined in events.c: they copy the event and return. */
extern cpg_model_v1 member_cpg_model;
extern quorum_model_v1 member_quorum_model;

static int load(session *self) {
  const struct {
    const char *name;
    size_t offset;
    bool quorum;
  } symbols[] = {
#define CPG(name) {#name, offsetof(corosync_api, name), false}
#define QUORUM(name) {#name, offsetof(corosync_api, name), true}
      CPG(cpg_model_initialize),
      CPG(cpg_finalize),
      CPG(cpg_fd_get),
      CPG(cpg_max_atomic_msgsize_get),
      CPG(cpg_local_get),
      CPG(cpg_dispatch),
      CPG(cpg_join),
      CPG(cpg_leave),
      CPG(cpg_mcast_joined),
      QUORUM(quorum_model_initialize),
      QUORUM(quorum_finalize),
      QUORUM(quorum_fd_get),
      QUORUM(quorum_trackstart),
      QUORUM(quorum_dispatch),
  };
  /* Never closed: libqb keeps thread-specific data, and opening a library again costs a reference only. */
  uv_lib_t libraries[2];
  const char *names[2] = {self->cpg_library, self->quorum_library};
  for (int i = 0; i < 2; i++) {
    if (names[i] == NULL || uv_dlopen(names[i], &libraries[i]) == 0) continue;
    snprintf(self->text, sizeof self->text, "%s", uv_dlerror(&libraries[i]));
    uv_dlclose(&libraries[i]);
    return RESULT_NO_LIBRARY;
  }
  for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++) {
    uv_lib_t *library = &libraries[symbols[i].quorum];
    void *address;
    if (names[symbols[i].quorum] == NULL) continue;
    if (uv_dlsym(library, symbols[i].name, &address) != 0) {
      snprintf(self->text, sizeof self->text, "%s has no %s", names[symbols[i].quorum], symbols[i].name);
      return RESULT_NO_SYMBOL;
    }
    memcpy((char *)&self->api + symbols[i].offset, &address, sizeof address);
  }
  self->loaded = true;
  return CS_OK;
}

static void finalize(session *self) {
  if (self->cpg_open) self->api.cpg_finalize(self->cpg);
  if (self->quorum_open) self->api.quorum_finalize(self->quorum);
  self->cpg_open = self->quorum_open = false;
}

#define STEP(call)                                            \
  do {                                                        \
    snprintf(self->text, sizeof self->text, "%s", #call);     \
    char *end = strchr(self->text, '(');                      \
    if (end != NULL) *end = 0;                                \
    result = self->api.call;                                  \
    if (result != CS_OK) {                                    \
      finalize(self);                                         \
      return result;                                          \
    }                                                         \
  } while (0)

/*
 * One session at a time gets its handles: libqb's tables of handles look for a free row without a lock, and two threads then share one (seen as CS_ERR_BAD_HANDLE
 * and CS_ERR_LIBRARY). Who waits here would wait for the same corosync anyway.
 */
static uv_once_t opening_once = UV_ONCE_INIT;
static uv_mutex_t opening;
static void init_opening(void) { uv_mutex_init(&opening); }

/* Quorum first, so that the first ring of the group finds its quorum. */
static int open_handles(session *self) {
  int result;
  if (self->quorum_library != NULL) {
    STEP(quorum_model_initialize(&self->quorum, QUORUM_MODEL_V1, &member_quorum_model, &self->quorum_type, NULL));
    self->quorum_open = true;
    STEP(quorum_trackstart(self->quorum, CS_TRACK_CURRENT | CS_TRACK_CHANGES));
    STEP(quorum_fd_get(self->quorum, &self->quorum_fd));
  }
  STEP(cpg_model_initialize(&self->cpg, CPG_MODEL_V1, &member_cpg_model, NULL));
  self->cpg_open = true;
  STEP(cpg_fd_get(self->cpg, &self->cpg_fd));
  STEP(cpg_max_atomic_msgsize_get(self->cpg, &self->message_bytes_max));
  STEP(cpg_local_get(self->cpg, &self->node_id));
  return CS_OK;
}

static int open_session(session *self) {
  int result = self->loaded ? CS_OK : load(self);
  if (result != CS_OK) return result;
  uv_once(&opening_once, init_opening);
  uv_mutex_lock(&opening);
  result = open_handles(self);
  uv_mutex_unlock(&opening);
  return result;
}

static int perform(session *self) {
  switch (self->job) {
    case JOB_OPEN: return open_session(self);
    case JOB_JOIN:
      snprintf(self->text, sizeof self->text, "cpg_join");
      return self->api.cpg_join(self->cpg, &self->group);
    case JOB_LEAVE:
      snprintf(self->text, sizeof self->text, "cpg_leave");
      return self->api.cpg_leave(self->cpg, &self->group);
    default: finalize(self); return CS_OK;
  }
}

static void session_free(session *self) {
  uv_mutex_destroy(&self->mutex);
  free(self->cpg_library);
  free(self->quorum_library);
  free(self);
}

static void run(void *data) {
  session *self = (session *)data;
  self->result = perform(self);
  uv_mutex_lock(&self->mutex);
  if (self->finalize_wanted && self->job != JOB_FINALIZE) {
    uv_mutex_unlock(&self->mutex);
    finalize(self);
    uv_mutex_lock(&self->mutex);
    self->job = JOB_FINALIZE;
  }
  self->running = false;
  self->done = true;
  bool abandoned = self->abandoned;
  if (!abandoned) uv_async_send(self->async);
  uv_mutex_unlock(&self->mutex);
  if (abandoned) session_free(self);
}

/* Takes the names over, also when it fails. */
session *session_new(uv_async_t *async, const char *group, size_t group_length, char *cpg_library, char *quorum_library) {
  session *self = calloc(1, sizeof *self);
  if (self == NULL || group_length >= CPG_NAME_BYTES || uv_mutex_init(&self->mutex) != 0) {
    free(cpg_library);
    free(quorum_library);
    free(self);
    return NULL;
  }
  self->async = async;
  self->cpg_library = cpg_library;
  self->quorum_library = quorum_library;
  self->group.length = (uint32_t)group_length;
  memcpy(self->group.value, group, group_length);
  self->cpg_fd = self->quorum_fd = -1;
  return self;
}

void session_start(session *self, int job) {
  self->job = job;
  self->done = false;
  self->running = self->has_thread = true;
  if (uv_thread_create(&self->thread, run, self) == 0) return;
  /* No thread to be had. The end of a session does not wait for better times; anything else fails. */
  self->result = job == JOB_FINALIZE ? perform(self) : RESULT_NO_THREAD;
  self->running = self->has_thread = false;
  self->done = true;
  uv_async_send(self->async);
}

bool session_collect(session *self) {
  uv_mutex_lock(&self->mutex);
  bool done = self->done;
  self->done = false;
  uv_mutex_unlock(&self->mutex);
  if (done && self->has_thread) uv_thread_join(&self->thread); /* about to end: it has released the mutex for the last time */
  return done;
}

void session_finalize(session *self) {
  uv_mutex_lock(&self->mutex);
  bool running = self->running;
  self->finalize_wanted = true;
  uv_mutex_unlock(&self->mutex);
  if (running) return;
  session_collect(self);
  session_start(self, JOB_FINALIZE);
}

void session_abandon(session *self) {
  uv_mutex_lock(&self->mutex);
  bool running = self->running;
  self->abandoned = true;
  uv_mutex_unlock(&self->mutex);
  if (running) return; /* its thread frees it */
  session_collect(self);
  session_free(self);
}
