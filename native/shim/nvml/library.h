/* SPDX-License-Identifier: Apache-2.0
 *
 * The real NVML below the hooks, and the slice that they show. Read-only: looking at the devices takes no process slot.
 */
#ifndef MICA_SHIM_NVML_LIBRARY_H
#define MICA_SHIM_NVML_LIBRARY_H

#include "../core/slice.h"
#include "hooks.h"

#define EXPORT __attribute__((visibility("default")))
#define UUID_BYTES 96 /* as NVML wants it */

typedef int nvmlReturn_t;
enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NO_PERMISSION = 4,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_LIBRARY_NOT_FOUND = 12,
    NVML_ERROR_FUNCTION_NOT_FOUND = 13
};

typedef struct nvmlDevice_st *nvmlDevice_t;

typedef struct {
    unsigned long long total, free, used; /* bytes */
} nvmlMemory_t;

typedef struct {
    unsigned int version;
    unsigned long long total, reserved, free, used; /* bytes */
} nvmlMemory_v2_t;

typedef struct {
    unsigned long long total, free, used; /* bytes */
} nvmlBAR1Memory_t;

typedef struct {
    unsigned int gpu, memory; /* percent of the time, over the last moments */
} nvmlUtilization_t;

#define X(type, name, params, ...) EXPORT type name params;
NVML_HOOKS(X)
#undef X

/* The library's functions, by name; NULL where it has none. Written once, by library_load. */
struct library_calls {
#define X(type, name, params, ...) type(*name) params;
#define Y(type, name, params) type(*name) params;
    NVML_HOOKS(X)
    NVML_CALLS(Y)
#undef X
#undef Y
};
extern struct library_calls library;

#define X(type, name, params, args, ...)                                                   \
    static inline type below_##name params                                                 \
    {                                                                                      \
        return library.name != NULL ? library.name args : NVML_ERROR_FUNCTION_NOT_FOUND;   \
    }
NVML_HOOKS(X)
#undef X

/* Open the library and look its functions up, once. False: there is none. */
bool library_load(void);

enum view {
    VIEW_UNKNOWN = 0,
    VIEW_MACHINE = 1, /* not in a slice */
    VIEW_SLICE = 2,
    VIEW_NOTHING = 3 /* refused: said why on stderr */
};

/* What this process may see. Finds the slice on first use. */
enum view library_view(void);

/* A hook that is answered from the slice when there is one. */
#define VIEW_HOOK(name, params, args, from_slice)                 \
    EXPORT nvmlReturn_t name params                                 \
    {                                                               \
        switch (library_view()) {                                   \
        case VIEW_SLICE:                                            \
            return from_slice;                                      \
        case VIEW_MACHINE:                                          \
            return below_##name args;                               \
        default:                                                    \
            return NVML_ERROR_NO_PERMISSION;                        \
        }                                                           \
    }

struct mica_slice *library_slice(void);

/* The slice's device behind a handle, or NULL when the slice does not have it. */
struct mica_device *handle_device(nvmlDevice_t handle);

#endif
