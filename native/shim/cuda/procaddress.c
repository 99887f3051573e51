/* SPDX-License-Identifier: Apache-2.0
 *
 * cuGetProcAddress: programs ask the driver for its functions by name, and call what they were given. The driver is asked as it is, and where
 * its answer is a function that the shim enforces, the shim's own takes its place.
 */
#include "driver.h"

#include <pthread.h>
#include <string.h>

enum stream_kind { LEGACY = 0, PER_THREAD = 1 };

struct hook {
    const char *base; /* what cuGetProcAddress calls it */
    int since;        /* from this driver version on */
    enum stream_kind stream;
    size_t below_offset; /* of the driver's function in struct hooked_calls */
    void *own;
};

static const struct hook hooks[] = {
#define X(type, name, params, args, class, base, since, stream) \
    {#base, since, stream, offsetof(struct hooked_calls, name), (void *)(uintptr_t)name},
    CUDA_HOOKS(X)
#undef X
#define Z(name, base, since) {#base, since, LEGACY, offsetof(struct hooked_calls, name), (void *)(uintptr_t)name},
    CUDA_RENAMED(Z)
#undef Z
};
#define HOOK_COUNT (sizeof hooks / sizeof hooks[0])

/* Programs ask for hundreds of names when they start, most of which are no hooks. So the hooks are hashed, by the driver's function and by base
 * name: each table holds the index + 1 of the first hook of a hash, and `next` that of the following one; 0 ends. Filled once. */
#define BUCKETS 512
static struct {
    uint16_t first[BUCKETS];
    uint16_t next[HOOK_COUNT];
} by_function, by_name;
_Static_assert(HOOK_COUNT < BUCKETS / 2, "a look-up is to meet an empty bucket mostly");

static const void *below_of(const struct hook *hook)
{
    const void *below;
    memcpy(&below, (const char *)&hooked + hook->below_offset, sizeof below);
    return below;
}

static size_t function_bucket(const void *function)
{
    return (uint64_t)(uintptr_t)function * 0x9e3779b97f4a7c15ULL >> 55;
}

static size_t name_bucket(const char *name)
{
    uint64_t hash = 0;
    for (; *name != '\0'; name++) {
        hash = (hash ^ (unsigned char)*name) * 0x9e3779b97f4a7c15ULL;
    }
    return hash >> 55;
}

static void fill(void)
{
    hooked_find_all();
    for (uint16_t i = HOOK_COUNT; i-- > 0;) {
        size_t function = function_bucket(below_of(&hooks[i]));
        size_t name = name_bucket(hooks[i].base);
        by_function.next[i] = by_function.first[function];
        by_name.next[i] = by_name.first[name];
        by_function.first[function] = by_name.first[name] = (uint16_t)(i + 1);
    }
}

/* The hook of the very function that the driver exports: the usual case, and exact to the variant. */
static const struct hook *hook_of_function(const void *found)
{
    for (uint16_t at = by_function.first[function_bucket(found)]; at != 0; at = by_function.next[at - 1]) {
        if (below_of(&hooks[at - 1]) == found) {
            return &hooks[at - 1];
        }
    }
    return NULL;
}

/* The hook that is meant by a name, a version and flags. */
static const struct hook *hook_of_name(const char *symbol, int version, uint64_t flags)
{
    enum stream_kind wanted = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0 ? PER_THREAD : LEGACY;
    const struct hook *best = NULL;
    for (uint16_t at = by_name.first[name_bucket(symbol)]; at != 0; at = by_name.next[at - 1]) {
        const struct hook *hook = &hooks[at - 1];
        if (strcmp(hook->base, symbol) != 0 || hook->since > version || hook->stream > wanted) {
            continue;
        }
        /* Later versions win; among equals the variant of the wanted default stream. A function without streams has one variant only. */
        if (best == NULL || hook->stream > best->stream || (hook->stream == best->stream && hook->since > best->since)) {
            best = hook;
        }
    }
    return best;
}

/* The driver's word counts: the hook is that of the function it answers with. The name decides where that leaves it open: one function may be
 * exported under several names, and an answer may be an entry point that is not exported. */
static void put_own(const char *symbol, void **function, int version, uint64_t flags)
{
    if (symbol == NULL || function == NULL || *function == NULL) {
        return;
    }
    static pthread_once_t filling = PTHREAD_ONCE_INIT;
    pthread_once(&filling, fill);
    const struct hook *hook = hook_of_name(symbol, version, flags);
    if (hook == NULL || below_of(hook) != *function) {
        const struct hook *exact = hook_of_function(*function);
        hook = exact != NULL ? exact : hook;
    }
    if (hook != NULL) {
        *function = hook->own;
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
