/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "queues.h"

#include "../core/map.h"
#include "devices.h"

#include <pthread.h>
#include <string.h>

#define PROPERTIES_MAX 64

/* What a program asked a queue for that it did not ask to be timed. */
struct asked {
    cl_properties flags;
    uint64_t words; /* of its list of properties, with the end; WORDS_SAME: as many as the target has */
};
#define WORDS_SAME UINT64_MAX

/* Such queues, by address: first is `words`. One that is gone stays in it until its address is another's: its events may be looked at still, and only the target
 * knows when it is really gone. */
static struct mica_map quiet;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void queues_forget(void)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    lock = fresh;
    mica_map_clear(&quiet);
}

static cl_command_queue note(cl_command_queue queue, struct asked asked)
{
    if (queue != NULL) {
        pthread_mutex_lock(&lock);
        mica_map_remove(&quiet, (uintptr_t)queue);
        struct mica_map_entry *entry = (asked.flags & CL_QUEUE_PROFILING_ENABLE) == 0 ? mica_map_put(&quiet, (uintptr_t)queue) : NULL;
        if (entry != NULL) {
            entry->first = asked.words;
        }
        pthread_mutex_unlock(&lock);
    }
    return queue;
}

static bool is_quiet(cl_command_queue queue, uint64_t *words)
{
    pthread_mutex_lock(&lock);
    const struct mica_map_entry *entry = mica_map_find(&quiet, (uintptr_t)queue);
    *words = entry != NULL ? entry->first : WORDS_SAME;
    pthread_mutex_unlock(&lock);
    return entry != NULL;
}

cl_command_queue hook_clCreateCommandQueue(cl_context context, cl_device_id device, cl_bitfield properties, cl_int *error)
{
    if (door() != DOOR_ENFORCE) {
        return below.clCreateCommandQueue(context, device, properties, error);
    }
    cl_command_queue queue = below.clCreateCommandQueue(context, device_shown(device), properties | CL_QUEUE_PROFILING_ENABLE, error);
    return note(queue, (struct asked){.flags = properties, .words = WORDS_SAME});
}

/* A copy of a list of properties with profiling in it. Returns what the program asked for. */
static struct asked with_profiling(const cl_properties *list, cl_properties copy[PROPERTIES_MAX + 3])
{
    struct asked asked = {.words = WORDS_SAME};
    unsigned flags = PROPERTIES_MAX;
    unsigned at = 0;
    for (; list != NULL && list[at] != 0 && at < PROPERTIES_MAX; at += 2) {
        copy[at] = list[at];
        copy[at + 1] = list[at + 1];
        flags = list[at] == CL_QUEUE_PROPERTIES ? at : flags;
    }
    if (flags < PROPERTIES_MAX) {
        asked.flags = list[flags + 1];
        copy[flags + 1] |= CL_QUEUE_PROFILING_ENABLE;
    } else {
        asked.words = list != NULL ? at + 1 : 0;
        copy[at++] = CL_QUEUE_PROPERTIES;
        copy[at++] = CL_QUEUE_PROFILING_ENABLE;
    }
    copy[at] = 0;
    return asked;
}

cl_command_queue hook_clCreateCommandQueueWithProperties(cl_context context, cl_device_id device, const cl_properties *properties, cl_int *error)
{
    cl_properties copy[PROPERTIES_MAX + 3];
    if (door() != DOOR_ENFORCE) {
        return below.clCreateCommandQueueWithProperties(context, device, properties, error);
    }
    struct asked asked = with_profiling(properties, copy);
    bool is_governed = (asked.flags & CL_QUEUE_ON_DEVICE) == 0;
    asked.flags |= is_governed ? 0 : CL_QUEUE_PROFILING_ENABLE; /* nothing of it is hidden */
    return note(below.clCreateCommandQueueWithProperties(context, device_shown(device), is_governed ? copy : properties, error), asked);
}

/* A queue that is not timed any more would be work of a cost that nobody learns. Few targets can change a queue, and this is the answer of all others. */
cl_int hook_clSetCommandQueueProperty(cl_command_queue queue, cl_bitfield properties, cl_bool enable, cl_bitfield *before)
{
    return door() == DOOR_PASS ? below.clSetCommandQueueProperty(queue, properties, enable, before) : CL_INVALID_OPERATION;
}

/* The list that a queue was made with, as its program gave it. */
static cl_int show_list(cl_command_queue queue, uint64_t words, size_t room, void *value, size_t *bytes)
{
    cl_properties list[PROPERTIES_MAX + 3];
    size_t given = 0;
    cl_int result = below.clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES_ARRAY, sizeof list, list, &given);
    if (result != CL_SUCCESS) {
        return result;
    }
    if (words < given / sizeof list[0]) {
        given = words * sizeof list[0];
        list[words > 0 ? words - 1 : 0] = 0;
    }
    for (size_t i = 0; i + 1 < given / sizeof list[0] && list[i] != 0; i += 2) {
        list[i + 1] &= list[i] == CL_QUEUE_PROPERTIES ? ~CL_QUEUE_PROFILING_ENABLE : ~0ULL;
    }
    if (value != NULL && room < given) {
        return CL_INVALID_VALUE;
    }
    if (value != NULL) {
        memcpy(value, list, given);
    }
    if (bytes != NULL) {
        *bytes = given;
    }
    return CL_SUCCESS;
}

cl_int hook_clGetCommandQueueInfo(cl_command_queue queue, cl_uint what, size_t room, void *value, size_t *bytes)
{
    uint64_t words;
    bool shows = (what == CL_QUEUE_PROPERTIES || what == CL_QUEUE_PROPERTIES_ARRAY) && is_quiet(queue, &words);
    if (shows && what == CL_QUEUE_PROPERTIES_ARRAY) {
        return show_list(queue, words, room, value, bytes);
    }
    cl_int result = below.clGetCommandQueueInfo(queue, what, room, value, bytes);
    if (shows && result == CL_SUCCESS && value != NULL) {
        *(cl_properties *)value &= ~CL_QUEUE_PROFILING_ENABLE;
    }
    return result;
}

cl_int hook_clGetEventProfilingInfo(cl_event event, cl_uint what, size_t room, void *value, size_t *bytes)
{
    cl_command_queue queue = NULL;
    uint64_t words;
    if (below.clGetEventInfo(event, CL_EVENT_COMMAND_QUEUE, sizeof queue, &queue, NULL) == CL_SUCCESS && queue != NULL && is_quiet(queue, &words)) {
        return CL_PROFILING_INFO_NOT_AVAILABLE;
    }
    return below.clGetEventProfilingInfo(event, what, room, value, bytes);
}
