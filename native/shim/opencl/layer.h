/* SPDX-License-Identifier: Apache-2.0
 *
 * The door that every call goes through.
 */
#ifndef MICA_SHIM_OPENCL_LAYER_H
#define MICA_SHIM_OPENCL_LAYER_H

#include "../core/attach.h"
#include "../core/limits.h"
#include "hooks.h"

/* The door when the process is not known to be inside: attaches. */
enum door door_first(void);

static inline enum door door(void)
{
    return mica_attach_state() == MICA_INSIDE ? DOOR_ENFORCE : door_first();
}

#define DIGEST_BEGIN 0xcbf29ce484222325ULL

/* FNV-1a of a text, as discovery computes it (libs/mica/vendors/opencl), going on from `hash`. A line feed ends it. */
static inline uint64_t digest(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3ULL;
    }
    return (hash ^ '\n') * 0x100000001b3ULL;
}

/* Write an error where the caller wants it. */
static inline void tell(cl_int *error, cl_int code)
{
    if (error != NULL) {
        *error = code;
    }
}

/* Have `notify` called when the event's command has ended. False: it will not be. OpenCL 1.0 has no callbacks. */
static inline bool call_back(cl_event event, cl_event_notify notify, void *user)
{
    return below.clSetEventCallback != NULL && below.clSetEventCallback(event, CL_COMPLETE, notify, user) == CL_SUCCESS;
}

#endif
