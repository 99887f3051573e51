/* SPDX-License-Identifier: Apache-2.0
 *
 * Host memory that is pinned for the device: allocated by the driver, or the program's own that is registered. It has a limit of its own, because
 * what is pinned can be taken from nobody else on the machine until it is let go.
 */
#include "memory.h"

static void undo_allocated(uint64_t address)
{
    (void)below_cuMemFreeHost((void *)(uintptr_t)address);
}

static void undo_registered(uint64_t address)
{
    (void)below_cuMemHostUnregister((void *)(uintptr_t)address);
}

static uint64_t address_of(void *const *pointer)
{
    return pointer != NULL ? (uint64_t)(uintptr_t)*pointer : 0;
}

/* A hook that pins `bytes` of host memory; `address` is where, once it is done. */
#define PIN_HOOK(name, params, args, kind, address, undo)                                         \
    EXPORT CUresult name params                                                                   \
    {                                                                                             \
        struct grant grant = grant_take_pinned(bytes);                                            \
        if (grant.result != CUDA_SUCCESS) {                                                       \
            return grant.result;                                                                  \
        }                                                                                         \
        CUresult result = below_##name args;                                                      \
        return grant_keep(&grant, result, kind, result == CUDA_SUCCESS ? (address) : 0, undo);    \
    }

PIN_HOOK(cuMemAllocHost, (void **pointer, unsigned int bytes), (pointer, bytes), KIND_HOST, address_of(pointer), undo_allocated)
PIN_HOOK(cuMemAllocHost_v2, (void **pointer, size_t bytes), (pointer, bytes), KIND_HOST, address_of(pointer), undo_allocated)
PIN_HOOK(cuMemHostAlloc, (void **pointer, size_t bytes, unsigned int flags), (pointer, bytes, flags), KIND_HOST, address_of(pointer), undo_allocated)
PIN_HOOK(cuMemHostRegister, (void *pointer, size_t bytes, unsigned int flags), (pointer, bytes, flags), KIND_REGISTERED, (uint64_t)(uintptr_t)pointer,
         undo_registered)
PIN_HOOK(cuMemHostRegister_v2, (void *pointer, size_t bytes, unsigned int flags), (pointer, bytes, flags), KIND_REGISTERED,
         (uint64_t)(uintptr_t)pointer, undo_registered)

FREE_HOOK(cuMemFreeHost, (void *pointer), (pointer), KIND_HOST, (uint64_t)(uintptr_t)pointer)
FREE_HOOK(cuMemHostUnregister, (void *pointer), (pointer), KIND_REGISTERED, (uint64_t)(uintptr_t)pointer)
