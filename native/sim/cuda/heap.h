/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of a heap, for heap.c and what it leaves to heap_export.c.
 */
#ifndef MICA_SIM_CUDA_HEAP_H
#define MICA_SIM_CUDA_HEAP_H

#include "block.h"

/* Adjacent granules that are one allocation or one block. */
struct run {
    uint64_t first, count;
    size_t bytes; /* of the allocation; 0 for a block */
    unsigned char *host;
    struct block *block;
    bool listed;
    bool exported;
    int share; /* its slot among what others may map */
    uint64_t share_id;
    struct sim_stretch stretch;  /* its contents, once exported */
    struct run *next, *previous; /* blocks that may have room */
};

struct sim_heap {
    int account, device;
    CUcontext context;
    CUmemoryPool pool;
    void *arena;
    CUdeviceptr base; /* in it, at a granule's boundary */
    uint64_t granules;
    uint64_t cursor;
    struct run **table; /* granule -> run */
    struct run *open;   /* blocks that may have room */
    uint64_t kept, threshold_bytes; /* granules; how much may stay reserved after a synchronisation */
    bool keeps, abandoned;
    struct sim_heap_use use;
};

static inline uint64_t round_up(uint64_t bytes, uint64_t step)
{
    return (bytes + step - 1) / step * step;
}

static inline struct run *sim_run_at(const struct sim_heap *heap, CUdeviceptr address)
{
    if (address < heap->base || address - heap->base >= heap->granules * SIM_GRANULE)
        return NULL;
    return heap->table[(address - heap->base) / SIM_GRANULE];
}

static inline CUdeviceptr sim_run_address(const struct sim_heap *heap, const struct run *run, unsigned unit)
{
    return heap->base + run->first * SIM_GRANULE + unit * SIM_UNIT;
}

/* Adjacent free addresses for what the caller has paid, or NULL; and their end. */
struct run *sim_run_open(struct sim_heap *heap, uint64_t count, size_t bytes);
void sim_run_close(struct sim_heap *heap, struct run *run);

/* The heap in a slot of all heaps, or NULL. */
#define HEAPS_MAX 64
struct sim_heap *sim_heap_nth(int slot);

/* Pay for an allocation of `bytes` that occupies `units_bytes`, with `granules` more than now: kept ones first. */
bool sim_heap_charge(struct sim_heap *heap, size_t bytes, uint64_t granules, size_t units_bytes);
void sim_heap_refund(struct sim_heap *heap, size_t bytes, uint64_t granules, size_t units_bytes);

#endif
