/* SPDX-License-Identifier: Apache-2.0
 *
 * Charging of device memory around a call of the driver: reserve, ask, then remember or give back.
 *
 *     struct grant grant = grant_take(bytes);
 *     if (grant.result != CUDA_SUCCESS) return grant.result;
 *     return grant_keep(&grant, below_cuMemAlloc_v2(pointer, bytes), KIND_POINTER, pointer);
 *
 * Invariant: bytes are charged before the driver can hand them out, and given back after the driver has taken them back, exactly once.
 */
#ifndef MICA_SHIM_CUDA_MEMORY_H
#define MICA_SHIM_CUDA_MEMORY_H

#include "context.h"

/* Handles of different kinds may have equal values. */
enum handle_kind { KIND_POINTER = 0, KIND_ARRAY = 1 };

struct grant {
    CUresult result; /* not CUDA_SUCCESS: do not ask the driver, answer this */
    bool is_charged; /* false: this call is not enforced */
    uint16_t owner;
    uint64_t bytes;
};

/* Charge the device of the current context. */
struct grant grant_take(uint64_t bytes);
/* Charge `ordinal`'s device, for memory that belongs to no context. */
struct grant grant_take_on(CUdevice ordinal, uint64_t bytes);

/* The driver has answered: remember the charge under `handle`, or give it back. `undo` frees what cannot be remembered. */
CUresult grant_keep(const struct grant *grant, CUresult result, enum handle_kind kind, uint64_t handle, void (*undo)(uint64_t handle));

/* What was charged for a handle that is about to be freed: taken out of the live table, so that nobody else gives it back. */
struct held {
    bool is_found;
    uint64_t bytes;
    uint16_t owner;
};
struct held held_take(enum handle_kind kind, uint64_t handle);
/* The driver has answered: give the charge back, or put it back if the handle is not freed after all. */
CUresult held_give_back(const struct held *held, CUresult result, enum handle_kind kind, uint64_t handle);

/* In a forked child: the parent's physical memory is the parent's. */
void physical_forget(void);

#endif
