/* The logs and lanes that the driver plays, and what it demands of a reply. */
#ifndef DMLOG_BENCH_CHECK_H
#define DMLOG_BENCH_CHECK_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "scripts.h"

enum { ARGS_BYTES = 300 };

struct log {
  char uuid[UUID_BYTES];
  char payload[ARGS_BYTES + 32];
  uint64_t luid, regions, size, cursor;
  int known;
};

struct lane {
  const struct script *script;
  struct log *log;
  uint32_t step, seq, repeats;
  int active, busy, unmeasured;
  uint64_t region, began, cycle_began;
  uint64_t marks[MARKS_MAX];
};

struct run {
  const struct script *script;
  const char *pattern;
  uint64_t ms, cycles, lanes, log, logs, strict, spin;
};

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Prints the reason as JSON and ends the driver. */
static inline _Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *format, ...) {
  char text[512];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  for (char *c = text; *c; c++)
    if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ') *c = '\'';
  printf("{\"fail\":\"%s\"}\n", text);
  exit(1);
}

static inline const struct step *current(const struct lane *lane) { return &lane->script->steps[lane->step]; }

/* Ends the driver unless the kernel would accept this answer. `strict`: nor what only a real log can know. */
static inline void check_values(const struct lane *lane, const uint8_t *data, int strict) {
  const struct step *step = current(lane);
  const char *name = label_names[step->label];
  const uint64_t first = get64(data), count = lane->log->regions;
  const int resync = lane->script->follows_work;
  switch (step->type) {
    case GET_REGION_SIZE:
      if (first != lane->log->size) fail("%s: %llu, not %llu", name, (unsigned long long)first, (unsigned long long)lane->log->size);
      break;
    case IS_CLEAN: case IN_SYNC:
      if (first > 1) fail("%s: %llu is neither 0 nor 1", name, (unsigned long long)first);
      if (strict && step->type == IN_SYNC && first != (resync ? 0 : 1))
        fail("%s: region %llu says %llu", name, (unsigned long long)lane->region, (unsigned long long)first);
      break;
    case GET_SYNC_COUNT:
      if (first > count || (strict && !resync && first != count)) fail("%s: %llu of %llu", name, (unsigned long long)first, (unsigned long long)count);
      break;
    case GET_RESYNC_WORK:
      if (first > 1 || (first == 1 && get64(data + 8) >= count)) fail("%s: work %llu at region %llu of %llu", name, (unsigned long long)first, (unsigned long long)get64(data + 8), (unsigned long long)count);
      /* A region that falls out of sync behind the search may wait for the next RESUME, as in the kernel's own log. */
      if (strict && !resync && (first ? get64(data + 8) != lane->region : step->label == L_FAR_WORK))
        fail("%s: work %llu at %llu, but only region %llu is not in sync", name, (unsigned long long)first, (unsigned long long)get64(data + 8), (unsigned long long)lane->region);
      break;
    case IS_REMOTE_RECOVERING:
      if (first > 1 || get64(data + 8) > count) fail("%s: %llu, hint %llu", name, (unsigned long long)first, (unsigned long long)get64(data + 8));
      break;
    case STATUS_INFO:
      if (data[0] < '1' || data[0] > '9') fail("%s: not a status text", name);
      break;
  }
}

/* Data bytes that the kernel expects, as a closed range. */
static inline void expected_bytes(uint8_t type, uint32_t *least, uint32_t *most) {
  *least = *most = 0;
  switch (type) {
    case CTR: *most = 128; break; /* DM_NAME_LEN */
    case GET_REGION_SIZE: case IS_CLEAN: case IN_SYNC: case GET_SYNC_COUNT: *least = *most = 8; break;
    case GET_RESYNC_WORK: case IS_REMOTE_RECOVERING: *least = *most = 16; break;
    case STATUS_INFO: *least = 1; *most = 1024; break;
  }
}

#endif
