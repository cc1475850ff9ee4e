/*
 * A file's bytes as memory: map(fd, bytes) -> ArrayBuffer, shared with the file (MAP_SHARED); unmap(buffer) gives it back.
 *
 * What is written there is in the file at once and outlives the process, because the memory belongs to the file and not to the process. Space
 * is taken first: a page that a full file system cannot supply would end the process by SIGBUS at its first touch, long after
 * the only moment at which somebody could do without it.
 *
 * No policy lives here, no globals: it may be loaded into any number of threads. Plain Node-API 8: one binary serves Node 20 and later.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#define NAPI_VERSION 8

#include <errno.h>
#include <fcntl.h>
#include <node_api.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <uv.h>

/* ArrayBuffers are limited by the engine well above this, file offsets too: 2^32 - 1 regions need below 3 GiB. */
#define MAP_BYTES_MAX 8589934592.0
#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define PAGE_BYTES ((size_t)4096)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

static napi_value throw_errno(napi_env env, const char *call, int error_number) {
  char code[32], text[160];
  snprintf(code, sizeof code, "%s", uv_err_name(-error_number));
  snprintf(text, sizeof text, "%s: %s", call, uv_strerror(-error_number));
  napi_throw_error(env, code, text);
  return NULL;
}

static void on_collected(napi_env env, void *memory, void *hint) {
  (void)env;
  munmap(memory, (size_t)(uintptr_t)hint);
}

/*
 * Maps the file at an address that huge pages may begin at, and asks for them: bits of large logs are touched at random, and with pages of 4 KiB
 * each touch costs a walk of the page tables (measured with 2^27 regions: 60 ns). Best effort, as the kernel may not know the call (before 6.1) or
 * have no huge page; the fallback is the plain mapping.
 */
static void *map_file(int fd, size_t bytes) {
  if (bytes < HUGE_PAGE_BYTES) return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const size_t reserved = bytes + 2 * HUGE_PAGE_BYTES;
  uint8_t *place = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) return MAP_FAILED;
  uint8_t *aligned = (uint8_t *)(((uintptr_t)place + HUGE_PAGE_BYTES - 1) & ~(uintptr_t)(HUGE_PAGE_BYTES - 1));
  uint8_t *end = (uint8_t *)(((uintptr_t)aligned + bytes + PAGE_BYTES - 1) & ~(uintptr_t)(PAGE_BYTES - 1));
  void *memory = mmap(aligned, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
  const int error_number = errno;
  if (memory == MAP_FAILED) {
    munmap(place, reserved);
    errno = error_number;
    return MAP_FAILED;
  }
  if (aligned > place) munmap(place, (size_t)(aligned - place));
  munmap(end, (size_t)(place + reserved - end));
  madvise(memory, bytes & ~(HUGE_PAGE_BYTES - 1), MADV_COLLAPSE);
  return memory;
}

/* map(fd, bytes): the file is made `bytes` long if it is shorter. The caller may close fd at once. */
static napi_value mapping_map(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2], result;
  int32_t fd;
  double wanted;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 2 ||
      napi_get_value_int32(env, argv[0], &fd) != napi_ok || napi_get_value_double(env, argv[1], &wanted) != napi_ok ||
      !(wanted >= 1 && wanted <= MAP_BYTES_MAX) || wanted != (double)(uint64_t)wanted) {
    napi_throw_type_error(env, "ERR_INVALID_ARG_VALUE", "map(fd, bytes): a descriptor and a size from 1 byte to 8 GiB");
    return NULL;
  }
  const size_t bytes = (size_t)wanted;
  const int refused = posix_fallocate(fd, 0, (off_t)bytes);
  if (refused != 0) return throw_errno(env, "posix_fallocate", refused);
  void *memory = map_file(fd, bytes);
  if (memory == MAP_FAILED) return throw_errno(env, "mmap", errno);
  /* A child, should there ever be one, has no business with the state. */
  madvise(memory, bytes, MADV_DONTFORK);
  if (napi_create_external_arraybuffer(env, memory, bytes, on_collected, (void *)(uintptr_t)bytes, &result) != napi_ok) {
    munmap(memory, bytes);
    return throw_errno(env, "napi_create_external_arraybuffer", ENOTSUP);
  }
  return result;
}

/*
 * unmap(buffer): detaches it, so that the engine frees the memory at its next turn and not at some collection. All views of it have length 0 from
 * now on. Twice is once.
 */
static napi_value mapping_unmap(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argv[1];
  bool detached = false;
  if (napi_get_cb_info(env, info, &argc, argv, NULL, NULL) != napi_ok || argc != 1 ||
      napi_is_detached_arraybuffer(env, argv[0], &detached) != napi_ok ||
      (!detached && napi_detach_arraybuffer(env, argv[0]) != napi_ok)) {
    napi_throw_type_error(env, "ERR_INVALID_ARG_VALUE", "unmap(buffer): an ArrayBuffer of map");
  }
  return NULL;
}

NAPI_MODULE_INIT() {
  static const struct {
    const char *name;
    napi_callback callback;
  } functions[] = {{"map", mapping_map}, {"unmap", mapping_unmap}};
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    napi_value function;
    if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].callback, NULL, &function) != napi_ok ||
        napi_set_named_property(env, exports, functions[i].name, function) != napi_ok) {
      return NULL;
    }
  }
  return exports;
}
