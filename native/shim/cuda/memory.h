/* SPDX-License-Identifier: Apache-2.0
 *
 * Charging of memory around a call of the driver: reserve, ask, then remember or give back.
 *
 *     struct grant grant = grant_take(bytes);
 *     if (grant.result != CUDA_SUCCESS) return grant.result;
 *     CUresult result = below_cuMemAlloc_v2(pointer, bytes);
 *     return grant_keep(&grant, result, KIND_POINTER, *pointer, undo_pointer);
 *
 * Invariant: bytes are charged before the driver can hand them out, and given back after the driver has taken them back, exactly once.
 */
#ifndef MICA_SHIM_CUDA_MEMORY_H
#define MICA_SHIM_CUDA_MEMORY_H

#include "../core/live.h"
#include "context.h"

/* Handles of different kinds may have equal values. */
enum handle_kind { KIND_POINTER = 0, KIND_ARRAY = 1, KIND_HOST = 2, KIND_REGISTERED = 3, KIND_MODULE = 4, KIND_LIBRARY = 5, KIND_CONTEXT = 6 };

static inline uint64_t key_of(enum handle_kind kind, uint64_t handle)
{
    return handle ^ (uint64_t)kind << 61; /* above every address of user space */
}

struct grant {
    CUresult result; /* not CUDA_SUCCESS: do not ask the driver, answer this */
    bool is_charged; /* false: this call is not enforced */
    uint16_t owner;
    uint64_t bytes;
};

/* Charge device memory to the current context. */
struct grant grant_take(uint64_t bytes);
/* Charge host memory that is pinned by the current context. */
struct grant grant_take_pinned(uint64_t bytes);
/* Charge device memory to `ordinal`'s device, or pinned memory to the slice, for what belongs to no context. */
struct grant grant_take_on(CUdevice ordinal, uint64_t bytes);
struct grant grant_take_on_host(uint64_t bytes);

/* The driver has answered: remember the charge under `handle`, or give it back. `undo` frees what cannot be remembered. */
CUresult grant_keep(const struct grant *grant, CUresult result, enum handle_kind kind, uint64_t handle, void (*undo)(uint64_t handle));
/* The same where only the answer told what it costs: charge the rest or give the excess back first. The rest may not fit: then it is undone. */
CUresult grant_settle(struct grant *grant, CUresult result, uint64_t bytes, enum handle_kind kind, uint64_t handle, void (*undo)(uint64_t handle));
/* Nothing was made: give the charge back. */
void grant_cancel(const struct grant *grant);

/* What was charged for a handle that is about to be freed: taken out of the live table, so that nobody else gives it back. */
struct held {
    bool is_found;
    uint64_t bytes;
    uint16_t owner;
};
struct held held_take(enum handle_kind kind, uint64_t handle);
/* The driver has answered: give the charge back, or put it back if the handle is not freed after all. */
CUresult held_give_back(const struct held *held, CUresult result, enum handle_kind kind, uint64_t handle);

/* Give back what an entry of the live table was charged. */
void entry_give_back(struct mica_live_entry entry);

/* A hook that frees `handle`. */
#define FREE_HOOK(name, params, args, kind, handle)                    \
    EXPORT CUresult name params                                        \
    {                                                                  \
        struct held held = held_take(kind, handle);                    \
        return held_give_back(&held, below_##name args, kind, handle); \
    }

/* Remember what came out of a pool. */
bool pointer_remember(CUdeviceptr pointer, uint64_t bytes, uint16_t owner);

/* In a forked child: the parent's physical memory is the parent's. */
void physical_forget(void);

#endif
