/* SPDX-License-Identifier: Apache-2.0
 *
 * The door that every call goes through.
 */
#ifndef MICA_SHIM_OPENCL_LAYER_H
#define MICA_SHIM_OPENCL_LAYER_H

#include "../core/attach.h"
#include "../core/limits.h"
#include "hooks.h"

enum door {
    DOOR_ENFORCE, /* inside a slice */
    DOOR_PASS,    /* not in a slice: hand the call on untouched */
    DOOR_CLOSED   /* refused, or leaving */
};

/* The door when the process is not known to be inside: attaches. */
enum door door_first(void);

static inline enum door door(void)
{
    return mica_attach_state() == MICA_INSIDE ? DOOR_ENFORCE : door_first();
}

/* Write an error where the caller wants it. */
static inline void tell(cl_int *error, cl_int code)
{
    if (error != NULL) {
        *error = code;
    }
}

#endif
