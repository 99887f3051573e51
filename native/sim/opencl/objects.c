/* SPDX-License-Identifier: Apache-2.0 */
#include "objects.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NOTIFY_MAX 4

enum {
    CONTEXT_REFERENCES = 0x1080,
    CONTEXT_COUNT = 0x1083,
    QUEUE_CONTEXT = 0x1090,
    MEM_TYPE = 0x1100,
    MEM_OBJECT_BUFFER = 0x10F0,
    MEM_CONTEXT = 0x1106,
    MEM_REFERENCES = 0x1105,
    EVENT_STATUS = 0x11D3,
};

struct _cl_context {
    const struct sim_table *table;
    atomic_uint references;
    cl_uint count;
    cl_device_id devices[SIM_DEVICES];
};

struct _cl_command_queue {
    const struct sim_table *table;
    atomic_uint references;
    cl_context context;
    cl_device_id device;
    cl_bitfield properties;
};

struct _cl_mem {
    const struct sim_table *table;
    atomic_uint references;
    cl_context context;
    size_t size;
    unsigned count;
    cl_mem_notify notify[NOTIFY_MAX];
    void *user[NOTIFY_MAX];
    unsigned char bytes[];
};

struct _cl_event {
    const struct sim_table *table;
    atomic_uint references;
    cl_command_queue queue;
    cl_ulong start_ns;
    cl_ulong end_ns;
};

static void set(cl_int *error, cl_int code)
{
    if (error != NULL) {
        *error = code;
    }
}

/* --- Contexts and queues ------------------------------------------------------------------------------------------------ */

cl_context sim_clCreateContext(const cl_context_properties *properties, cl_uint count, const cl_device_id *devices, cl_notify notify, void *user,
                               cl_int *error)
{
    (void)properties;
    (void)notify;
    (void)user;
    cl_context context = count <= SIM_DEVICES ? calloc(1, sizeof *context) : NULL;
    set(error, context != NULL ? CL_SUCCESS : CL_OUT_OF_HOST_MEMORY);
    if (context != NULL) {
        context->table = &sim_table;
        context->references = 1;
        context->count = count;
        memcpy(context->devices, devices, count * sizeof *devices);
    }
    return context;
}

cl_int sim_clRetainContext(cl_context context)
{
    atomic_fetch_add(&context->references, 1);
    return CL_SUCCESS;
}

cl_int sim_clReleaseContext(cl_context context)
{
    if (atomic_fetch_sub(&context->references, 1) == 1) {
        free(context);
    }
    return CL_SUCCESS;
}

cl_int sim_clGetContextInfo(cl_context context, cl_uint what, size_t room, void *value, size_t *bytes)
{
    cl_uint references = context->references;
    switch (what) {
    case CONTEXT_REFERENCES:
        return sim_answer(&references, sizeof references, room, value, bytes);
    case CONTEXT_COUNT:
        return sim_answer(&context->count, sizeof context->count, room, value, bytes);
    case CL_CONTEXT_DEVICES:
        return sim_answer(context->devices, context->count * sizeof context->devices[0], room, value, bytes);
    default:
        return CL_INVALID_VALUE;
    }
}

cl_command_queue sim_clCreateCommandQueue(cl_context context, cl_device_id device, cl_bitfield properties, cl_int *error)
{
    cl_command_queue queue = calloc(1, sizeof *queue);
    set(error, queue != NULL ? CL_SUCCESS : CL_OUT_OF_HOST_MEMORY);
    if (queue != NULL) {
        *queue = (struct _cl_command_queue){.table = &sim_table, .references = 1, .context = context, .device = device, .properties = properties};
    }
    return queue;
}

cl_int sim_clRetainCommandQueue(cl_command_queue queue)
{
    atomic_fetch_add(&queue->references, 1);
    return CL_SUCCESS;
}

cl_int sim_clReleaseCommandQueue(cl_command_queue queue)
{
    if (atomic_fetch_sub(&queue->references, 1) == 1) {
        free(queue);
    }
    return CL_SUCCESS;
}

cl_int sim_clGetCommandQueueInfo(cl_command_queue queue, cl_uint what, size_t room, void *value, size_t *bytes)
{
    cl_uint references = queue->references;
    switch (what) {
    case QUEUE_CONTEXT:
        return sim_answer(&queue->context, sizeof queue->context, room, value, bytes);
    case CL_QUEUE_DEVICE:
        return sim_answer(&queue->device, sizeof queue->device, room, value, bytes);
    case CL_QUEUE_REFERENCE_COUNT:
        return sim_answer(&references, sizeof references, room, value, bytes);
    case CL_QUEUE_PROPERTIES:
        return sim_answer(&queue->properties, sizeof queue->properties, room, value, bytes);
    default:
        return CL_INVALID_VALUE;
    }
}

/* --- Buffers ------------------------------------------------------------------------------------------------------------ */

cl_mem sim_clCreateBuffer(cl_context context, cl_bitfield flags, size_t size, void *host, cl_int *error)
{
    (void)flags;
    cl_mem memory = calloc(1, sizeof *memory + size);
    set(error, memory != NULL ? CL_SUCCESS : CL_MEM_OBJECT_ALLOCATION_FAILURE);
    if (memory != NULL) {
        memory->table = &sim_table;
        memory->references = 1;
        memory->context = context;
        memory->size = size;
        if (host != NULL) {
            memcpy(memory->bytes, host, size);
        }
    }
    return memory;
}

cl_int sim_clRetainMemObject(cl_mem memory)
{
    atomic_fetch_add(&memory->references, 1);
    return CL_SUCCESS;
}

cl_int sim_clReleaseMemObject(cl_mem memory)
{
    if (atomic_fetch_sub(&memory->references, 1) == 1) {
        while (memory->count > 0) {
            memory->count--;
            memory->notify[memory->count](memory, memory->user[memory->count]);
        }
        free(memory);
    }
    return CL_SUCCESS;
}

cl_int sim_clGetMemObjectInfo(cl_mem memory, cl_uint what, size_t room, void *value, size_t *bytes)
{
    static const cl_uint type = MEM_OBJECT_BUFFER;
    cl_uint references = memory->references;
    switch (what) {
    case MEM_TYPE:
        return sim_answer(&type, sizeof type, room, value, bytes);
    case CL_MEM_SIZE:
        return sim_answer(&memory->size, sizeof memory->size, room, value, bytes);
    case MEM_CONTEXT:
        return sim_answer(&memory->context, sizeof memory->context, room, value, bytes);
    case MEM_REFERENCES:
        return sim_answer(&references, sizeof references, room, value, bytes);
    default:
        return CL_INVALID_VALUE;
    }
}

cl_int sim_clSetMemObjectDestructorCallback(cl_mem memory, cl_mem_notify notify, void *user)
{
    if (memory->count == NOTIFY_MAX) {
        return CL_OUT_OF_HOST_MEMORY;
    }
    memory->notify[memory->count] = notify;
    memory->user[memory->count++] = user;
    return CL_SUCCESS;
}

/* --- Commands and events ------------------------------------------------------------------------------------------------ */

static cl_ulong now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (cl_ulong)now.tv_sec * 1000000000U + (cl_ulong)now.tv_nsec;
}

static cl_int copy(cl_command_queue queue, void *to, const void *from, size_t size, cl_event *event)
{
    cl_ulong start_ns = now_ns();
    memcpy(to, from, size);
    if (event == NULL) {
        return CL_SUCCESS;
    }
    *event = calloc(1, sizeof **event);
    if (*event == NULL) {
        return CL_OUT_OF_HOST_MEMORY;
    }
    **event = (struct _cl_event){.table = &sim_table, .references = 1, .queue = queue, .start_ns = start_ns, .end_ns = now_ns()};
    return CL_SUCCESS;
}

static bool fits(cl_mem buffer, size_t offset, size_t size)
{
    return offset <= buffer->size && size <= buffer->size - offset;
}

cl_int sim_clEnqueueReadBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, void *to, DONE)
{
    (void)blocking;
    (void)wait_count;
    (void)waits;
    return fits(buffer, offset, size) ? copy(queue, to, buffer->bytes + offset, size, event) : CL_INVALID_VALUE;
}

cl_int sim_clEnqueueWriteBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, const void *from, DONE)
{
    (void)blocking;
    (void)wait_count;
    (void)waits;
    return fits(buffer, offset, size) ? copy(queue, buffer->bytes + offset, from, size, event) : CL_INVALID_VALUE;
}

cl_int sim_clFlush(cl_command_queue queue)
{
    (void)queue;
    return CL_SUCCESS;
}

cl_int sim_clFinish(cl_command_queue queue)
{
    return sim_clFlush(queue);
}

cl_int sim_clWaitForEvents(cl_uint count, const cl_event *events)
{
    (void)count;
    (void)events;
    return CL_SUCCESS;
}

cl_int sim_clRetainEvent(cl_event event)
{
    atomic_fetch_add(&event->references, 1);
    return CL_SUCCESS;
}

cl_int sim_clReleaseEvent(cl_event event)
{
    if (atomic_fetch_sub(&event->references, 1) == 1) {
        free(event);
    }
    return CL_SUCCESS;
}

cl_int sim_clGetEventInfo(cl_event event, cl_uint what, size_t room, void *value, size_t *bytes)
{
    static const cl_int complete = CL_COMPLETE;
    switch (what) {
    case CL_EVENT_COMMAND_QUEUE:
        return sim_answer(&event->queue, sizeof event->queue, room, value, bytes);
    case EVENT_STATUS:
        return sim_answer(&complete, sizeof complete, room, value, bytes);
    default:
        return CL_INVALID_VALUE;
    }
}

cl_int sim_clGetEventProfilingInfo(cl_event event, cl_uint what, size_t room, void *value, size_t *bytes)
{
    const cl_ulong *when = what == CL_PROFILING_COMMAND_END ? &event->end_ns : &event->start_ns;
    return sim_answer(when, sizeof *when, room, value, bytes);
}

cl_int sim_clSetEventCallback(cl_event event, cl_int status, cl_event_notify notify, void *user)
{
    (void)status;
    notify(event, CL_COMPLETE, user);
    return CL_SUCCESS;
}
