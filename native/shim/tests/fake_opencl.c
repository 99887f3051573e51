/* SPDX-License-Identifier: Apache-2.0
 *
 * The fake target's platforms, devices and contexts, and what a test asks all of it.
 */
#define _GNU_SOURCE
#include "fake_opencl.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CALLS_MAX 160
#define PARTS_MAX 256

struct _cl_platform_id {
    const char *name;
};

struct _cl_device_id {
    cl_platform_id platform;
    const char *name;
    cl_bitfield type;
    unsigned char uuid_end; /* all its other bytes are zero; 0: it has none */
    cl_device_id parent;
};

struct _cl_context {
    _Atomic unsigned references;
    cl_uint count;
    cl_device_id devices[];
};

static struct _cl_platform_id platforms[] = {{FAKE_PLATFORM}, {"Another platform"}};
static struct _cl_device_id devices[] = {
    [FAKE_OTHER_GPU] = {&platforms[0], "Fake GPU", CL_DEVICE_TYPE_GPU, 2, NULL},
    [FAKE_OWN_GPU] = {&platforms[0], "Fake GPU", CL_DEVICE_TYPE_GPU, 1, NULL},
    [FAKE_OTHER_CPU] = {&platforms[0], "Fake CPU", CL_DEVICE_TYPE_CPU, 0, NULL},
    [FAKE_OWN_CPU] = {&platforms[0], "Fake CPU", CL_DEVICE_TYPE_CPU, 0, NULL},
    [FAKE_DEVICES] = {&platforms[1], "Fake CPU", CL_DEVICE_TYPE_CPU, 0, NULL},
};
#define ALL_DEVICES (sizeof devices / sizeof devices[0])

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    const char *name;
    unsigned asked;
    cl_int error; /* of the next one */
} calls[CALLS_MAX];
static _Atomic long living;

cl_device_id fake_device(unsigned which)
{
    return &devices[which];
}

/* The place of a call's name, under the lock. */
static unsigned place_of(const char *name)
{
    unsigned i = 0;
    while (calls[i].name != NULL && strcmp(calls[i].name, name) != 0) {
        i++;
    }
    calls[i].name = name;
    return i;
}

cl_int fake_begin(const char *name)
{
    pthread_mutex_lock(&lock);
    unsigned i = place_of(name);
    cl_int error = calls[i].error;
    calls[i].error = CL_SUCCESS;
    calls[i].asked++;
    pthread_mutex_unlock(&lock);
    return error;
}

unsigned fake_asked(const char *name)
{
    pthread_mutex_lock(&lock);
    unsigned asked = calls[place_of(name)].asked;
    pthread_mutex_unlock(&lock);
    return asked;
}

void fake_fail(const char *name, cl_int error)
{
    pthread_mutex_lock(&lock);
    calls[place_of(name)].error = error;
    pthread_mutex_unlock(&lock);
}

cl_int fake_give(const void *from, size_t size, size_t room, void *value, size_t *bytes)
{
    if (value != NULL && room < size) {
        return CL_INVALID_VALUE;
    }
    if (value != NULL && size != 0) {
        memcpy(value, from, size);
    }
    if (bytes != NULL) {
        *bytes = size;
    }
    return CL_SUCCESS;
}

void fake_count_living(int change)
{
    atomic_fetch_add(&living, change);
}

long fake_living(void)
{
    return atomic_load(&living);
}

void *fake_tell(cl_int *error, cl_int code)
{
    if (error != NULL) {
        *error = code;
    }
    return NULL;
}

/* --- Platforms and devices ---------------------------------------------------------------------------------------------- */

static cl_int fake_clGetPlatformIDs(cl_uint room, cl_platform_id *found, cl_uint *count)
{
    cl_int error = fake_begin("clGetPlatformIDs");
    for (cl_uint i = 0; found != NULL && i < room && i < 2; i++) {
        found[i] = &platforms[i];
    }
    if (count != NULL) {
        *count = 2;
    }
    return error;
}

static cl_int fake_clGetPlatformInfo(cl_platform_id platform, cl_uint what, size_t room, void *value, size_t *bytes)
{
    cl_int error = fake_begin("clGetPlatformInfo");
    bool is_known = error == CL_SUCCESS && what == CL_PLATFORM_NAME;
    return is_known ? fake_give(platform->name, strlen(platform->name) + 1, room, value, bytes) : CL_INVALID_VALUE;
}

static cl_int fake_clGetDeviceIDs(cl_platform_id platform, cl_bitfield type, cl_uint room, cl_device_id *found, cl_uint *count)
{
    cl_int error = fake_begin("clGetDeviceIDs");
    cl_uint matching = 0;
    for (unsigned i = 0; error == CL_SUCCESS && i < ALL_DEVICES; i++) {
        bool is_first = i == 0 || devices[i].platform != devices[i - 1].platform;
        bool is_meant = type == CL_DEVICE_TYPE_DEFAULT ? is_first : (devices[i].type & type) != 0;
        if (devices[i].platform == platform && is_meant) {
            if (found != NULL && matching < room) {
                found[matching] = &devices[i];
            }
            matching++;
        }
    }
    if (count != NULL) {
        *count = matching;
    }
    return error != CL_SUCCESS ? error : matching > 0 ? CL_SUCCESS : CL_DEVICE_NOT_FOUND;
}

static cl_int fake_clGetDeviceInfo(cl_device_id device, cl_uint what, size_t room, void *value, size_t *bytes)
{
    cl_int error = fake_begin("clGetDeviceInfo");
    cl_ulong memory = FAKE_MEMORY_BYTES;
    if (error != CL_SUCCESS) {
        return error;
    }
    unsigned char uuid[CL_UUID_SIZE_KHR] = {[CL_UUID_SIZE_KHR - 1] = device->uuid_end};
    switch (what) {
    case CL_DEVICE_NAME:
        return fake_give(device->name, strlen(device->name) + 1, room, value, bytes);
    case CL_DEVICE_TYPE:
        return fake_give(&device->type, sizeof device->type, room, value, bytes);
    case CL_DEVICE_PARENT_DEVICE:
        return fake_give(&device->parent, sizeof device->parent, room, value, bytes);
    case CL_DEVICE_UUID_KHR:
        return device->uuid_end != 0 ? fake_give(uuid, sizeof uuid, room, value, bytes) : CL_INVALID_VALUE;
    case CL_DEVICE_GLOBAL_MEM_SIZE:
    case CL_DEVICE_MAX_MEM_ALLOC_SIZE:
        return fake_give(&memory, sizeof memory, room, value, bytes);
    default:
        return CL_INVALID_VALUE;
    }
}

/* A device in so many parts, all of which are there for good. */
static cl_int fake_clCreateSubDevices(cl_device_id device, const intptr_t *properties, cl_uint room, cl_device_id *found, cl_uint *count)
{
    static struct _cl_device_id parts[ALL_DEVICES][PARTS_MAX];
    cl_int error = fake_begin("clCreateSubDevices");
    struct _cl_device_id *own = parts[device - devices];
    if (error != CL_SUCCESS || properties[0] != CL_DEVICE_PARTITION_EQUALLY) {
        return error != CL_SUCCESS ? error : CL_INVALID_VALUE;
    }
    for (cl_uint i = 0; found != NULL && i < room && i < PARTS_MAX; i++) {
        own[i] = *device;
        own[i].uuid_end = 0;
        own[i].parent = device;
        found[i] = &own[i];
    }
    if (count != NULL) {
        *count = PARTS_MAX;
    }
    return CL_SUCCESS;
}

/* --- Contexts ----------------------------------------------------------------------------------------------------------- */

static cl_context fake_clCreateContext(const cl_context_properties *properties, cl_uint count, const cl_device_id *chosen, cl_notify notify, void *user,
                                       cl_int *error)
{
    (void)properties, (void)notify, (void)user;
    cl_int code = fake_begin("clCreateContext");
    cl_context context = code == CL_SUCCESS ? malloc(sizeof *context + count * sizeof chosen[0]) : NULL;
    fake_tell(error, code);
    if (context != NULL) {
        context->references = 1;
        context->count = count;
        memcpy(context->devices, chosen, count * sizeof chosen[0]);
        fake_count_living(1);
    }
    return context;
}

static cl_context fake_clCreateContextFromType(const cl_context_properties *properties, cl_bitfield type, cl_notify notify, void *user, cl_int *error)
{
    cl_device_id found[ALL_DEVICES];
    cl_uint count = 0;
    cl_int code = fake_begin("clCreateContextFromType");
    code = code == CL_SUCCESS ? fake_clGetDeviceIDs(&platforms[0], type, ALL_DEVICES, found, &count) : code;
    return code == CL_SUCCESS ? fake_clCreateContext(properties, count, found, notify, user, error) : fake_tell(error, code);
}

static cl_int fake_clReleaseContext(cl_context context)
{
    if (atomic_fetch_sub(&context->references, 1) == 1) {
        fake_count_living(-1);
        free(context);
    }
    return fake_begin("clReleaseContext");
}

static cl_int fake_clGetContextInfo(cl_context context, cl_uint what, size_t room, void *value, size_t *bytes)
{
    cl_int error = fake_begin("clGetContextInfo");
    bool is_known = error == CL_SUCCESS && what == CL_CONTEXT_DEVICES;
    return is_known ? fake_give(context->devices, context->count * sizeof context->devices[0], room, value, bytes) : CL_INVALID_VALUE;
}

/* --- The table ---------------------------------------------------------------------------------------------------------- */

static struct fake_table whole_table;

static void make_table(void)
{
    struct fake_table *table = &whole_table;
    FAKE_PUT(clGetPlatformIDs)
    FAKE_PUT(clGetPlatformInfo)
    FAKE_PUT(clGetDeviceIDs)
    FAKE_PUT(clGetDeviceInfo)
    FAKE_PUT_OWN(clCreateSubDevices)
    FAKE_PUT(clCreateContext)
    FAKE_PUT(clCreateContextFromType)
    FAKE_PUT_OWN(clReleaseContext)
    FAKE_PUT(clGetContextInfo)
    fake_put_memory(table);
    fake_put_work(table);
}

const struct fake_table *fake_target(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_table);
    return &whole_table;
}
