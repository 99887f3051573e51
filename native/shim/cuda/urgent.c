/* SPDX-License-Identifier: Apache-2.0
 *
 * Handles of communication are kept in a small set, filled when the program asks for a kernel by name or makes a stream with a priority. Programs
 * that do neither never look into it.
 */
#include "urgent.h"

#include <string.h>

#define HANDLES 512
#define PROBES 8

static _Atomic uintptr_t handles[HANDLES];
static _Atomic int count;

/* How the kernels of collective libraries begin. */
static const char *const prefixes[] = {"nccl", "nvshmem", "msccl"};

static unsigned slot_of(uintptr_t handle)
{
    return (unsigned)((handle * 0x9e3779b97f4a7c15ULL) >> 40) % HANDLES;
}

static void remember(const void *handle)
{
    for (unsigned i = 0; i < PROBES; i++) {
        uintptr_t none = 0;
        _Atomic uintptr_t *slot = &handles[(slot_of((uintptr_t)handle) + i) % HANDLES];
        if (atomic_compare_exchange_strong_explicit(slot, &none, (uintptr_t)handle, memory_order_relaxed, memory_order_relaxed)) {
            atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
            return;
        }
        if (none == (uintptr_t)handle) {
            return;
        }
    }
}

/* A handle that is given back may come again as another's. Where it stood is left empty: a search looks at all its places. */
static void forget(const void *handle)
{
    for (unsigned i = 0; i < PROBES && atomic_load_explicit(&count, memory_order_relaxed) != 0; i++) {
        uintptr_t seen = (uintptr_t)handle;
        _Atomic uintptr_t *slot = &handles[(slot_of(seen) + i) % HANDLES];
        if (atomic_compare_exchange_strong_explicit(slot, &seen, 0, memory_order_relaxed, memory_order_relaxed)) {
            atomic_fetch_sub_explicit(&count, 1, memory_order_relaxed);
        }
    }
}

static bool knows(const void *handle)
{
    for (unsigned i = 0; i < PROBES; i++) {
        if (atomic_load_explicit(&handles[(slot_of((uintptr_t)handle) + i) % HANDLES], memory_order_relaxed) == (uintptr_t)handle) {
            return true;
        }
    }
    return false;
}

bool urgent_is(CUfunction function, CUstream stream)
{
    return atomic_load_explicit(&count, memory_order_relaxed) != 0 && (knows(function) || (stream != NULL && knows(stream)));
}

void urgent_forget(void)
{
    memset((void *)handles, 0, sizeof handles);
    atomic_store_explicit(&count, 0, memory_order_relaxed);
}

static void note_name(const void *handle, const char *name)
{
    for (size_t i = 0; name != NULL && i < sizeof prefixes / sizeof prefixes[0]; i++) {
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) {
            remember(handle);
            return;
        }
    }
    forget(handle);
}

/* --- Hooks -------------------------------------------------------------------------------------------------------- */

EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    CUresult result = driver_load() ? below_cuModuleGetFunction(function, module, name) : CUDA_ERROR_NO_DEVICE;
    if (result == CUDA_SUCCESS) {
        note_name(*function, name);
    }
    return result;
}

EXPORT CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name)
{
    CUresult result = driver_load() ? below_cuLibraryGetKernel(kernel, library, name) : CUDA_ERROR_NO_DEVICE;
    if (result == CUDA_SUCCESS) {
        note_name(*kernel, name);
    }
    return result;
}

EXPORT CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel)
{
    CUresult result = driver_load() ? below_cuKernelGetFunction(function, kernel) : CUDA_ERROR_NO_DEVICE;
    if (result == CUDA_SUCCESS && urgent_is((CUfunction)kernel, NULL)) {
        remember(*function);
    }
    return result;
}

EXPORT CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned int flags, int priority)
{
    CUresult result = driver_load() ? below_cuStreamCreateWithPriority(stream, flags, priority) : CUDA_ERROR_NO_DEVICE;
    if (result == CUDA_SUCCESS && priority < 0) {
        remember(*stream); /* lower numbers are higher priorities; 0 is the default */
    }
    return result;
}

static CUresult destroy(CUstream stream, CUresult (*below)(CUstream))
{
    CUresult result = driver_load() ? below(stream) : CUDA_ERROR_NO_DEVICE;
    if (result == CUDA_SUCCESS) {
        forget(stream);
    }
    return result;
}

EXPORT CUresult cuStreamDestroy(CUstream stream)
{
    return destroy(stream, below_cuStreamDestroy);
}

EXPORT CUresult cuStreamDestroy_v2(CUstream stream)
{
    return destroy(stream, below_cuStreamDestroy_v2);
}
