/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory pools: what is allocated in stream order comes out of a pool, and goes back to it. The driver keeps memory in a pool that nobody uses at the
 * moment; as long as it does, nobody else can have it.
 *
 *     used      what was handed out by this process and is not freed yet
 *     charged   what the slice was charged for the pool: at least what the driver has reserved for it
 *
 * An allocation that fits between the two touches nothing but the pool's own words. One that does not is charged first; then the driver is asked what
 * it has reserved, and the charge follows that. It is lowered where the driver lets go of memory: when a pool is trimmed, and when a program waits.
 */
#ifndef MICA_SHIM_CUDA_POOL_H
#define MICA_SHIM_CUDA_POOL_H

#include "context.h"

/* An entry of the live table that came out of a pool has been freed. */
void pool_returned(uint16_t owner, uint64_t bytes);

/* The slice is full on this device: make the driver let go of what its pools keep unused. True: there is more room now. */
bool pools_relieve(const struct mica_device *device, enum mica_memory_kind kind);

/* Ask again what the pools have reserved, where less is used than charged. */
void pools_settle(void);

/* A context has ended. What is in a pool outlives it, unless the driver says that nothing is in use there any more. */
void pools_after_context(void);

/* In a forked child. */
void pools_forget(void);

#endif
