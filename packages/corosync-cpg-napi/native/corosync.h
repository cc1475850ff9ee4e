/*
 * The part of corosync's C interface that is used here, declared from its ABI (libcpg.so.4, libquorum.so.5; model v1 of both). The libraries are opened at
 * run time, so neither they nor their headers are needed to build or to load the addon.
 */
#ifndef COROSYNC_ABI_H
#define COROSYNC_ABI_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { CS_OK = 1, CS_ERR_LIBRARY = 2, CS_ERR_TRY_AGAIN = 6, CS_ERR_NO_MEMORY = 8 };
enum { CS_DISPATCH_ONE_NONBLOCKING = 4 };
enum { CS_TRACK_CURRENT = 1, CS_TRACK_CHANGES = 2 };
enum { CPG_TYPE_AGREED = 2 };
enum { CPG_MODEL_V1 = 1, CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF = 1 };
enum { QUORUM_MODEL_V1 = 1 };

#define CPG_NAME_BYTES 128

typedef struct {
  uint32_t length;
  char value[CPG_NAME_BYTES];
} cpg_name;

typedef struct {
  uint32_t node_id, pid, reason;
} cpg_address;

/* Passed by value: 16 bytes, four of them padding. */
typedef struct {
  uint32_t node_id;
  uint64_t seq;
} corosync_ring_id;

typedef struct {
  int model;
  void (*deliver)(uint64_t handle, const cpg_name *group, uint32_t node_id, uint32_t pid, void *bytes, size_t length);
  void (*confchg)(uint64_t handle, const cpg_name *group, const cpg_address *members, size_t member_count,
                  const cpg_address *left, size_t left_count, const cpg_address *joined, size_t joined_count);
  void (*totem_confchg)(uint64_t handle, corosync_ring_id ring, uint32_t node_count, const uint32_t *nodes);
  unsigned int flags;
} cpg_model_v1;

typedef struct {
  int model;
  void (*quorum)(uint64_t handle, uint32_t quorate, corosync_ring_id ring, uint32_t node_count, const uint32_t *nodes);
  void (*nodelist)(uint64_t handle, corosync_ring_id ring, uint32_t node_count, const uint32_t *nodes, uint32_t joined_count,
                   const uint32_t *joined, uint32_t left_count, const uint32_t *left);
} quorum_model_v1;

/* Every function that is looked up. All return a cs_error_t. */
typedef struct {
  int (*cpg_model_initialize)(uint64_t *handle, int model, cpg_model_v1 *data, void *context);
  int (*cpg_finalize)(uint64_t handle);
  int (*cpg_fd_get)(uint64_t handle, int *fd);
  int (*cpg_max_atomic_msgsize_get)(uint64_t handle, uint32_t *size);
  int (*cpg_local_get)(uint64_t handle, unsigned int *node_id);
  int (*cpg_dispatch)(uint64_t handle, int flags);
  int (*cpg_join)(uint64_t handle, const cpg_name *group);
  int (*cpg_leave)(uint64_t handle, const cpg_name *group);
  int (*cpg_mcast_joined)(uint64_t handle, int guarantee, const struct iovec *parts, unsigned int count);
  int (*quorum_model_initialize)(uint64_t *handle, int model, quorum_model_v1 *data, uint32_t *type, void *context);
  int (*quorum_finalize)(uint64_t handle);
  int (*quorum_fd_get)(uint64_t handle, int *fd);
  int (*quorum_trackstart)(uint64_t handle, unsigned int flags);
  int (*quorum_dispatch)(uint64_t handle, int flags);
} corosync_api;

#endif
