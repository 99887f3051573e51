/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake target's queues, events and commands, and the thread that runs them: one after the other, whatever queue they are of.
 */
#define _GNU_SOURCE
#include "fake_opencl.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALLBACKS_MAX 16
#define LIST_MAX 32
#define FREED_MAX 8
#define PATIENCE_S 20
#define QUEUED 3 /* CL_QUEUED */

struct _cl_command_queue {
    unsigned references; /* the program's, and those of its events */
    cl_device_id device;
    cl_bitfield properties;
    size_t list_count;
    cl_properties list[LIST_MAX]; /* as it was made with */
};

struct _cl_event {
    unsigned references;
    cl_int status;
    cl_command_queue queue;
    cl_ulong start_ns;
    cl_ulong end_ns;
    unsigned callback_count;
    struct {
        cl_event_notify notify;
        void *user;
    } callbacks[CALLBACKS_MAX];
    cl_mem uses[2];
    struct {
        cl_svm_free_notify notify;
        void *user;
        cl_uint count;
        void *pointers[FREED_MAX];
    } frees;
    cl_event next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool is_started;
static bool is_held;
static cl_event first;
static cl_event *end = &first;
static unsigned unfinished;
static uint64_t clock_ns = 1000;
static uint64_t work_ns = 1000;
static cl_int work_status = CL_COMPLETE;
static struct fake_command last;

/* --- Told by a test ----------------------------------------------------------------------------------------------------- */

void fake_command_takes(uint64_t ns)
{
    pthread_mutex_lock(&lock);
    work_ns = ns;
    pthread_mutex_unlock(&lock);
}

void fake_command_ends(cl_int status)
{
    pthread_mutex_lock(&lock);
    work_status = status;
    pthread_mutex_unlock(&lock);
}

void fake_hold(bool held)
{
    pthread_mutex_lock(&lock);
    is_held = held;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

bool fake_finish(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&lock);
    while (unfinished > 0 && pthread_cond_timedwait(&changed, &lock, &until) == 0) {
    }
    bool is_finished = unfinished == 0;
    pthread_mutex_unlock(&lock);
    return is_finished;
}

struct fake_command fake_last(void)
{
    pthread_mutex_lock(&lock);
    struct fake_command copy = last;
    pthread_mutex_unlock(&lock);
    return copy;
}

/* --- Queues ------------------------------------------------------------------------------------------------------------- */

static cl_command_queue make(const char *name, cl_device_id device, cl_bitfield properties, cl_int *error)
{
    cl_int code = fake_begin(name);
    cl_command_queue queue = code == CL_SUCCESS ? calloc(1, sizeof *queue) : NULL;
    fake_tell(error, code);
    if (queue != NULL) {
        queue->references = 1;
        queue->device = device;
        queue->properties = properties;
        fake_count_living(1);
    }
    return queue;
}

static cl_command_queue fake_clCreateCommandQueue(cl_context context, cl_device_id device, cl_bitfield properties, cl_int *error)
{
    (void)context;
    return make("clCreateCommandQueue", device, properties, error);
}

static cl_command_queue fake_clCreateCommandQueueWithProperties(cl_context context, cl_device_id device, const cl_properties *properties, cl_int *error)
{
    (void)context;
    cl_command_queue queue = make("clCreateCommandQueueWithProperties", device, 0, error);
    for (size_t i = 0; queue != NULL && properties != NULL && i + 1 < LIST_MAX; i += 2) {
        queue->list_count = i + 1;
        queue->list[i] = properties[i];
        if (properties[i] == 0) {
            break;
        }
        queue->list[i + 1] = properties[i + 1];
        queue->properties |= properties[i] == CL_QUEUE_PROPERTIES ? properties[i + 1] : 0;
    }
    return queue;
}

static void queue_unuse(cl_command_queue queue)
{
    pthread_mutex_lock(&lock);
    bool is_last = --queue->references == 0;
    pthread_mutex_unlock(&lock);
    if (is_last) {
        fake_count_living(-1);
        free(queue);
    }
}

static cl_int fake_clReleaseCommandQueue(cl_command_queue queue)
{
    cl_int error = fake_begin("clReleaseCommandQueue");
    queue_unuse(queue);
    return error;
}

static cl_int fake_clGetCommandQueueInfo(cl_command_queue queue, cl_uint what, size_t room, void *value, size_t *bytes)
{
    cl_int error = fake_begin("clGetCommandQueueInfo");
    if (error != CL_SUCCESS) {
        return error;
    }
    cl_uint references = 1; /* the program's: whether those of events are in it is a target's own business */
    switch (what) {
    case CL_QUEUE_DEVICE:
        return fake_give(&queue->device, sizeof queue->device, room, value, bytes);
    case CL_QUEUE_REFERENCE_COUNT:
        return fake_give(&references, sizeof references, room, value, bytes);
    case CL_QUEUE_PROPERTIES:
        return fake_give(&queue->properties, sizeof queue->properties, room, value, bytes);
    case CL_QUEUE_PROPERTIES_ARRAY:
        return fake_give(queue->list, queue->list_count * sizeof queue->list[0], room, value, bytes);
    default:
        return CL_INVALID_VALUE;
    }
}

static cl_int fake_clSetCommandQueueProperty(cl_command_queue queue, cl_bitfield properties, cl_bool enable, cl_bitfield *before)
{
    cl_int error = fake_begin("clSetCommandQueueProperty");
    *before = queue->properties;
    queue->properties = enable ? queue->properties | properties : queue->properties & ~properties;
    return error;
}

/* --- Events ------------------------------------------------------------------------------------------------------------- */

static void event_unuse(cl_event event)
{
    pthread_mutex_lock(&lock);
    bool is_last = --event->references == 0;
    pthread_mutex_unlock(&lock);
    if (is_last) {
        queue_unuse(event->queue);
        fake_count_living(-1);
        free(event);
    }
}

static cl_int fake_clReleaseEvent(cl_event event)
{
    cl_int error = fake_begin("clReleaseEvent");
    event_unuse(event);
    return error;
}

static cl_int fake_clGetEventInfo(cl_event event, cl_uint what, size_t room, void *value, size_t *bytes)
{
    cl_int error = fake_begin("clGetEventInfo");
    bool is_known = error == CL_SUCCESS && what == CL_EVENT_COMMAND_QUEUE;
    return is_known ? fake_give(&event->queue, sizeof event->queue, room, value, bytes) : CL_INVALID_VALUE;
}

static cl_int fake_clGetEventProfilingInfo(cl_event event, cl_uint what, size_t room, void *value, size_t *bytes)
{
    cl_int error = fake_begin("clGetEventProfilingInfo");
    pthread_mutex_lock(&lock);
    bool is_timed = event->status != QUEUED && (event->queue->properties & CL_QUEUE_PROFILING_ENABLE) != 0;
    cl_ulong time_ns = what == CL_PROFILING_COMMAND_START ? event->start_ns : event->end_ns;
    pthread_mutex_unlock(&lock);
    if (error == CL_SUCCESS && !is_timed) {
        error = CL_PROFILING_INFO_NOT_AVAILABLE;
    }
    return error == CL_SUCCESS ? fake_give(&time_ns, sizeof time_ns, room, value, bytes) : error;
}

/* Of a command that has ended it is called at once, as targets do. */
static cl_int fake_clSetEventCallback(cl_event event, cl_int status, cl_event_notify notify, void *user)
{
    cl_int error = fake_begin("clSetEventCallback");
    if (error != CL_SUCCESS || status != CL_COMPLETE) {
        return error != CL_SUCCESS ? error : CL_INVALID_VALUE;
    }
    pthread_mutex_lock(&lock);
    cl_int ended = event->status;
    if (ended == QUEUED && event->callback_count < CALLBACKS_MAX) {
        event->callbacks[event->callback_count].notify = notify;
        event->callbacks[event->callback_count++].user = user;
    }
    pthread_mutex_unlock(&lock);
    if (ended != QUEUED) {
        notify(event, ended, user);
    }
    return CL_SUCCESS;
}

/* --- The device --------------------------------------------------------------------------------------------------------- */

static void free_in_order(cl_event event)
{
    if (event->frees.notify != NULL) {
        event->frees.notify(event->queue, event->frees.count, event->frees.pointers, event->frees.user);
    }
    for (cl_uint i = 0; event->frees.notify == NULL && i < event->frees.count; i++) {
        fake_svm_free(event->frees.pointers[i]);
    }
}

static void run(cl_event event)
{
    free_in_order(event);
    pthread_mutex_lock(&lock);
    event->start_ns = clock_ns;
    clock_ns += work_ns;
    event->end_ns = clock_ns;
    event->status = work_status;
    unsigned count = event->callback_count; /* nobody adds one from now on */
    pthread_mutex_unlock(&lock);
    for (unsigned i = 0; i < count; i++) {
        event->callbacks[i].notify(event, event->status, event->callbacks[i].user);
    }
    fake_memory_unuse(event->uses[0]);
    fake_memory_unuse(event->uses[1]);
    event_unuse(event);
}

static void *drive(void *unused)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        while (first == NULL || is_held) {
            pthread_cond_wait(&changed, &lock);
        }
        cl_event event = first;
        first = event->next;
        end = first == NULL ? &first : end;
        pthread_mutex_unlock(&lock);
        run(event);
        pthread_mutex_lock(&lock);
        unfinished--;
        pthread_cond_broadcast(&changed);
    }
    return unused;
}

/* Under the lock. */
static void put(cl_event event)
{
    pthread_t thread;
    if (!is_started) {
        is_started = pthread_create(&thread, NULL, drive, NULL) == 0 && pthread_detach(thread) == 0;
    }
    *end = event;
    end = &event->next;
    unfinished++;
    event->queue->references++;
    pthread_cond_broadcast(&changed);
}

/* --- Commands ----------------------------------------------------------------------------------------------------------- */

/* What a command is enqueued with. */
struct ask {
    cl_command_queue queue;
    cl_mem uses[2];
    struct fake_command seen;
    cl_event *event;
};

static cl_int enqueue(struct ask *ask, cl_event made)
{
    cl_int error = fake_begin(ask->seen.name);
    if (error != CL_SUCCESS) {
        free(made);
        return error;
    }
    made->references = ask->event != NULL ? 2 : 1; /* the program's, and the device's until it has ended */
    made->status = QUEUED;
    made->queue = ask->queue;
    memcpy(made->uses, ask->uses, sizeof made->uses);
    fake_memory_use(made->uses[0]);
    fake_memory_use(made->uses[1]);
    fake_count_living(1);
    if (ask->event != NULL) {
        *ask->event = made;
    }
    pthread_mutex_lock(&lock);
    last = ask->seen;
    put(made);
    pthread_mutex_unlock(&lock);
    return CL_SUCCESS;
}

#define U(argument) (uint64_t)(uintptr_t)(argument)
#define COUNT(...) (sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))
#define SEEN(text, ...) {.name = text, .count = COUNT(__VA_ARGS__), .arguments = {__VA_ARGS__}, .wait_count = wait_count, .waits = waits}

/* A command that uses `one` and `two`, if they are memory, and whose arguments are those listed. */
#define COMMAND(name, params, one, two, ...)                                                                      \
    static cl_int fake_##name params                                                                              \
    {                                                                                                             \
        struct ask ask = {.queue = queue, .uses = {one, two}, .seen = SEEN(#name, __VA_ARGS__), .event = event};  \
        return enqueue(&ask, calloc(1, sizeof(struct _cl_event)));                                                \
    }

#define MAP_COMMAND(name, params, ...)                                                                                             \
    static void *fake_##name params                                                                                                \
    {                                                                                                                              \
        struct ask ask = {.queue = queue, .uses = {NULL, NULL}, .seen = SEEN(#name, __VA_ARGS__), .event = event};                 \
        *error = enqueue(&ask, calloc(1, sizeof(struct _cl_event)));                                                               \
        return *error == CL_SUCCESS ? &last : NULL;                                                                                \
    }

COMMAND(clEnqueueNDRangeKernel,
        (cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t *offset, const size_t *global, const size_t *local, DONE), NULL, NULL,
        U(kernel), U(dimensions), U(offset), U(global), U(local))
COMMAND(clEnqueueTask, (cl_command_queue queue, cl_kernel kernel, DONE), NULL, NULL, U(kernel))
COMMAND(clEnqueueNativeKernel,
        (cl_command_queue queue, void (*function)(void *), void *arguments, size_t argument_bytes, cl_uint memory_count, const cl_mem *memories,
         const void **places, DONE),
        NULL, NULL, U(function), U(arguments), U(argument_bytes), U(memory_count), U(memories), U(places))
COMMAND(clEnqueueReadBuffer, (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, void *to, DONE), buffer, NULL, U(buffer),
        U(blocking), U(offset), U(size), U(to))
COMMAND(clEnqueueWriteBuffer, (cl_command_queue queue, cl_mem buffer, cl_bool blocking, size_t offset, size_t size, const void *from, DONE), buffer, NULL,
        U(buffer), U(blocking), U(offset), U(size), U(from))
COMMAND(clEnqueueCopyBuffer, (cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset, size_t to_offset, size_t size, DONE), from, to, U(from),
        U(to), U(from_offset), U(to_offset), U(size))
COMMAND(clEnqueueReadBufferRect,
        (cl_command_queue queue, cl_mem buffer, cl_bool blocking, const size_t *buffer_origin, const size_t *host_origin, const size_t *region,
         size_t buffer_row, size_t buffer_slice, size_t host_row, size_t host_slice, void *to, DONE),
        buffer, NULL, U(buffer), U(blocking), U(buffer_origin), U(host_origin), U(region), U(buffer_row), U(buffer_slice), U(host_row), U(host_slice), U(to))
COMMAND(clEnqueueWriteBufferRect,
        (cl_command_queue queue, cl_mem buffer, cl_bool blocking, const size_t *buffer_origin, const size_t *host_origin, const size_t *region,
         size_t buffer_row, size_t buffer_slice, size_t host_row, size_t host_slice, const void *from, DONE),
        buffer, NULL, U(buffer), U(blocking), U(buffer_origin), U(host_origin), U(region), U(buffer_row), U(buffer_slice), U(host_row), U(host_slice), U(from))
COMMAND(clEnqueueCopyBufferRect,
        (cl_command_queue queue, cl_mem from, cl_mem to, const size_t *from_origin, const size_t *to_origin, const size_t *region, size_t from_row,
         size_t from_slice, size_t to_row, size_t to_slice, DONE),
        from, to, U(from), U(to), U(from_origin), U(to_origin), U(region), U(from_row), U(from_slice), U(to_row), U(to_slice))
COMMAND(clEnqueueFillBuffer, (cl_command_queue queue, cl_mem buffer, const void *pattern, size_t pattern_bytes, size_t offset, size_t size, DONE), buffer, NULL,
        U(buffer), U(pattern), U(pattern_bytes), U(offset), U(size))
COMMAND(clEnqueueReadImage,
        (cl_command_queue queue, cl_mem image, cl_bool blocking, const size_t *origin, const size_t *region, size_t row, size_t slice, void *to, DONE), image,
        NULL, U(image), U(blocking), U(origin), U(region), U(row), U(slice), U(to))
COMMAND(clEnqueueWriteImage,
        (cl_command_queue queue, cl_mem image, cl_bool blocking, const size_t *origin, const size_t *region, size_t row, size_t slice, const void *from, DONE),
        image, NULL, U(image), U(blocking), U(origin), U(region), U(row), U(slice), U(from))
COMMAND(clEnqueueCopyImage,
        (cl_command_queue queue, cl_mem from, cl_mem to, const size_t *from_origin, const size_t *to_origin, const size_t *region, DONE), from, to, U(from), U(to),
        U(from_origin), U(to_origin), U(region))
COMMAND(clEnqueueCopyImageToBuffer, (cl_command_queue queue, cl_mem from, cl_mem to, const size_t *origin, const size_t *region, size_t to_offset, DONE), from,
        to, U(from), U(to), U(origin), U(region), U(to_offset))
COMMAND(clEnqueueCopyBufferToImage, (cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset, const size_t *origin, const size_t *region, DONE), from,
        to, U(from), U(to), U(from_offset), U(origin), U(region))
COMMAND(clEnqueueFillImage, (cl_command_queue queue, cl_mem image, const void *color, const size_t *origin, const size_t *region, DONE), image, NULL, U(image),
        U(color), U(origin), U(region))
COMMAND(clEnqueueMigrateMemObjects, (cl_command_queue queue, cl_uint count, const cl_mem *memories, cl_bitfield flags, DONE), NULL, NULL, U(count), U(memories),
        U(flags))
COMMAND(clEnqueueUnmapMemObject, (cl_command_queue queue, cl_mem memory, void *mapped, DONE), memory, NULL, U(memory), U(mapped))
COMMAND(clEnqueueSVMMemcpy, (cl_command_queue queue, cl_bool blocking, void *to, const void *from, size_t size, DONE), NULL, NULL, U(blocking), U(to), U(from),
        U(size))
COMMAND(clEnqueueSVMMemFill, (cl_command_queue queue, void *to, const void *pattern, size_t pattern_bytes, size_t size, DONE), NULL, NULL, U(to), U(pattern),
        U(pattern_bytes), U(size))
COMMAND(clEnqueueSVMMap, (cl_command_queue queue, cl_bool blocking, cl_bitfield flags, void *pointer, size_t size, DONE), NULL, NULL, U(blocking), U(flags),
        U(pointer), U(size))
COMMAND(clEnqueueSVMUnmap, (cl_command_queue queue, void *pointer, DONE), NULL, NULL, U(pointer))
COMMAND(clEnqueueSVMMigrateMem, (cl_command_queue queue, cl_uint count, const void **pointers, const size_t *sizes, cl_bitfield flags, DONE), NULL, NULL,
        U(count), U(pointers), U(sizes), U(flags))
COMMAND(clEnqueueMarkerWithWaitList, (cl_command_queue queue, DONE), NULL, NULL, 0)
MAP_COMMAND(clEnqueueMapBuffer,
            (cl_command_queue queue, cl_mem buffer, cl_bool blocking, cl_bitfield flags, size_t offset, size_t size, cl_uint wait_count,
             const cl_event *waits, cl_event *event, cl_int *error),
            U(buffer), U(blocking), U(flags), U(offset), U(size))
MAP_COMMAND(clEnqueueMapImage,
            (cl_command_queue queue, cl_mem image, cl_bool blocking, cl_bitfield flags, const size_t *origin, const size_t *region, size_t *row,
             size_t *slice, cl_uint wait_count, const cl_event *waits, cl_event *event, cl_int *error),
            U(image), U(blocking), U(flags), U(origin), U(region), U(row), U(slice))

static cl_int fake_clEnqueueSVMFree(cl_command_queue queue, cl_uint count, void *pointers[], cl_svm_free_notify notify, void *user, DONE)
{
    struct ask ask = {.queue = queue, .seen = SEEN("clEnqueueSVMFree", U(count), U(pointers)), .event = event};
    cl_event made = calloc(1, sizeof *made);
    made->frees.notify = notify;
    made->frees.user = user;
    made->frees.count = count;
    memcpy(made->frees.pointers, pointers, count * sizeof pointers[0]);
    return enqueue(&ask, made);
}

/* A kernel's handle is its name. */
static cl_int fake_clGetKernelInfo(cl_kernel kernel, cl_uint what, size_t room, void *value, size_t *bytes)
{
    const char *name = (const char *)kernel;
    cl_int error = fake_begin("clGetKernelInfo");
    bool is_known = error == CL_SUCCESS && what == CL_KERNEL_FUNCTION_NAME;
    return is_known ? fake_give(name, strlen(name) + 1, room, value, bytes) : CL_INVALID_VALUE;
}

void fake_put_work(struct fake_table *table)
{
    FAKE_PUT(clCreateCommandQueue)
    FAKE_PUT(clCreateCommandQueueWithProperties)
    FAKE_PUT_OWN(clReleaseCommandQueue)
    FAKE_PUT(clSetCommandQueueProperty)
    FAKE_PUT(clGetCommandQueueInfo)
    FAKE_PUT(clReleaseEvent)
    FAKE_PUT(clGetEventInfo)
    FAKE_PUT(clGetEventProfilingInfo)
    FAKE_PUT(clSetEventCallback)
    FAKE_PUT(clGetKernelInfo)
    FAKE_PUT(clEnqueueNDRangeKernel)
    FAKE_PUT(clEnqueueTask)
    FAKE_PUT(clEnqueueNativeKernel)
    FAKE_PUT(clEnqueueReadBuffer)
    FAKE_PUT(clEnqueueWriteBuffer)
    FAKE_PUT(clEnqueueCopyBuffer)
    FAKE_PUT(clEnqueueReadBufferRect)
    FAKE_PUT(clEnqueueWriteBufferRect)
    FAKE_PUT(clEnqueueCopyBufferRect)
    FAKE_PUT(clEnqueueFillBuffer)
    FAKE_PUT(clEnqueueReadImage)
    FAKE_PUT(clEnqueueWriteImage)
    FAKE_PUT(clEnqueueCopyImage)
    FAKE_PUT(clEnqueueCopyImageToBuffer)
    FAKE_PUT(clEnqueueCopyBufferToImage)
    FAKE_PUT(clEnqueueFillImage)
    FAKE_PUT(clEnqueueMigrateMemObjects)
    FAKE_PUT(clEnqueueUnmapMemObject)
    FAKE_PUT(clEnqueueSVMFree)
    FAKE_PUT(clEnqueueSVMMemcpy)
    FAKE_PUT(clEnqueueSVMMemFill)
    FAKE_PUT(clEnqueueSVMMap)
    FAKE_PUT(clEnqueueSVMUnmap)
    FAKE_PUT(clEnqueueSVMMigrateMem)
    FAKE_PUT(clEnqueueMapBuffer)
    FAKE_PUT(clEnqueueMapImage)
    FAKE_PUT_OWN(clEnqueueMarkerWithWaitList)
}
