/*
 * What a daemon in the I/O path needs of its process and Node does not offer: a word, with a descriptor, to the service manager; PR_SET_IO_FLUSHER; a new program
 * in the same process, which alone makes every thread of it a flusher; and mappings that stay in memory. System calls only, no policy, no state.
 */
#include "dmlog_connector.h"

#include <stddef.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/un.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57 /* Linux 5.6 */
#define PR_GET_IO_FLUSHER 58
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif

/* Words of a command line and of an environment; a kernel takes more, a daemon has fewer. */
#define WORDS_MAX 4096
#define TEXT_BYTES_MAX 4096

static napi_value errno_value(napi_env env, int error_number) {
  napi_value result;
  napi_create_int32(env, error_number, &result);
  return result;
}

/* Sends `text`, and `fd` where it is not negative, to a datagram socket. Never waits: a full queue is EAGAIN. */
static int send_note(const char *address, size_t address_bytes, char *text, size_t text_bytes, int fd) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  struct iovec part = {.iov_base = text, .iov_len = text_bytes};
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {0};
  struct msghdr message = {.msg_name = &name, .msg_iov = &part, .msg_iovlen = 1};
  if (address_bytes < 2 || address_bytes >= sizeof name.sun_path) return EINVAL;
  memcpy(name.sun_path, address, address_bytes);
  message.msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + address_bytes);
  if (address[0] == '@') {
    name.sun_path[0] = '\0'; /* abstract: no NUL at its end */
  } else {
    message.msg_namelen++;
  }
  if (fd >= 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  int via = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (via < 0) return errno;
  ssize_t sent;
  do {
    sent = sendmsg(via, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  const int error_number = sent < 0 ? errno : 0;
  close(via);
  return error_number;
}

/* notify(address, text, fd) → 0 or an errno. `address` as in NOTIFY_SOCKET; `fd` -1: none. */
static napi_value process_notify(napi_env env, napi_callback_info info) {
  size_t argc = 3, address_bytes, text_bytes;
  napi_value argv[3];
  char address[128], text[TEXT_BYTES_MAX];
  int32_t fd;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok ||
      napi_get_value_string_utf8(env, argv[0], address, sizeof address, &address_bytes) != napi_ok ||
      napi_get_value_string_utf8(env, argv[1], text, sizeof text, &text_bytes) != napi_ok ||
      napi_get_value_int32(env, argv[2], &fd) != napi_ok) {
    return errno_value(env, EINVAL);
  }
  return errno_value(env, send_note(address, address_bytes, text, text_bytes, fd));
}

/* isIoFlusher() → 1, 0 or a negative errno. */
static napi_value process_is_flusher(napi_env env, napi_callback_info info) {
  (void)info;
  const int state = prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0);
  return errno_value(env, state < 0 ? -errno : state);
}

/* becomeIoFlusher() → 0 or an errno. Of this thread, of those that it makes and of the program that it executes. */
static napi_value process_become_flusher(napi_env env, napi_callback_info info) {
  (void)info;
  return errno_value(env, prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0 ? 0 : errno);
}

/* lockMapping(start, end) → 0 or an errno. What is in memory of it stays, and so does what is touched later. */
static napi_value process_lock_mapping(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  double start, end;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || napi_get_value_double(env, argv[0], &start) != napi_ok ||
      napi_get_value_double(env, argv[1], &end) != napi_ok || !(start >= 0 && end > start && end < 9007199254740992.0)) {
    return errno_value(env, EINVAL);
  }
  const long locked = syscall(SYS_mlock2, (uintptr_t)start, (size_t)(end - start), MLOCK_ONFAULT);
  return errno_value(env, locked == 0 ? 0 : errno);
}

/* lockFile(fd) → 0 or an errno: EWOULDBLOCK where another process holds it. Ends with the last descriptor of this opening, that is with the process. */
static napi_value process_lock_file(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1];
  int32_t fd;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || napi_get_value_int32(env, argv[0], &fd) != napi_ok) {
    return errno_value(env, EINVAL);
  }
  return errno_value(env, syscall(SYS_flock, fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno);
}

static void free_words(char **words) {
  if (words == NULL) return;
  for (size_t i = 0; words[i] != NULL; i++) free(words[i]);
  free(words);
}

/* An array of strings as execve wants it, or NULL. */
static char **read_words(napi_env env, napi_value array) {
  uint32_t count;
  if (napi_get_array_length(env, array, &count) != napi_ok || count > WORDS_MAX) return NULL;
  char **words = calloc(count + 1u, sizeof *words);
  for (uint32_t i = 0; words != NULL && i < count; i++) {
    napi_value value;
    size_t bytes;
    if (napi_get_element(env, array, i, &value) != napi_ok ||
        napi_get_value_string_utf8(env, value, NULL, 0, &bytes) != napi_ok || (words[i] = malloc(bytes + 1)) == NULL ||
        napi_get_value_string_utf8(env, value, words[i], bytes + 1, &bytes) != napi_ok) {
      free_words(words);
      return NULL;
    }
  }
  return words;
}

/* execute(file, argv, environment, descriptors) → an errno, or never. `descriptors` below that number stay open. */
static napi_value process_execute(napi_env env, napi_callback_info info) {
  size_t argc = 4, bytes;
  napi_value argv[4];
  char file[TEXT_BYTES_MAX];
  int32_t descriptors;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok ||
      napi_get_value_string_utf8(env, argv[0], file, sizeof file, &bytes) != napi_ok ||
      napi_get_value_int32(env, argv[3], &descriptors) != napi_ok) {
    return errno_value(env, EINVAL);
  }
  char **words = read_words(env, argv[1]), **environment = read_words(env, argv[2]);
  int error_number = EINVAL;
  if (words != NULL && environment != NULL) {
    /* Node has marked what it inherited as not to be inherited again. */
    for (int fd = 0; fd < descriptors; fd++) {
      const int flags = fcntl(fd, F_GETFD);
      if (flags >= 0) fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
    }
    execve(file, words, environment);
    error_number = errno;
  }
  free_words(words);
  free_words(environment);
  return errno_value(env, error_number);
}

bool export_process(napi_env env, napi_value exports) {
  static const struct {
    const char *name;
    napi_callback callback;
  } functions[] = {
      {"notify", process_notify},
      {"isIoFlusher", process_is_flusher},
      {"becomeIoFlusher", process_become_flusher},
      {"lockMapping", process_lock_mapping},
      {"execute", process_execute},
      {"lockFile", process_lock_file},
  };
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    napi_value function;
    if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].callback, NULL, &function) != napi_ok ||
        napi_set_named_property(env, exports, functions[i].name, function) != napi_ok) {
      return false;
    }
  }
  return true;
}
