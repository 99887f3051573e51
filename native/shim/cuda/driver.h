/* SPDX-License-Identifier: Apache-2.0
 *
 * The real driver's own functions below the hooks, and the door every hook goes through. A hook is the shim's function of a driver's name: programs call
 * it, and it calls the driver's own, which is named below_NAME here.
 */
#ifndef MICA_SHIM_CUDA_DRIVER_H
#define MICA_SHIM_CUDA_DRIVER_H

#include "../core/attach.h"
#include "../core/launch.h"
#include "../core/memory.h"
#include "hooks.h"
#include "types.h"

#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* The hooks' prototypes. */
#define X(type, name, params, ...) EXPORT type name params;
CUDA_HOOKS(X)
#undef X

/* The driver's functions that the shim itself asks, by name; NULL where this driver has none. Written once, by driver_load. */
struct driver_calls {
#define Y(type, name, params) type(*name) params;
    CUDA_CALLS(Y)
#undef Y
};
extern struct driver_calls driver;

/* The driver's functions below the hooks; NULL until one is called, because a program uses a few of them and an attach is to be short. */
struct hooked_calls {
#define X(type, name, params, ...) type(*name) params;
    CUDA_HOOKS(X)
#undef X
};
extern struct hooked_calls hooked;

/* Look the function `name` up and keep it in `*place`, a member of `hooked`. NULL: this driver has none. */
void *hooked_find(void *place, const char *name);
/* Look all of them up. */
void hooked_find_all(void);

/* below_NAME(...): call the driver's function, or say that there is none. Relaxed: every thread that finds a pointer here has come through the door,
 * which pairs with the opening of the driver. */
#define X(type, name, params, args, ...)                                       \
    static inline type below_##name params                                     \
    {                                                                          \
        type(*call) params = __atomic_load_n(&hooked.name, __ATOMIC_RELAXED);  \
        if (__builtin_expect(call == NULL, 0)) {                               \
            void *found = hooked_find(&hooked.name, #name);                    \
            memcpy(&call, &found, sizeof found);                               \
        }                                                                      \
        return call != NULL ? call args : CUDA_ERROR_NOT_FOUND;                \
    }
CUDA_HOOKS(X)
#undef X

/* Open the driver and look its functions up, if that has not been done. False: there is no driver. */
bool driver_load(void);

/* The door when the process is not known to be inside: loads the driver, attaches. */
enum door door_first(void);

static inline enum door door(void)
{
    return mica_attach_state() == MICA_INSIDE ? DOOR_ENFORCE : door_first();
}

/* The driver's error for a verdict. Killed: from now on nothing is passed through either. */
CUresult verdict_result(enum mica_verdict verdict);

#endif
