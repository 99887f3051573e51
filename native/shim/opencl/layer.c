/* SPDX-License-Identifier: Apache-2.0
 *
 * A layer of the OpenCL loader (extension cl_loader_layers): named in OPENCL_LAYERS, it is given the table of what lies below, and gives back one of what it
 * answers itself. An entry that it leaves empty is the target's own.
 */
#define _GNU_SOURCE
#include "layer.h"

#include "devices.h"
#include "memory.h"
#include "queues.h"
#include "work.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ENVIRONMENT_BYTES 32768 /* who has a longer one is not told */
#define EXPORT __attribute__((visibility("default")))

/* Loader, layers and drivers agree on the order of these. */
struct table {
#define ENTRY(name) void *name;
#include "dispatch.def"
#undef ENTRY
};

struct opencl_calls below;
static struct table answers;

static void forget_parent(void)
{
    devices_forget();
    memory_forget();
    queues_forget();
    work_forget();
}

enum door door_first(void)
{
    return mica_door(mica_attach(forget_parent));
}

EXPORT cl_int clGetLayerInfo(cl_uint what, size_t room, void *value, size_t *bytes)
{
    static const char name[] = "mica";
    static const cl_uint version = CL_LAYER_API_VERSION_100;
    if (what != CL_LAYER_API_VERSION && what != CL_LAYER_NAME) {
        return CL_INVALID_VALUE;
    }
    size_t needed = what == CL_LAYER_NAME ? sizeof name : sizeof version;
    if (value != NULL && room < needed) {
        return CL_INVALID_VALUE;
    }
    if (value != NULL) {
        memcpy(value, what == CL_LAYER_NAME ? (const void *)name : (const void *)&version, needed);
    }
    if (bytes != NULL) {
        *bytes = needed;
    }
    return CL_SUCCESS;
}

/* Entries of OpenCL 1.0: what the layer makes of them it makes without a look. A table without them is of no OpenCL, and is handed on. */
#define ENTRIES_MIN (offsetof(struct table, clGetExtensionFunctionAddress) / sizeof(void *) + 1)

/* What the target has, as far as its table goes; and an answer of the layer's only to what it has. A function pointer and an object pointer have one
 * representation wherever there are layers, but C has no cast between them. */
#define TAKE(type, name, params)                                                           \
    if (offsetof(struct table, name) < entries * sizeof(void *)) {                         \
        memcpy(&below.name, &((const struct table *)target)->name, sizeof below.name);     \
    }
#define ANSWER(type, name, params)                                                         \
    if (below.name != NULL) {                                                              \
        type(*answer) params = hook_##name;                                                \
        memcpy(&answers.name, &answer, sizeof answer);                                     \
    }

static unsigned times_in(const char *layers)
{
    static const char own[] = "libmica-opencl.so";
    unsigned times = 0;
    for (const char *at = layers; (at = strstr(at, own)) != NULL; at += sizeof own - 1) {
        times += at[sizeof own - 1] == ':' || at[sizeof own - 1] == '\0';
    }
    return times;
}

/* A loader may pass over a second naming by itself, and ocl-icd cuts the variable up where it stands: what follows the first name is then a piece of its own,
 * without a name of a variable in it. */
static void check_named_once(void)
{
    char environment[ENVIRONMENT_BYTES + 1] = "";
    int fd = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, environment, ENVIRONMENT_BYTES) : 0;
    unsigned times = 0;
    if (fd >= 0) {
        close(fd);
    }
    for (const char *piece = environment; piece < environment + length; piece += strlen(piece) + 1) {
        times += strncmp(piece, "OPENCL_LAYERS=", 14) == 0 || strchr(piece, '=') == NULL ? times_in(piece) : 0;
    }
    if (times > 1) {
        fprintf(stderr, "mica: OPENCL_LAYERS: the layer is named %u times, allowed: once; it answers once\n", times);
    }
}

EXPORT cl_int clInitLayer(cl_uint entries, const void *target, cl_uint *answered, const void **table)
{
    /* A layer that is named twice would charge twice: the second time it only hands on. */
    static struct table nothing;
    static _Atomic int times;
    if (target == NULL || answered == NULL || table == NULL) {
        return CL_INVALID_VALUE;
    }
    *answered = sizeof(struct table) / sizeof(void *);
    *table = &nothing;
    if (entries >= ENTRIES_MIN && atomic_fetch_add(&times, 1) == 0) {
        check_named_once();
        OPENCL_HOOKS(TAKE)
        OPENCL_CALLS(TAKE)
        OPENCL_HOOKS(ANSWER)
        *table = &answers;
    }
    return CL_SUCCESS;
}
