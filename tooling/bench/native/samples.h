/* Round-trip samples in nanoseconds, and their summary as JSON. */
#ifndef DMLOG_BENCH_SAMPLES_H
#define DMLOG_BENCH_SAMPLES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Per row and run; what comes after is counted, but not kept. */
enum { SAMPLES_MAX = 1 << 18 };

struct samples {
  uint32_t *ns;
  uint32_t kept;
  uint64_t count;
  uint64_t total_ns;
};

static inline void sample_add(struct samples *s, uint64_t ns) {
  if (!s->ns && !(s->ns = malloc(SAMPLES_MAX * sizeof *s->ns))) abort();
  if (s->kept < SAMPLES_MAX) s->ns[s->kept++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
  s->count++;
  s->total_ns += ns;
}

static inline void samples_reset(struct samples *s) {
  s->kept = 0;
  s->count = s->total_ns = 0;
}

static inline int sample_order(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

/* Nearest rank: the smallest sample that at least `parts` of 1000 do not exceed. */
static inline uint32_t sample_rank(const struct samples *s, uint64_t parts) {
  uint64_t rank = (s->kept * parts + 999) / 1000;
  return s->ns[rank > 0 ? rank - 1 : 0];
}

static inline void samples_print(struct samples *s) {
  qsort(s->ns, s->kept, sizeof *s->ns, sample_order);
  printf("{\"count\":%llu,\"mean\":%.0f,\"min\":%u,\"p50\":%u,\"p90\":%u,\"p99\":%u,\"p999\":%u,\"max\":%u}",
         (unsigned long long)s->count, (double)s->total_ns / (double)s->count, s->ns[0], sample_rank(s, 500),
         sample_rank(s, 900), sample_rank(s, 990), sample_rank(s, 999), s->ns[s->kept - 1]);
}

#endif
