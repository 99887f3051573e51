/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of a memory pool, for pool.c and pool_share.c.
 */
#ifndef MICA_SIM_CUDA_POOL_H
#define MICA_SIM_CUDA_POOL_H

#include "driver.h"

struct sim_pool {
    uint32_t mark;
    int device;
    bool is_default;
    struct sim_heap *heap; /* NULL before the first allocation */
    int reuse[3];
    uint64_t release_threshold_bytes, max_bytes; /* max 0: all of the device */
    uint32_t handle_types;
    bool exported, imported;
    int share; /* its slot in the table of what others may map */
    uint64_t share_id;
    int fd; /* imported: its owner's memory file */
};

/* The end of what sharing it needed. */
void sim_pool_unshare(CUmemoryPool pool);

#endif
