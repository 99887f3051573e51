/* SPDX-License-Identifier: Apache-2.0
 *
 * Between pool.c, which keeps the books of pools, and pool_calls.c, which hooks the calls.
 */
#ifndef MICA_SHIM_CUDA_POOL_BOOKS_H
#define MICA_SHIM_CUDA_POOL_BOOKS_H

#include "pool.h"

struct pool {
    _Atomic(CUmemoryPool) handle; /* NULL: not in use, or destroyed with memory out */
    struct mica_device *device;   /* NULL: of a device that is not the slice's, or another process's */
    enum mica_memory_kind kind;
    bool is_owned;              /* false: imported, and charged to whom it came from */
    _Atomic bool is_destroyed;  /* its handle is gone; what is out is given back as it is freed */
    _Atomic uint64_t used;      /* bytes, rounded */
    _Atomic uint64_t charged;   /* written under `settling` only */
    _Atomic bool is_tight;      /* the slice had little left when the driver was asked last */
    _Atomic unsigned fitted;    /* allocations since the driver was asked */
};

uint16_t pool_owner(const struct pool *pool);

/* The pool behind a handle, or NULL. The second remembers what this thread asked for last. */
struct pool *pool_find(CUmemoryPool handle);
struct pool *pool_of(CUmemoryPool handle);
/* Enter a pool that is seen for the first time, in a memory of the driver's location types. NULL: there are too many. */
struct pool *pool_enter(CUmemoryPool handle, int location_type, CUdevice ordinal, bool is_owned);
/* End it with the driver's call: what is unused goes with it, and what is out is given back as it is freed. */
CUresult pool_end(struct pool *pool, CUmemoryPool handle);

/* The current pool of a device; NULL: there is none. */
struct pool *pool_current(CUdevice ordinal);
/* Another pool may have become the device's current one. */
void pool_current_changed(CUdevice ordinal);

/* What is used is more than what is charged: charge the rest, of what the driver's pools keep unused if need be. */
enum mica_verdict pool_grow(struct pool *pool);
/* Make the charge what the driver has reserved. Not granted: it has reserved more than the slice may have. */
enum mica_verdict pool_settle(struct pool *pool);

#endif
