/* SPDX-License-Identifier: Apache-2.0
 *
 * A granule shared by allocations below its size; see block.c.
 */
#ifndef MICA_SIM_CUDA_BLOCK_H
#define MICA_SIM_CUDA_BLOCK_H

#include "driver.h"

#define UNITS (SIM_GRANULE / SIM_UNIT)

struct block {
    unsigned free_units;
    unsigned cursor; /* no hole was left below */
    struct block *spare;
    uint64_t used[UNITS / 64]; /* a bit for each unit */
    uint32_t bytes[UNITS];     /* where an allocation starts: its size */
};

/* With all units free; NULL when there is no memory. */
struct block *sim_block_new(void);
void sim_block_free(struct block *block);
unsigned sim_block_units(size_t bytes);
/* First unit of a hole, taken for `bytes` in `units` units, or -1. */
int sim_block_take(struct block *block, unsigned units, size_t bytes);
/* Free the allocation that starts at `unit`. Returns its size. */
size_t sim_block_give(struct block *block, unsigned unit);

#endif
