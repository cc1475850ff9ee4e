/* What the driver can play: named sequences of requests, as the kernel sends them. */
#ifndef DMLOG_BENCH_SCRIPTS_H
#define DMLOG_BENCH_SCRIPTS_H

#include "wire.h"

/* One row of the report. The same request type may have several, since its cost depends on what came before. */
enum label {
  L_CTR, L_GET_REGION_SIZE, L_RESUME, L_PRESUSPEND, L_POSTSUSPEND, L_DTR,
  L_IN_SYNC, L_IS_CLEAN, L_MARK, L_FLUSH_MARKS, L_CLEAR, L_FLUSH_CLEARS,
  L_GET_RESYNC_WORK, L_SET_REGION_SYNC, L_SET_REGION_UNSYNC, L_GET_SYNC_COUNT,
  L_STATUS_INFO, L_IS_REMOTE_RECOVERING, L_MARK_32, L_CLEAR_32, L_FAR_WORK,
  LABELS,
};

static const char *const label_names[LABELS] = {
  "CTR", "GET_REGION_SIZE", "RESUME", "PRESUSPEND", "POSTSUSPEND", "DTR",
  "IN_SYNC", "IS_CLEAN", "MARK_REGION", "FLUSH after marks", "CLEAR_REGION", "FLUSH after clears",
  "GET_RESYNC_WORK", "SET_REGION_SYNC 1", "SET_REGION_SYNC 0", "GET_SYNC_COUNT",
  "STATUS_INFO", "IS_REMOTE_RECOVERING", "MARK_REGION x32", "CLEAR_REGION x32", "GET_RESYNC_WORK, far",
};

struct step {
  uint8_t type;
  uint8_t label;
  /* SET_REGION_SYNC: the new state. MARK, CLEAR: how many regions. */
  uint8_t argument;
};

enum { STEPS_MAX = 24, MARKS_MAX = 32 };

struct script {
  const char *name;
  /* Work is not at the lane's own region but at the one that GET_RESYNC_WORK named. */
  int follows_work;
  struct step steps[STEPS_MAX]; /* ends at type 0 */
};

static const struct script script_open = {"open", 0, {{CTR, L_CTR, 0}, {GET_REGION_SIZE, L_GET_REGION_SIZE, 0}, {RESUME, L_RESUME, 0}}};
static const struct script script_close = {"close", 0, {{PRESUSPEND, L_PRESUSPEND, 0}, {POSTSUSPEND, L_POSTSUSPEND, 0}, {DTR, L_DTR, 0}}};

static const struct script scripts[] = {
  /* An idle region's write (kernel-interface facts; dm-raid1.c do_writes, dm-region-hash.c). */
  {"write", 0, {
    {IN_SYNC, L_IN_SYNC, 0}, {IN_SYNC, L_IN_SYNC, 0}, {MARK_REGION, L_MARK, 1}, {FLUSH, L_FLUSH_MARKS, 0},
    {CLEAR_REGION, L_CLEAR, 1}, {FLUSH, L_FLUSH_CLEARS, 0}}},
  /* One region of a resync. */
  {"resync", 1, {
    {GET_RESYNC_WORK, L_GET_RESYNC_WORK, 0}, {IN_SYNC, L_IN_SYNC, 0}, {GET_SYNC_COUNT, L_GET_SYNC_COUNT, 0},
    {SET_REGION_SYNC, L_SET_REGION_SYNC, 1}, {CLEAR_REGION, L_CLEAR, 1}, {FLUSH, L_FLUSH_CLEARS, 0}}},
  /* Every type that a resumed log gets, once each. */
  {"types", 0, {
    {IN_SYNC, L_IN_SYNC, 0}, {IS_CLEAN, L_IS_CLEAN, 0}, {MARK_REGION, L_MARK, 1}, {FLUSH, L_FLUSH_MARKS, 0},
    {CLEAR_REGION, L_CLEAR, 1}, {FLUSH, L_FLUSH_CLEARS, 0}, {MARK_REGION, L_MARK_32, MARKS_MAX},
    {FLUSH, L_FLUSH_MARKS, 0}, {CLEAR_REGION, L_CLEAR_32, MARKS_MAX}, {FLUSH, L_FLUSH_CLEARS, 0},
    {SET_REGION_SYNC, L_SET_REGION_UNSYNC, 0}, {GET_RESYNC_WORK, L_GET_RESYNC_WORK, 0},
    {SET_REGION_SYNC, L_SET_REGION_SYNC, 1}, {GET_SYNC_COUNT, L_GET_SYNC_COUNT, 0},
    {STATUS_INFO, L_STATUS_INFO, 0}, {IS_REMOTE_RECOVERING, L_IS_REMOTE_RECOVERING, 0},
    {GET_REGION_SIZE, L_GET_REGION_SIZE, 0}}},
  {"in_sync", 0, {{IN_SYNC, L_IN_SYNC, 0}}},
  /* The life of a table in which one region falls out of sync before work is asked for: the search for it passes all others.
   * Its logs are opened by the script itself, not by "open". */
  {"lifecycle", 0, {
    {CTR, L_CTR, 0}, {GET_REGION_SIZE, L_GET_REGION_SIZE, 0}, {RESUME, L_RESUME, 0},
    {SET_REGION_SYNC, L_SET_REGION_UNSYNC, 0}, {GET_RESYNC_WORK, L_FAR_WORK, 0}, {SET_REGION_SYNC, L_SET_REGION_SYNC, 1},
    {PRESUSPEND, L_PRESUSPEND, 0}, {POSTSUSPEND, L_POSTSUSPEND, 0}, {DTR, L_DTR, 0}}},
};

#endif
