/* SPDX-License-Identifier: Apache-2.0
 *
 * How the OpenCL layer meets a loader and its target: whatever is missing there is passed through and crashes nothing, a layer that is named twice charges once,
 * outside a slice nothing is changed, and inside there are the slice's devices and no others.
 */
#define _GNU_SOURCE
#include "opencl_slice.h"

#define LIMIT_BYTES (1ULL << 20)
#define OPENCL_1_0 (offsetof(struct fake_table, clGetExtensionFunctionAddress) / sizeof(void *) + 1) /* entries that every OpenCL has */

static bool holds(bool condition, const char *what)
{
    if (!condition) {
        printf("FAILED: %s\n", what);
        fflush(stdout);
    }
    return condition;
}

static void test_information(void)
{
    cl_int (*info)(cl_uint, size_t, void *, size_t *) = NULL;
    cl_int (*init)(cl_uint, const void *, cl_uint *, const void **) = NULL;
    void *library = dlopen(LAYER_PATH, RTLD_NOW);
    void *symbol = library != NULL ? dlsym(library, "clGetLayerInfo") : NULL;
    cl_uint version = 0;
    char name[8];
    size_t bytes = 0;
    memcpy(&info, &symbol, sizeof info);
    symbol = library != NULL ? dlsym(library, "clInitLayer") : NULL;
    memcpy(&init, &symbol, sizeof init);
    check(info != NULL && info(CL_LAYER_API_VERSION, sizeof version, &version, &bytes) == CL_SUCCESS && version == 100 && bytes == 4, "the layer says its version");
    check(info(CL_LAYER_NAME, sizeof name, name, &bytes) == CL_SUCCESS && strcmp(name, "mica") == 0 && bytes == 5, "and its name");
    check(info(CL_LAYER_NAME, 0, NULL, &bytes) == CL_SUCCESS && info(CL_LAYER_NAME, 4, name, NULL) == CL_INVALID_VALUE && info(1, 8, name, NULL) == CL_INVALID_VALUE,
          "and no more than there is room for, or than it knows");
    check(init(FAKE_ENTRIES, NULL, NULL, NULL) == CL_INVALID_VALUE, "it wants a table");
}

/* --- Tables that are not whole ------------------------------------------------------------------------------------------- */

static cl_context make_context(void)
{
    cl_device_id own = fake_device(FAKE_OWN_GPU);
    return cl.clCreateContext != NULL ? cl.clCreateContext(NULL, 1, &own, NULL, NULL, NULL) : NULL;
}

static bool uses_memory(cl_context context, uint64_t expected)
{
    cl_mem memory = context != NULL && cl.clCreateBuffer != NULL ? cl.clCreateBuffer(context, 0, 1000, NULL, NULL) : NULL;
    bool good = holds(memory != NULL || cl.clCreateBuffer == NULL, "a buffer is made") && holds(charged(memory != NULL ? expected : 0), "and charged");
    if (memory != NULL && cl.clReleaseMemObject != NULL) {
        bool is_seen = expected == 0 || cl.clSetMemObjectDestructorCallback != NULL;
        cl.clReleaseMemObject(memory);
        good = holds(charged(is_seen ? 0 : expected), "and given back if its end can be seen") && good;
    }
    if (context != NULL && cl.clSVMAlloc != NULL && cl.clSVMFree != NULL) {
        uint64_t before = mica_charge_sum(gpu, MICA_MEMORY_VRAM);
        cl.clSVMFree(context, cl.clSVMAlloc(context, 0, 10, 0));
        good = holds(charged(before), "shared memory is charged and given back") && good;
    }
    return good;
}

static bool uses_queue(cl_context context, uint64_t expected)
{
    cl_device_id own = fake_device(FAKE_OWN_GPU);
    size_t one = 1;
    cl_event event = NULL;
    cl_command_queue queue = context != NULL && cl.clCreateCommandQueue != NULL ? cl.clCreateCommandQueue(context, own, 0, NULL) : NULL;
    if (queue == NULL || cl.clEnqueueNDRangeKernel == NULL) {
        return true;
    }
    uint64_t before = gpu->launches;
    cl_int result = cl.clEnqueueNDRangeKernel(queue, (cl_kernel)(uintptr_t) "kernel", 1, NULL, &one, NULL, 0, NULL, &event);
    bool good = holds(result == CL_SUCCESS && fake_finish() && gpu->launches == before + expected, "a command runs, and is charged");
    good = holds(gpu->processes[0].inflight == 0, "and is over") && good;
    if (cl.clSetEventCallback != NULL) {
        good = holds(cl.clSetEventCallback(event, 1, NULL, NULL) != CL_SUCCESS, "the target refuses what is no callback") && good;
    }
    return good;
}

/* In a child: a program runs over a target of so many entries. */
static bool runs_over(unsigned entries)
{
    load_target(entries);
    bool is_whole = entries >= OPENCL_1_0; /* anything less is no OpenCL, and nobody's to enforce */
    bool good = load_layer(entries);
    for (unsigned i = entries; i < FAKE_ENTRIES; i++) {
        good = ((void **)&top)[i] == NULL && good;
    }
    cl_context context = make_context();
    good = uses_memory(context, is_whole ? 1000 : 0) && good;
    return uses_queue(context, is_whole ? 1 : 0) && good;
}

/* In a child: one that lacks this entry. */
static bool runs_without(unsigned entry)
{
    load_target(FAKE_ENTRIES);
    ((void **)&top)[entry] = NULL;
    bool good = load_layer(FAKE_ENTRIES) && holds(((void **)&top)[entry] == NULL, "the layer answers nothing that the target has not");
    cl_context context = make_context();
    good = uses_memory(context, 1000) && good;
    return uses_queue(context, 1) && good;
}

static void test_short_tables(void)
{
    for (unsigned entries = 0; entries <= FAKE_ENTRIES; entries++) {
        bool good = in_child(runs_over, entries);
        check(good, "a program runs over an older target");
        if (!good) {
            printf("... of %u entries\n", entries);
        }
    }
    for (unsigned entry = OPENCL_1_0; entry < FAKE_ENTRIES; entry++) {
        bool good = in_child(runs_without, entry);
        check(good, "a program runs over a target that lacks an entry");
        if (!good) {
            printf("... entry %u\n", entry);
        }
    }
}

/* In a child: the layer is named twice. */
static bool runs_under_two(unsigned unused)
{
    (void)unused;
    load_target(FAKE_ENTRIES);
    bool good = load_layer(FAKE_ENTRIES) && load_layer(FAKE_ENTRIES);
    cl_context context = make_context();
    good = holds(context != NULL, "a context is made through two layers") && uses_memory(context, 1000) && good;
    return uses_queue(context, 1) && good;
}

/* --- Outside a slice, and where it is not known -------------------------------------------------------------------------- */

static cl_uint devices_of(cl_bitfield type, cl_device_id found[FAKE_DEVICES])
{
    cl_platform_id platform;
    cl_uint count = 0;
    cl.clGetPlatformIDs(1, &platform, NULL);
    cl_int error = cl.clGetDeviceIDs(platform, type, FAKE_DEVICES, found, &count);
    holds(error == (count > 0 ? CL_SUCCESS : CL_DEVICE_NOT_FOUND), "no device is no success");
    return count;
}

static bool is_open(cl_device_id device, cl_ulong expected_bytes)
{
    cl_ulong bytes = 0;
    cl_ulong most = 0;
    cl_int error = CL_SUCCESS;
    cl.clGetDeviceInfo(device, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof bytes, &bytes, NULL);
    cl.clGetDeviceInfo(device, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof most, &most, NULL);
    cl_context context = cl.clCreateContext(NULL, 1, &device, NULL, NULL, &error);
    bool is_made = context != NULL && error == CL_SUCCESS;
    if (context != NULL) {
        cl.clReleaseContext(context);
    }
    return is_made && bytes == expected_bytes && most == expected_bytes;
}

static bool is_outside(unsigned unused)
{
    cl_device_id found[FAKE_DEVICES];
    cl_properties flags = 0;
    (void)unused;
    bool good = load_layer(FAKE_ENTRIES) && holds(devices_of(CL_DEVICE_TYPE_ALL, found) == FAKE_DEVICES, "all devices are there");
    good = holds(is_open(fake_device(FAKE_OTHER_GPU), FAKE_MEMORY_BYTES), "for everybody, whole") && good;
    cl_context context = make_context();
    cl_command_queue queue = cl.clCreateCommandQueue(context, found[0], 0, NULL);
    good = holds(fake_asked("clSetMemObjectDestructorCallback") == 0, "nothing is watched") && good;
    cl.clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof flags, &flags, NULL);
    good = holds(flags == 0 && cl.clCreateBuffer(context, 0, 2 * LIMIT_BYTES, NULL, NULL) != NULL, "nor limited") && good;
    cl.clSetCommandQueueProperty(queue, CL_QUEUE_PROFILING_ENABLE, 1, &flags);
    cl.clGetCommandQueueInfo(queue, CL_QUEUE_PROPERTIES, sizeof flags, &flags, NULL);
    return holds(flags == CL_QUEUE_PROFILING_ENABLE, "nor hidden") && uses_memory(context, 0) && uses_queue(context, 0) && good;
}

static bool is_passed(unsigned unused)
{
    load_target(FAKE_ENTRIES);
    unsetenv("MICA_SLICE");
    return is_outside(unused);
}

static bool is_refused(unsigned unused)
{
    cl_device_id found[FAKE_DEVICES];
    cl_int error = CL_SUCCESS;
    (void)unused;
    load_target(FAKE_ENTRIES);
    setenv("MICA_SLICE", "nobody", 1);
    cl_device_id own = fake_device(FAKE_OWN_GPU);
    cl_context context = cl.clCreateContext(NULL, 1, &own, NULL, NULL, NULL); /* from before the layer */
    cl_command_queue queue = cl.clCreateCommandQueue(context, own, 0, NULL);
    FILE *hidden = freopen("/dev/null", "w", stderr);
    bool good = hidden != NULL && load_layer(FAKE_ENTRIES) && devices_of(CL_DEVICE_TYPE_ALL, found) == 0;
    good = cl.clCreateContext(NULL, 1, &own, NULL, NULL, &error) == NULL && error == CL_OUT_OF_RESOURCES && good;
    good = cl.clCreateContextFromType(NULL, CL_DEVICE_TYPE_ALL, NULL, NULL, &error) == NULL && error == CL_DEVICE_NOT_FOUND && good;
    good = cl.clCreateBuffer(context, 0, 1, NULL, &error) == NULL && error == CL_OUT_OF_RESOURCES && good;
    return cl.clSVMAlloc(context, 0, 1, 0) == NULL && cl.clEnqueueTask(queue, NULL, 0, NULL, NULL) == CL_OUT_OF_RESOURCES && good;
}

/* --- Devices ------------------------------------------------------------------------------------------------------------- */

static void test_devices(void)
{
    cl_device_id found[FAKE_DEVICES];
    cl_device_id own[] = {fake_device(FAKE_OWN_GPU), fake_device(FAKE_OWN_CPU)};
    cl_device_id mixed[] = {own[0], fake_device(FAKE_OTHER_GPU)};
    cl_platform_id platforms[2];
    cl_int error = CL_SUCCESS;
    cl_uint count = 9;
    check(devices_of(CL_DEVICE_TYPE_ALL, found) == 2 && found[0] == own[0] && found[1] == own[1], "there are the slice's devices and no others");
    check(devices_of(CL_DEVICE_TYPE_GPU, found) == 1 && found[0] == own[0], "one by its UUID");
    check(devices_of(CL_DEVICE_TYPE_CPU, found) == 1 && found[0] == own[1], "one by its platform, name and number");
    check(devices_of(CL_DEVICE_TYPE_DEFAULT, found) == 1 && found[0] == own[0], "a default that is another's is one of the slice's own");
    check(devices_of(1 << 10, found) == 0, "of a type that there is not there is none");
    check(cl.clGetPlatformIDs(2, platforms, NULL) == CL_SUCCESS, "there are two platforms");
    check(cl.clGetDeviceIDs(platforms[1], CL_DEVICE_TYPE_ALL, 0, NULL, &count) == CL_DEVICE_NOT_FOUND && count == 0, "one that has none of the slice's devices has none");
    check(cl.clGetDeviceIDs(platforms[0], CL_DEVICE_TYPE_ALL, 0, NULL, &count) == CL_SUCCESS && count == 2, "they are counted");
    found[1] = NULL;
    check(cl.clGetDeviceIDs(platforms[0], CL_DEVICE_TYPE_ALL, 1, found, &count) == CL_SUCCESS && count == 2 && found[1] == NULL, "and no more shown than there is room for");
    check(cl.clGetDeviceIDs(platforms[0], CL_DEVICE_TYPE_ALL, 0, found, NULL) == CL_INVALID_VALUE, "which is not none");
    check(is_open(own[0], LIMIT_BYTES) && is_open(own[1], OPENCL_CPU_BYTES), "each is as large as the slice");
    check(!is_open(mixed[1], FAKE_MEMORY_BYTES), "no context is made on another's");
    check(cl.clCreateContext(NULL, 2, mixed, NULL, NULL, &error) == NULL && error == CL_INVALID_DEVICE, "nor on one among the slice's own");
    cl_context context = cl.clCreateContextFromType(NULL, CL_DEVICE_TYPE_ALL, NULL, NULL, &error);
    size_t bytes = 0;
    check(context != NULL && cl.clGetContextInfo(context, CL_CONTEXT_DEVICES, sizeof found, found, &bytes) == CL_SUCCESS, "a context is made by type");
    check(bytes == sizeof own && memcmp(found, own, sizeof own) == 0, "of the slice's devices");
    check(cl.clReleaseContext(context) == CL_SUCCESS, "and released");
}

static int inside(void)
{
    test_information();
    test_short_tables();
    check(in_child(runs_under_two, 0), "a layer that is named twice charges once");
    check(in_child(is_passed, 0), "outside a slice everything is as without the layer");
    check(in_child(is_refused, 0), "in a slice of which nothing is known everything is refused");
    load_target(FAKE_ENTRIES);
    if (!load_layer(FAKE_ENTRIES)) {
        return 1;
    }
    test_devices();
    return 0;
}

int main(int count, char **arguments)
{
    (void)count;
    return run_in_opencl_slice(arguments, LIMIT_BYTES, inside);
}
