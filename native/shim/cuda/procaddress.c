/* SPDX-License-Identifier: Apache-2.0
 *
 * cuGetProcAddress: programs ask the driver for its functions by name, and call what they were given. The driver is asked as it is, and where
 * its answer is a function that the shim enforces, the shim's own takes its place.
 */
#include "driver.h"

#include <string.h>

enum stream_kind { LEGACY = 0, PER_THREAD = 1 };

struct hook {
    const char *name;
    const char *base; /* what cuGetProcAddress calls it */
    int since;        /* from this driver version on */
    enum stream_kind stream;
    size_t below_offset; /* of the driver's function in struct driver_calls */
    void *own;
};

static const struct hook hooks[] = {
#define X(type, name, params, args, class, base, since, stream) \
    {#name, #base, since, stream, offsetof(struct driver_calls, name), (void *)(uintptr_t)name},
    CUDA_HOOKS(X)
#undef X
};
#define HOOK_COUNT (sizeof hooks / sizeof hooks[0])

static const void *below_of(const struct hook *hook)
{
    const void *below;
    memcpy(&below, (const char *)&driver + hook->below_offset, sizeof below);
    return below;
}

/* The driver's answer is the very function that it exports under a hook's name: the usual case, and exact to the variant. */
static void *own_for_function(const void *found)
{
    for (size_t i = 0; i < HOOK_COUNT; i++) {
        if (below_of(&hooks[i]) == found) {
            return hooks[i].own;
        }
    }
    return NULL;
}

/* A driver may answer with an entry point other than the exported one. Then the name, the version and the flags say which is meant. */
static void *own_for_name(const char *symbol, int version, uint64_t flags)
{
    enum stream_kind wanted = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0 ? PER_THREAD : LEGACY;
    const struct hook *best = NULL;
    for (size_t i = 0; i < HOOK_COUNT; i++) {
        const struct hook *hook = &hooks[i];
        if (strcmp(hook->base, symbol) != 0 || hook->since > version || hook->stream > wanted) {
            continue;
        }
        /* Later versions win; among equals the variant of the wanted default stream. A function without streams has one variant only. */
        if (best == NULL || hook->stream > best->stream || (hook->stream == best->stream && hook->since > best->since)) {
            best = hook;
        }
    }
    return best != NULL ? best->own : NULL;
}

static void put_own(const char *symbol, void **function, int version, uint64_t flags)
{
    if (symbol == NULL || function == NULL || *function == NULL) {
        return;
    }
    void *own = own_for_function(*function);
    if (own == NULL) {
        own = own_for_name(symbol, version, flags);
    }
    if (own != NULL) {
        *function = own;
    }
}

EXPORT CUresult cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags)
{
    if (!driver_load()) {
        return CUDA_ERROR_NO_DEVICE;
    }
    CUresult result = below_cuGetProcAddress(symbol, function, version, flags);
    if (result == CUDA_SUCCESS) {
        put_own(symbol, function, version, flags);
    }
    return result;
}

EXPORT CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status)
{
    if (!driver_load()) {
        return CUDA_ERROR_NO_DEVICE;
    }
    CUresult result = below_cuGetProcAddress_v2(symbol, function, version, flags, status);
    if (result == CUDA_SUCCESS) {
        put_own(symbol, function, version, flags);
    }
    return result;
}
