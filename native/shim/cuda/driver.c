/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include "../core/below.h"
#include "context.h"
#include "spatial.h"

#include <pthread.h>
#include <string.h>

struct driver_calls driver;
struct hooked_calls hooked;

static pthread_once_t loading = PTHREAD_ONCE_INIT;
static _Atomic bool is_loaded;

static const char *const pass_names[] = {
#define PASS(name) #name,
#include "symbols.def"
#undef PASS
};

static int answer_missing(void)
{
    return CUDA_ERROR_NOT_FOUND;
}

static int answer_absent(void)
{
    return CUDA_ERROR_NO_DEVICE;
}

static int answer_refused(void)
{
    return CUDA_ERROR_NOT_PERMITTED;
}

const struct mica_below mica_below = {.soname = "libcuda.so.1",
                                      .variable = "MICA_CUDA_DRIVER",
                                      .names = pass_names,
                                      .count = sizeof pass_names / sizeof pass_names[0],
                                      .missing = answer_missing,
                                      .absent = answer_absent,
                                      .refused = answer_refused};

/* A function pointer and an object pointer have one representation wherever dlsym exists, but C has no cast between them. */
#define LOAD(type, name, ...)                       \
    {                                               \
        void *found = mica_below_symbol(#name);     \
        memcpy(&driver.name, &found, sizeof found); \
    }

static void load(void)
{
    if (mica_below_open() == NULL) {
        return;
    }
    CUDA_CALLS(LOAD)
    atomic_store_explicit(&is_loaded, true, memory_order_release);
}

void *hooked_find(void *place, const char *name)
{
    void *found = mica_below_symbol(name);
    __atomic_store_n((void **)place, found, __ATOMIC_RELAXED);
    return found;
}

void hooked_find_all(void)
{
#define X(type, name, ...) (void)hooked_find(&hooked.name, #name);
    CUDA_HOOKS(X)
#undef X
}

bool driver_load(void)
{
    pthread_once(&loading, load);
    return atomic_load_explicit(&is_loaded, memory_order_acquire);
}

enum door door_first(void)
{
    return driver_load() ? mica_door(mica_attach(context_forget_all)) : DOOR_CLOSED;
}

CUresult verdict_result(enum mica_verdict verdict)
{
    switch (verdict) {
    case MICA_GRANTED:
        return CUDA_SUCCESS;
    case MICA_NO_MEMORY:
        return CUDA_ERROR_OUT_OF_MEMORY;
    case MICA_KILLED:
        mica_below_refuse();
        return CUDA_ERROR_NOT_PERMITTED;
    default:
        return CUDA_ERROR_NOT_PERMITTED;
    }
}

EXPORT CUresult cuInit(unsigned int flags)
{
    /* A driver that is never initialised answers nothing: a refused attach holds for every call of the process, hooked or not. */
    if (door() == DOOR_CLOSED) {
        return driver_load() ? CUDA_ERROR_NOT_PERMITTED : CUDA_ERROR_NO_DEVICE;
    }
    if (mica_attach_state() == MICA_INSIDE) {
        spatial_prepare();
    }
    return below_cuInit(flags);
}
