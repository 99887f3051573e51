/* SPDX-License-Identifier: Apache-2.0 */
#include "library.h"

#include "../core/below.h"
#include "activity.h"
#include "../core/fault.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct library_calls library;

static pthread_once_t loading = PTHREAD_ONCE_INIT;
static pthread_once_t looking = PTHREAD_ONCE_INIT;
static _Atomic bool is_loaded;
static _Atomic(enum view) view; /* written in look, and when a region is lost */
static struct mica_slice slice;

static const char *const pass_names[] = {
#define PASS(name) #name,
#define DENY(name) #name,
#include "symbols.def"
#undef PASS
#undef DENY
};

static const bool denied[] = {
#define PASS(name) false,
#define DENY(name) true,
#include "symbols.def"
#undef PASS
#undef DENY
};

static bool is_in_slice(void)
{
    return library_view() == VIEW_SLICE;
}

static int answer_missing(void)
{
    return NVML_ERROR_FUNCTION_NOT_FOUND;
}

static int answer_absent(void)
{
    return NVML_ERROR_LIBRARY_NOT_FOUND;
}

static int answer_refused(void)
{
    return NVML_ERROR_NO_PERMISSION;
}

const struct mica_below mica_below = {.soname = "libnvidia-ml.so.1",
                                      .variable = "MICA_NVML_DRIVER",
                                      .names = pass_names,
                                      .count = sizeof pass_names / sizeof pass_names[0],
                                      .denied = denied,
                                      .denies = is_in_slice,
                                      .missing = answer_missing,
                                      .absent = answer_absent,
                                      .refused = answer_refused};

/* A function pointer and an object pointer have one representation wherever dlsym exists, but C has no cast between them. */
#define LOAD(type, name, ...)                        \
    {                                                \
        void *found = mica_below_symbol(#name);      \
        memcpy(&library.name, &found, sizeof found); \
    }

static void load(void)
{
    if (mica_below_open() == NULL) {
        return;
    }
    NVML_HOOKS(LOAD)
    NVML_CALLS(LOAD)
    atomic_store_explicit(&is_loaded, true, memory_order_release);
}

bool library_load(void)
{
    pthread_once(&loading, load);
    return atomic_load_explicit(&is_loaded, memory_order_acquire);
}

/* The slice cannot be read any more: from now on. In a signal handler. */
static void on_lost(bool pass)
{
    view = pass ? VIEW_MACHINE : VIEW_NOTHING;
    if (!pass) {
        mica_below_refuse();
    }
}

static void look(void)
{
    struct mica_fault fault;
    struct mica_fault reason; /* an unclear policy is the CUDA shim's to say */
    const char *name = mica_slice_name();
    if (name == NULL) {
        view = VIEW_MACHINE;
        return;
    }
    mica_fault_watch(&slice, "nvml ", on_lost);
    int opened = mica_slice_open(name, false, &slice, &fault);
    if (mica_fault_is_lost()) {
        return; /* told, and decided */
    }
    if (opened == 0) {
        view = VIEW_SLICE;
        activity_begin(&slice);
    } else if (mica_fault_policy(&reason) == MICA_FAULT_PASS) {
        view = VIEW_MACHINE;
        mica_fault_say(name, "nvml shows the machine", fault.text);
    } else {
        view = VIEW_NOTHING;
        mica_fault_say(name, "nvml refused", fault.text);
        mica_below_refuse();
    }
}

enum view library_view(void)
{
    if (!library_load()) {
        return VIEW_NOTHING;
    }
    pthread_once(&looking, look);
    return view;
}

struct mica_slice *library_slice(void)
{
    return &slice;
}

struct mica_device *handle_device(nvmlDevice_t handle)
{
    char uuid[UUID_BYTES];
    if (library.nvmlDeviceGetUUID == NULL || library.nvmlDeviceGetUUID(handle, uuid, sizeof uuid) != NVML_SUCCESS) {
        return NULL;
    }
    return mica_slice_device(&slice, uuid);
}

/* --- Hooks: open ------------------------------------------------------------------------------------------------------ */

static nvmlReturn_t admitted(void)
{
    if (library_view() != VIEW_NOTHING) {
        return NVML_SUCCESS;
    }
    return library_load() ? NVML_ERROR_NO_PERMISSION : NVML_ERROR_LIBRARY_NOT_FOUND;
}

EXPORT nvmlReturn_t nvmlInit(void)
{
    nvmlReturn_t result = admitted();
    return result == NVML_SUCCESS ? below_nvmlInit() : result;
}

EXPORT nvmlReturn_t nvmlInit_v2(void)
{
    nvmlReturn_t result = admitted();
    return result == NVML_SUCCESS ? below_nvmlInit_v2() : result;
}

EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
    nvmlReturn_t result = admitted();
    return result == NVML_SUCCESS ? below_nvmlInitWithFlags(flags) : result;
}
