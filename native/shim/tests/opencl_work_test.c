/* SPDX-License-Identifier: Apache-2.0
 *
 * Work under the OpenCL layer: every command reaches the target as it was, once, and is charged the device's own time; nothing of that shows to the program;
 * and what the target's own thread is used for never waits.
 */
#define _GNU_SOURCE
#include "../core/cost.h"
#include "opencl_slice.h"

#include <pthread.h>

#define LIMIT_BYTES (1ULL << 20)
#define WORK_NS 70000ULL
#define WAITS 7, (const cl_event *)AT(60), event
#define THREADS 4
#define ROUNDS 1000

static cl_context context;
static cl_command_queue queue;
static size_t space[64]; /* the argument at place i of a command is i, or where its i-th word is; each of them is 1 */

#define AT(place) ((void *)&space[place])
#define SCENE(place) ((void (*)(void *))(uintptr_t)AT(place))

/* C(name, number of arguments, arguments) of every command that makes a device work, M of those that answer with a place. */
#define COMMANDS(C, M)                                                                                       \
    C(clEnqueueNDRangeKernel, 5, (queue, AT(1), 2, AT(3), AT(4), AT(5), WAITS))                              \
    C(clEnqueueTask, 1, (queue, AT(1), WAITS))                                                               \
    C(clEnqueueNativeKernel, 6, (queue, SCENE(1), AT(2), 3, 4, AT(5), AT(6), WAITS))                         \
    C(clEnqueueReadBuffer, 5, (queue, AT(1), 2, 3, 4, AT(5), WAITS))                                         \
    C(clEnqueueWriteBuffer, 5, (queue, AT(1), 2, 3, 4, AT(5), WAITS))                                        \
    C(clEnqueueCopyBuffer, 5, (queue, AT(1), AT(2), 3, 4, 5, WAITS))                                         \
    C(clEnqueueReadBufferRect, 10, (queue, AT(1), 2, AT(3), AT(4), AT(5), 6, 7, 8, 9, AT(10), WAITS))        \
    C(clEnqueueWriteBufferRect, 10, (queue, AT(1), 2, AT(3), AT(4), AT(5), 6, 7, 8, 9, AT(10), WAITS))       \
    C(clEnqueueCopyBufferRect, 9, (queue, AT(1), AT(2), AT(3), AT(4), AT(5), 6, 7, 8, 9, WAITS))             \
    C(clEnqueueFillBuffer, 5, (queue, AT(1), AT(2), 3, 4, 5, WAITS))                                         \
    C(clEnqueueReadImage, 7, (queue, AT(1), 2, AT(3), AT(4), 5, 6, AT(7), WAITS))                            \
    C(clEnqueueWriteImage, 7, (queue, AT(1), 2, AT(3), AT(4), 5, 6, AT(7), WAITS))                           \
    C(clEnqueueCopyImage, 5, (queue, AT(1), AT(2), AT(3), AT(4), AT(5), WAITS))                              \
    C(clEnqueueCopyImageToBuffer, 5, (queue, AT(1), AT(2), AT(3), AT(4), 5, WAITS))                          \
    C(clEnqueueCopyBufferToImage, 5, (queue, AT(1), AT(2), 3, AT(4), AT(5), WAITS))                          \
    C(clEnqueueFillImage, 4, (queue, AT(1), AT(2), AT(3), AT(4), WAITS))                                     \
    C(clEnqueueMigrateMemObjects, 3, (queue, 1, AT(2), 3, WAITS))                                            \
    C(clEnqueueUnmapMemObject, 2, (queue, AT(1), AT(2), WAITS))                                              \
    C(clEnqueueSVMMemcpy, 4, (queue, 1, AT(2), AT(3), 4, WAITS))                                             \
    C(clEnqueueSVMMemFill, 4, (queue, AT(1), AT(2), 3, 4, WAITS))                                            \
    C(clEnqueueSVMMap, 4, (queue, 1, 2, AT(3), 4, WAITS))                                                    \
    C(clEnqueueSVMUnmap, 1, (queue, AT(1), WAITS))                                                           \
    C(clEnqueueSVMMigrateMem, 4, (queue, 1, AT(2), AT(3), 4, WAITS))                                         \
    M(clEnqueueMapBuffer, 5, (queue, AT(1), 2, 3, 4, 5, WAITS, &error))                                      \
    M(clEnqueueMapImage, 7, (queue, AT(1), 2, 3, AT(4), AT(5), AT(6), AT(7), WAITS, &error))

#define PLAIN(name, count, arguments)           \
    static cl_int call_##name(cl_event *event)  \
    {                                           \
        return cl.name arguments;               \
    }
#define MAPPED(name, count, arguments)                                            \
    static cl_int call_##name(cl_event *event)                                    \
    {                                                                             \
        cl_int error = 1;                                                         \
        void *place = cl.name arguments;                                          \
        check((place != NULL) == (error == CL_SUCCESS), "a map has its error");   \
        return error;                                                             \
    }
COMMANDS(PLAIN, MAPPED)

static const struct command_test {
    const char *name;
    size_t count;
    cl_int (*call)(cl_event *event);
} commands[] = {
#define ENTRY(name, count, arguments) {#name, count, call_##name},
    COMMANDS(ENTRY, ENTRY)
#undef ENTRY
};

static uint64_t in_flight(void)
{
    return gpu->processes[0].inflight;
}

static bool is_as_it_was(const struct command_test *command)
{
    struct fake_command seen = fake_last();
    bool same = strcmp(seen.name, command->name) == 0 && seen.count == command->count && seen.wait_count == 7 && seen.waits == AT(60);
    for (size_t i = 0; i < seen.count; i++) {
        same = same && (seen.arguments[i] == i + 1 || seen.arguments[i] == (uintptr_t)AT(i + 1));
    }
    return same;
}

static void test_command(const struct command_test *command)
{
    uint64_t ns = gpu->gpu_ns;
    uint64_t launches = gpu->launches;
    long living = fake_living();
    cl_event event = NULL;
    fake_fail(command->name, CL_OUT_OF_HOST_MEMORY);
    check(command->call(NULL) == CL_OUT_OF_HOST_MEMORY && gpu->gpu_ns == ns && gpu->launches == launches && in_flight() == 0, "what the target refuses is not charged");
    fake_hold(true);
    unsigned asked = fake_asked(command->name);
    check(command->call(NULL) == CL_SUCCESS && fake_asked(command->name) == asked + 1 && is_as_it_was(command), "a command reaches the target as it was, once");
    check(gpu->launches == launches + 1 && gpu->gpu_ns > ns && in_flight() == 1, "and is charged before it runs");
    fake_hold(false);
    check(fake_finish() && gpu->gpu_ns == ns + WORK_NS && in_flight() == 0, "and what it took when it has ended");
    check(command->call(&event) == CL_SUCCESS && event != NULL && fake_finish() && gpu->gpu_ns == ns + 2 * WORK_NS, "also if the program wants its event");
    check(fake_living() == living + 1 && cl.clReleaseEvent(event) == CL_SUCCESS && fake_living() == living, "which is all that is left, and the program's own");
    if (failed > 0) {
        printf("... %s\n", command->name);
    }
}

static void test_commands(void)
{
    fake_command_takes(WORK_NS);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0] && failed == 0; i++) {
        test_command(&commands[i]);
    }
    check(top.clEnqueueMarkerWithWaitList == fake_target()->clEnqueueMarkerWithWaitList, "a marker makes no device work, and is the target's own");
}

/* --- Queues and their times ---------------------------------------------------------------------------------------------- */

/* A kernel's name is what it is known by, so that it costs what others of the name have. */
static cl_int launch_on(cl_command_queue on, const char *kernel, cl_event *event)
{
    size_t one = 1;
    return cl.clEnqueueNDRangeKernel(on, (cl_kernel)(uintptr_t)kernel, 1, NULL, &one, NULL, 0, NULL, event);
}

static bool shows_times(cl_event event)
{
    cl_ulong start = 0;
    cl_ulong end = 0;
    cl_int error = cl.clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof start, &start, NULL);
    cl.clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL);
    check(error == (end != 0 ? CL_SUCCESS : CL_PROFILING_INFO_NOT_AVAILABLE), "times that are not shown are not available");
    return end == start + WORK_NS;
}

/* Whether a queue that was made with this shows exactly this, and the times of its commands only if they were asked for; also once it is released. */
static void test_queue(cl_command_queue made, const cl_properties *list, size_t words, cl_properties flags)
{
    cl_properties shown = ~0ULL;
    cl_properties array[8];
    size_t bytes = 99;
    cl_event event = NULL;
    bool is_asked = (flags & CL_QUEUE_PROFILING_ENABLE) != 0;
    static unsigned times;
    char kernel[32]; /* that nobody knows yet */
    uint64_t ns = gpu->gpu_ns;
    snprintf(kernel, sizeof kernel, "timed %u", times++);
    check(made != NULL && cl.clGetCommandQueueInfo(made, CL_QUEUE_PROPERTIES, sizeof shown, &shown, NULL) == CL_SUCCESS && shown == flags, "a queue shows its flags");
    check(cl.clGetCommandQueueInfo(made, CL_QUEUE_PROPERTIES_ARRAY, 0, NULL, &bytes) == CL_SUCCESS && bytes == words * sizeof array[0], "and as many properties as it was made with");
    check(cl.clGetCommandQueueInfo(made, CL_QUEUE_PROPERTIES_ARRAY, words * sizeof array[0], array, NULL) == CL_SUCCESS, "which have room where they came from");
    check(words == 0 || memcmp(array, list, words * sizeof array[0]) == 0, "and are the same");
    check(launch_on(made, kernel, &event) == CL_SUCCESS && fake_finish() && shows_times(event) == is_asked, "times are shown to who asked for them");
    check(gpu->gpu_ns == ns + WORK_NS, "and known to the layer in any case");
    check(cl.clReleaseCommandQueue(made) == CL_SUCCESS && shows_times(event) == is_asked, "and to nobody else, also when the queue is gone and its event is not");
    cl.clReleaseEvent(event);
}

static void test_queues(void)
{
    static const cl_properties timed[] = {CL_QUEUE_PROPERTIES, CL_QUEUE_PROFILING_ENABLE | 1, 0};
    static const cl_properties plain[] = {CL_QUEUE_SIZE, 16, CL_QUEUE_PROPERTIES, 1, 0};
    static const cl_properties zero[] = {CL_QUEUE_PROPERTIES, 0, 0};
    static const cl_properties size[] = {CL_QUEUE_SIZE, 16, 0};
    static const cl_properties none[] = {0};
    cl_device_id device = fake_device(FAKE_OWN_GPU);
    long living = fake_living();
    for (int i = 0; i < 2; i++) { /* the second time at addresses that were others' */
        test_queue(cl.clCreateCommandQueue(context, device, 1, NULL), NULL, 0, 1);
        test_queue(cl.clCreateCommandQueue(context, device, CL_QUEUE_PROFILING_ENABLE, NULL), NULL, 0, CL_QUEUE_PROFILING_ENABLE);
        test_queue(cl.clCreateCommandQueueWithProperties(context, device, timed, NULL), timed, 3, CL_QUEUE_PROFILING_ENABLE | 1);
        test_queue(cl.clCreateCommandQueueWithProperties(context, device, plain, NULL), plain, 5, 1);
        test_queue(cl.clCreateCommandQueueWithProperties(context, device, zero, NULL), zero, 3, 0);
        test_queue(cl.clCreateCommandQueueWithProperties(context, device, size, NULL), size, 3, 0);
        test_queue(cl.clCreateCommandQueueWithProperties(context, device, none, NULL), none, 1, 0);
        test_queue(cl.clCreateCommandQueueWithProperties(context, device, NULL, NULL), NULL, 0, 0);
    }
    check(fake_living() == living, "no queue and no event is left");
}

/* What the layer times with is not for a program to switch off. */
static void test_queue_property(void)
{
    cl_properties before = ~0ULL;
    unsigned asked = fake_asked("clSetCommandQueueProperty");
    check(cl.clSetCommandQueueProperty(queue, CL_QUEUE_PROFILING_ENABLE, 0, &before) == CL_INVALID_OPERATION && fake_asked("clSetCommandQueueProperty") == asked,
          "a queue's properties do not change");
}

/* --- What goes wrong ----------------------------------------------------------------------------------------------------- */

static void test_failures(void)
{
    uint64_t ns = gpu->gpu_ns;
    fake_command_ends(CL_OUT_OF_RESOURCES);
    check(launch_on(queue, "fails", NULL) == CL_SUCCESS && fake_finish() && in_flight() == 0, "a command that fails on the device is in flight no more");
    check(gpu->gpu_ns == ns + MICA_COST_UNKNOWN_NS, "and stays charged as it was: its times mean nothing");
    fake_command_ends(CL_COMPLETE);
    fake_fail("clSetEventCallback", CL_OUT_OF_HOST_MEMORY);
    ns = gpu->gpu_ns;
    check(launch_on(queue, "unseen", NULL) == CL_SUCCESS && in_flight() == 0, "nor is one whose end will not be seen");
    check(fake_finish() && gpu->gpu_ns > ns, "which stays charged, too");
}

/* --- Waiting ------------------------------------------------------------------------------------------------------------- */

static void *launch_one(void *unused)
{
    check(launch_on(queue, "waits", NULL) == CL_SUCCESS, "a command that waited goes on");
    return unused;
}

/* In a paused slice `body` launches on a thread of its own: it is held, until the pause ends. */
static void test_held(void *(*body)(void *), const char *what)
{
    pthread_t thread;
    uint64_t waited = gpu->throttled_ns;
    uint64_t launches = gpu->launches;
    opencl_limit(LIMIT_BYTES, MICA_CONTROL_PAUSE);
    pthread_create(&thread, NULL, body, NULL);
    for (int i = 0; i < PATIENCE && gpu->throttled_ns < waited + 3 * MS; i++) {
        rest();
    }
    check(gpu->throttled_ns >= waited + 3 * MS && gpu->launches == launches, what);
    opencl_limit(LIMIT_BYTES, MICA_CONTROL_RUN);
    pthread_join(thread, NULL);
    check(fake_finish() && gpu->launches == launches + 1, "and no longer than the pause");
}

static _Atomic int called;

static void launch_again(cl_event event, cl_int status, void *user)
{
    (void)event;
    check(status == CL_COMPLETE && user == &called, "a callback is told what its program said");
    check(launch_on(queue, "late", NULL) == CL_SUCCESS, "it may launch");
    atomic_fetch_add(&called, 1);
}

static void note_called(cl_event event, cl_int status, void *user)
{
    (void)event, (void)status, (void)user;
    atomic_fetch_add(&called, 1);
}

static cl_event ended;

/* A callback of a command that has ended is called at once, on this very thread, which then waits as ever. */
static void *launch_after_callback(void *unused)
{
    check(cl.clSetEventCallback(ended, CL_COMPLETE, note_called, &called) == CL_SUCCESS && called == 1, "a callback is called");
    return launch_one(unused);
}

static void test_callbacks(void)
{
    cl_event event = NULL;
    uint64_t launches = gpu->launches;
    uint64_t ns = gpu->gpu_ns;
    fake_hold(true);
    check(launch_on(queue, "first", &event) == CL_SUCCESS && cl.clSetEventCallback(event, CL_COMPLETE, launch_again, &called) == CL_SUCCESS, "a callback is set");
    opencl_limit(LIMIT_BYTES, MICA_CONTROL_PAUSE);
    fake_hold(false);
    for (int i = 0; i < PATIENCE && called == 0; i++) {
        rest();
    }
    check(called == 1 && fake_finish(), "a callback that launches is not held up, not even while its slice is paused");
    opencl_limit(LIMIT_BYTES, MICA_CONTROL_RUN);
    check(gpu->launches == launches + 2 && gpu->gpu_ns == ns + 2 * WORK_NS && in_flight() == 0, "and what it launched is charged when it has ended");
    fake_fail("clSetEventCallback", CL_OUT_OF_RESOURCES);
    check(cl.clSetEventCallback(event, CL_COMPLETE, note_called, NULL) == CL_OUT_OF_RESOURCES && called == 1, "a callback that the target does not take is not called");
    called = 0;
    ended = event;
    test_held(launch_after_callback, "who sets a callback is held afterwards");
    cl.clReleaseEvent(event);
    called = 0;
}

static void launch_at_end(cl_mem memory, void *user)
{
    (void)memory;
    launch_again(NULL, CL_COMPLETE, user);
}

static void launch_and_free(cl_command_queue of, cl_uint count, void **pointers, void *user)
{
    check(of == queue && count == 1, "a function that frees is told what");
    launch_again(NULL, CL_COMPLETE, user);
    cl.clSVMFree(context, pointers[0]);
}

/* What `command` enqueues ends in a callback on the target's thread that launches, in a slice that is paused by then. */
static void test_ending(void (*command)(void), const char *what)
{
    uint64_t launches = gpu->launches;
    called = 0;
    fake_hold(true);
    command();
    opencl_limit(LIMIT_BYTES, MICA_CONTROL_PAUSE);
    fake_hold(false);
    for (int i = 0; i < PATIENCE && called == 0; i++) {
        rest();
    }
    check(called == 1 && fake_finish() && gpu->launches > launches, what);
    opencl_limit(LIMIT_BYTES, MICA_CONTROL_RUN);
    check(fake_finish() && fake_living_bytes() == 0, "and nothing is left");
}

static void end_memory(void)
{
    cl_mem memory = cl.clCreateBuffer(context, 0, 10, NULL, NULL);
    fake_fail("clSetMemObjectDestructorCallback", CL_OUT_OF_RESOURCES);
    check(cl.clSetMemObjectDestructorCallback(memory, launch_at_end, NULL) == CL_OUT_OF_RESOURCES, "a target may refuse to tell an object's end");
    check(cl.clSetMemObjectDestructorCallback(memory, launch_at_end, &called) == CL_SUCCESS, "or tell it");
    check(cl.clEnqueueFillBuffer(queue, memory, "", 1, 0, 10, 0, NULL, NULL) == CL_SUCCESS && cl.clReleaseMemObject(memory) == CL_SUCCESS, "an object is used last by a command");
}

static void end_shared(void)
{
    void *pointer = cl.clSVMAlloc(context, 0, 10, 0);
    fake_fail("clEnqueueSVMFree", CL_OUT_OF_RESOURCES);
    check(cl.clEnqueueSVMFree(queue, 1, &pointer, launch_and_free, NULL, 0, NULL, NULL) == CL_OUT_OF_RESOURCES, "a target may refuse to free");
    check(cl.clEnqueueSVMFree(queue, 1, &pointer, launch_and_free, &called, 0, NULL, NULL) == CL_SUCCESS, "or do it");
}

/* --- Threads ------------------------------------------------------------------------------------------------------------- */

static void *launch_many(void *unused)
{
    for (int i = 0; i < ROUNDS; i++) {
        cl_event event = NULL;
        bool wants_event = i % 4 == 0;
        if (launch_on(queue, i % 2 == 0 ? "even" : "odd", wants_event ? &event : NULL) == CL_SUCCESS && wants_event) {
            cl.clSetEventCallback(event, CL_COMPLETE, note_called, NULL);
            cl.clReleaseEvent(event);
        }
    }
    return unused;
}

static void test_threads(const char *what)
{
    pthread_t threads[THREADS];
    uint64_t launches = gpu->launches;
    long living = fake_living();
    called = 0;
    for (int i = 0; i < THREADS; i++) {
        pthread_create(&threads[i], NULL, launch_many, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    check(fake_finish() && called == THREADS * ROUNDS / 4 && fake_living() == living, "threads launch at once, and leave nothing behind");
    check(comes_to(&gpu->launches, launches + THREADS * ROUNDS) && in_flight() == 0, what);
}

static void test_credit(void)
{
    bench_slice_write(LIMIT_BYTES, MICA_CONTROL_RUN); /* no limit but time: commands on credit */
    fake_command_takes(1000);
    test_threads("and each command is counted, also one on credit");
    opencl_limit(LIMIT_BYTES, MICA_CONTROL_RUN);
    test_threads("or in flight");
    fake_command_takes(WORK_NS);
}

static void test_kill(void)
{
    uint64_t launches = gpu->launches;
    opencl_limit(LIMIT_BYTES, MICA_CONTROL_KILL);
    unsigned asked = fake_asked("clEnqueueNDRangeKernel");
    check(launch_on(queue, "killed", NULL) == CL_OUT_OF_RESOURCES && fake_asked("clEnqueueNDRangeKernel") == asked, "a killed slice launches nothing");
    check(gpu->launches == launches && in_flight() == 0, "and nothing is counted");
}

static int inside(void)
{
    cl_device_id device = fake_device(FAKE_OWN_GPU);
    for (size_t i = 0; i < sizeof space / sizeof space[0]; i++) {
        space[i] = 1;
    }
    load_target(FAKE_ENTRIES);
    if (!load_layer(FAKE_ENTRIES)) {
        return 1;
    }
    context = cl.clCreateContext(NULL, 1, &device, NULL, NULL, NULL);
    queue = cl.clCreateCommandQueue(context, device, 0, NULL);
    check(context != NULL && queue != NULL, "a context and a queue are made");
    test_commands();
    test_queues();
    test_queue_property();
    test_failures();
    test_held(launch_one, "a paused slice's command is held");
    test_callbacks();
    test_ending(end_memory, "a callback at an object's end that launches is not held up");
    test_ending(end_shared, "nor is a program's own function that frees");
    test_credit();
    test_kill();
    return 0;
}

int main(int count, char **arguments)
{
    (void)count;
    return run_in_opencl_slice(arguments, LIMIT_BYTES, inside);
}
