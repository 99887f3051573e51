/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "queues.h"

#include "../core/map.h"
#include "devices.h"

#include <pthread.h>
#include <string.h>

#define PROPERTIES_MAX 64

static struct mica_map quiet; /* queues whose program did not ask for profiling */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void queues_forget(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    lock = fresh;
    mica_map_clear(&quiet);
}

static cl_command_queue note(cl_command_queue queue, bool is_quiet)
{
    if (queue != NULL) {
        pthread_mutex_lock(&lock);
        if (is_quiet) {
            (void)mica_map_put(&quiet, (uintptr_t)queue);
        } else {
            mica_map_remove(&quiet, (uintptr_t)queue);
        }
        pthread_mutex_unlock(&lock);
    }
    return queue;
}

static bool is_quiet(cl_command_queue queue)
{
    pthread_mutex_lock(&lock);
    bool found = mica_map_find(&quiet, (uintptr_t)queue) != NULL;
    pthread_mutex_unlock(&lock);
    return found;
}

cl_command_queue hook_clCreateCommandQueue(cl_context context, cl_device_id device, cl_bitfield properties, cl_int *error)
{
    if (door() != DOOR_ENFORCE) {
        return below.clCreateCommandQueue(context, device, properties, error);
    }
    cl_command_queue queue = below.clCreateCommandQueue(context, device_shown(device), properties | CL_QUEUE_PROFILING_ENABLE, error);
    return note(queue, (properties & CL_QUEUE_PROFILING_ENABLE) == 0);
}

/* A copy of a list of properties with profiling in it. Returns what the program asked for. */
static cl_properties with_profiling(const cl_properties *list, cl_properties copy[PROPERTIES_MAX + 3])
{
    cl_properties asked = 0;
    unsigned at = 0;
    for (; list != NULL && list[0] != 0 && at < PROPERTIES_MAX; list += 2, at += 2) {
        bool is_flags = list[0] == CL_QUEUE_PROPERTIES;
        asked = is_flags ? list[1] : asked;
        copy[at] = list[0];
        copy[at + 1] = is_flags ? list[1] | CL_QUEUE_PROFILING_ENABLE : list[1];
    }
    if (asked == 0) {
        unsigned flags = 0;
        while (flags < at && copy[flags] != CL_QUEUE_PROPERTIES) {
            flags += 2;
        }
        copy[flags] = CL_QUEUE_PROPERTIES;
        copy[flags + 1] = CL_QUEUE_PROFILING_ENABLE;
        at = flags < at ? at : at + 2;
    }
    copy[at] = 0;
    return asked;
}

cl_command_queue hook_clCreateCommandQueueWithProperties(cl_context context, cl_device_id device, const cl_properties *properties, cl_int *error)
{
    cl_properties copy[PROPERTIES_MAX + 3];
    cl_properties asked = with_profiling(properties, copy);
    if ((asked & CL_QUEUE_ON_DEVICE) != 0 || door() != DOOR_ENFORCE) {
        return below.clCreateCommandQueueWithProperties(context, device, properties, error);
    }
    cl_command_queue queue = below.clCreateCommandQueueWithProperties(context, device_shown(device), copy, error);
    return note(queue, (asked & CL_QUEUE_PROFILING_ENABLE) == 0);
}

cl_int hook_clReleaseCommandQueue(cl_command_queue queue)
{
    cl_uint references = 0;
    if (below.clGetCommandQueueInfo(queue, CL_QUEUE_REFERENCE_COUNT, sizeof references, &references, NULL) == CL_SUCCESS && references == 1) {
        (void)note(queue, false);
    }
    return below.clReleaseCommandQueue(queue);
}

static void hide(cl_properties *flags)
{
    *flags &= ~CL_QUEUE_PROFILING_ENABLE;
}

cl_int hook_clGetCommandQueueInfo(cl_command_queue queue, cl_uint what, size_t room, void *value, size_t *bytes)
{
    size_t given = 0;
    cl_int result = below.clGetCommandQueueInfo(queue, what, room, value, &given);
    if (bytes != NULL) {
        *bytes = given;
    }
    bool shows = what == CL_QUEUE_PROPERTIES || what == CL_QUEUE_PROPERTIES_ARRAY;
    if (!shows || result != CL_SUCCESS || value == NULL || !is_quiet(queue)) {
        return result;
    }
    cl_properties *list = value;
    if (what == CL_QUEUE_PROPERTIES) {
        hide(list);
        return result;
    }
    for (size_t i = 0; i + 1 < given / sizeof *list && list[i] != 0; i += 2) {
        if (list[i] == CL_QUEUE_PROPERTIES) {
            hide(&list[i + 1]);
        }
    }
    return result;
}

cl_int hook_clGetEventProfilingInfo(cl_event event, cl_uint what, size_t room, void *value, size_t *bytes)
{
    cl_command_queue queue = NULL;
    if (below.clGetEventInfo(event, CL_EVENT_COMMAND_QUEUE, sizeof queue, &queue, NULL) == CL_SUCCESS && queue != NULL && is_quiet(queue)) {
        return CL_PROFILING_INFO_NOT_AVAILABLE;
    }
    return below.clGetEventProfilingInfo(event, what, room, value, bytes);
}
